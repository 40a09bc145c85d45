"""``jitney status``: what a server says about itself, its devices and its models."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from jitney.cli import connection
from jitney.cli.table import amount, duration, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jitney_client.protocol import inference, jitney_v1

__all__ = ["add_parser", "describe", "describe_index", "run"]

EPILOG = """\
examples:
  jitney status
  jitney status digits                 more about one model
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
            lines = describe(status, arguments.address, details=bool(arguments.model))
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
    """Yield the lines of a jitney's status; ``details`` adds what only matters for one model."""
    yield (
        f"jitney {status.version} at {address}, up {duration(status.uptime_seconds)}, "
        f"transport {status.transport}, {status.inflight_requests} requests in flight "
        f"({amount(status.inflight_bytes)})"
    )
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
        ("MODEL", "VERSION", "STATE", "BATCH", "QUEUED", "DEVICE", "FORM", "LOADED IN"),
        [row for model in status.models for row in _model_rows(model)],
    )
    for model in status.models:
        if notes := list(_notes(model, details=details)):
            yield ""
            yield from table((f"{model.name}/{_version(model.version)}", ""), notes)


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


def _model_rows(model: jitney_v1.ModelStatus) -> Iterator[tuple[str, ...]]:
    batch = f"<= {model.max_batch_size}" if model.batched else "no"
    head: tuple[str, ...] = (
        model.name,
        _version(model.version),
        model.state,
        batch,
        str(model.queued_rows),
    )
    if not model.instances:
        yield (*head, "-", "-", "-")
    for instance in model.instances:
        yield (*head, instance.device, instance.form, duration(instance.load_seconds))
        head = ("",) * len(head)  # the copies of a version share its line's first half


def _notes(model: jitney_v1.ModelStatus, *, details: bool) -> Iterator[tuple[str, str]]:
    # A reason may hold a model.toml to copy, whose lines have to stay lines.
    for number, line in enumerate(model.reason.splitlines()):
        yield "" if number else "reason", line
    if details:
        for side, tensors in (("input", model.inputs), ("output", model.outputs)):
            for tensor in tensors:
                yield side, f"{tensor.name} {tensor.datatype} [{', '.join(tensor.shape)}]"
        yield "sha256", model.digest_sha256
    for instance in model.instances:
        where = f" ({instance.device})" if len(model.instances) > 1 else ""
        if instance.why:
            yield f"form{where}", f"{instance.form}: {instance.why}"
        if details:
            yield f"buckets{where}", ", ".join(map(str, instance.buckets))
            yield f"memory{where}", amount(instance.memory_bytes)
            error = f"{instance.golden_max_error:.3g}"
            yield f"samples{where}", f"{instance.golden_samples}, answered within {error}"
            yield f"repeatable{where}", "yes" if instance.deterministic else "no"
        for warning in instance.warnings:
            yield f"warning{where}", warning


def _version(version: int) -> str:
    """Return a version as people read it; a model without any has -1 on the wire."""
    return "-" if version < 0 else str(version)
