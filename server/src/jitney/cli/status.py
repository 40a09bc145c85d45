"""``jitney status``: what a server says about itself, its devices and its models."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from jitney.cli import connection
from jitney.cli.model_status import notes_on, rows_of
from jitney.cli.table import amount, duration, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jitney_client.protocol import inference, jitney_v1

__all__ = ["add_parser", "describe", "describe_index", "run"]

EPILOG = """\
examples:
  jitney status
  jitney status digits                 more about one model: how long its batches take, and why
  jitney status --verbose              the same about all of them
  jitney status --json | jq '.models[] | select(.state != "READY")'
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "status",
        help="tell what a server serves, and how",
        description="Tell the models of a server with their states, devices and limits, and the "
        "devices with theirs.\nOf servers other than jitney, only the models' states.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", nargs="?", default="", metavar="MODEL", help="only this model")
    parser.add_argument("--verbose", action="store_true", help="as much as of one model, of all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    connection.add_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the status; return 0, whatever it is."""
    from google.protobuf import json_format  # noqa: PLC0415  # only commands that call need it

    from jitney_client import NotSupported  # noqa: PLC0415

    with connection.connect(arguments) as client:
        try:
            status = client.status(arguments.model)
        except NotSupported:  # another server of the protocol
            models = [m for m in client.models() if arguments.model in ("", m.name)]
            lines = describe_index(models)
            messages = {"models": [json_format.MessageToDict(model) for model in models]}
        else:
            lines = describe(
                status, arguments.address, details=arguments.verbose or bool(arguments.model)
            )
            messages = json_format.MessageToDict(
                status,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
    if arguments.json:
        json.dump(messages, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def describe(
    status: jitney_v1.ServerStatus, address: str, *, details: bool = False
) -> Iterator[str]:
    """Yield the lines of a jitney's status; ``details`` adds what is long, by model."""
    yield (
        f"jitney {status.version} at {address}, up {duration(status.uptime_seconds)}, "
        f"transport {status.transport}, {status.inflight_requests} requests in flight "
        f"({amount(status.inflight_bytes)})"
    )
    if status.HasField("scheduler"):  # older servers do not tell
        yield _load(status.scheduler)
    yield ""
    yield from table(
        ("DEVICE", "STATE", "BUSY", "RESTARTS", "MEMORY", "WHAT"),
        [
            (
                device.name,
                device.state,
                f"{device.busy_ratio:.0%}",
                str(device.restarts),
                ", ".join(f"{k} {amount(v)}" for k, v in sorted(device.memory_bytes.items())),
                device.reason or device.description,
            )
            for device in status.devices
        ],
    )
    yield ""
    if not status.models:
        yield "no models"
        return
    yield from table(
        ("MODEL", "VERSION", "STATE", "BATCH", "QUEUED", "DEVICE", "FORM", "LOADED IN", "PLANNED"),
        [row for model in status.models for row in rows_of(model)],
    )
    for model in status.models:
        yield from notes_on(model, details=details)


def _load(scheduler: jitney_v1.SchedulerStatus) -> str:
    much = " (too much)" if scheduler.tight else ""
    return (
        f"scheduler: load {scheduler.utilisation:.2f}{much}, price {scheduler.pressure:.2f}, "
        f"{scheduler.queued_requests} requests wait ({scheduler.queued_rows} rows), "
        f"{scheduler.running_batches} batches run, {scheduler.staged_batches} staged"
    )


def describe_index(
    models: Sequence[inference.RepositoryIndexResponse.ModelIndex],
) -> Iterator[str]:
    """Yield the lines of a repository's index."""
    if not models:
        yield "no models"
    yield from table(
        ("MODEL", "VERSION", "STATE", "REASON"),
        [(model.name, model.version, model.state, model.reason) for model in models],
    )
