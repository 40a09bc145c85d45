"""``jitney profile``: how long a model takes for batches of each size, and what follows."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jitney.cli.numbers import count, positive
from jitney.cli.table import amount, table
from jitney.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jitney.cli.advice import Advice
    from jitney.cli.sweep import Swept
    from jitney.load_options import LoadOptions

__all__ = ["add_parser", "describe", "run", "to_json"]

SWEEP_SECONDS: Final = 30.0
"""Longer than a server's start takes for it: here the figures are what is wanted."""
EPILOG = """\
The model is loaded as the server would load it, in a worker process of its own, and its code runs:
profile only what you trust. Do it while nothing else uses the device.

examples:
  jitney profile digits --model-repository models/repository
  jitney profile models/repository/digits/1/model.pt --slo-ms 50 --plot digits.png
  jitney profile digits --device cuda:0 --max-batch-size 256 --json
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "profile",
        help="measure how long a model takes, by batch size",
        description="Measure latency, throughput and memory of a model for batches of each size, "
        "and tell\nwhich batch limit follows. No server is needed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a name in the repository, a model's folder, or a .pt file"
    )
    parser.add_argument(
        "--slo-ms",
        type=_milliseconds,
        default=0.0,
        metavar="MS",
        help="what is promised to callers; tells the batch size for it",
    )
    parser.add_argument(
        "--devices",
        type=count,
        default=1,
        metavar="N",
        help="how many devices are to serve it, for --slo-ms (default 1)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture (.png, .svg)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the server's settings file")
    for flag, path, metavar, help_ in (
        ("--model-repository", "repository.model_repository", "DIR", "where names are looked up"),
        (
            "--device",
            "devices.device",
            "DEVICE",
            "where to measure: the first of auto, cpu, cuda:1",
        ),
        ("--cpu-threads", "devices.cpu_threads", "N", "threads of the CPU"),
    ):
        options: dict[str, Any] = {"action": "append"} if metavar == "DIR" else {}
        text = f"{help_} (as for jitney serve)"
        parser.add_argument(
            flag, dest=path, default=argparse.SUPPRESS, metavar=metavar, help=text, **options
        )
    parser.add_argument(
        "--max-batch-size",
        type=count,
        metavar="ROWS",
        help="measure up to so many rows (default: the model's own limit)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print what was found."""
    # Loading the server's parts takes a moment that no other command should wait for.
    from jitney.cli.advice import advise  # noqa: PLC0415
    from jitney.cli.sweep import sweep  # noqa: PLC0415

    if arguments.plot is not None:
        from jitney.cli.plot import require_plots, save_plot  # noqa: PLC0415

        require_plots(arguments.plot)
    given = {path: value for path, value in vars(arguments).items() if "." in path}
    settings = load_settings(given, os.environ, arguments.config)
    slo = arguments.slo_ms / 1e3

    def tune(options: LoadOptions) -> LoadOptions:
        rows = arguments.max_batch_size or options.max_batch_size
        return dataclasses.replace(
            options,
            max_batch_size=rows,
            sweep_seconds=max(SWEEP_SECONDS, options.sweep_seconds),
            default_slo_seconds=slo or options.default_slo_seconds,
        )

    def say(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    swept = asyncio.run(sweep(arguments.model, settings, os.environ, say, tune))
    found = [(one, advise(one.report.latency, slo=slo, devices=arguments.devices)) for one in swept]
    if arguments.json:
        json.dump([to_json(one, advice) for one, advice in found], sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        for one, advice in found:
            sys.stdout.writelines(f"{line}\n" for line in describe(one, advice))
    if arguments.plot is not None:
        save_plot(swept, found[-1][1], arguments.plot)
        say(f"{arguments.plot} written")
    return 0


def describe(one: Swept, advice: Advice) -> Iterator[str]:
    """Yield the lines of a report for a person."""
    report = one.report
    profile = report.latency
    yield f"{one.ref} on {one.device} ({one.description}), {report.form} form"
    yield ""
    peaks = report.peak_bytes or (0,) * len(profile.sizes)
    cells = []
    for rows, seconds, spread, peak in zip(
        profile.sizes, profile.seconds, profile.spread, peaks, strict=True
    ):
        rate = rows / seconds
        share = f"{100 * rate / advice.throughput:.0f}%"
        memory = amount(peak) if peak else "-"
        cells.append(
            (
                str(rows),
                f"{1e3 * seconds:.4g}",
                f"{100 * spread:.1f}%",
                f"{rate:.5g}",
                share,
                memory,
            )
        )
    yield from table(("ROWS", "MS", "SPREAD", "ROWS/S", "OF BEST", "MEMORY"), cells)
    yield ""
    yield f"line         {1e3 * advice.alpha:.4g} ms per row + {1e3 * advice.beta:.4g} ms per batch"
    yield f"batch limit  {_limit(one, advice)}"
    if advice.target is not None:
        yield f"for {1e3 * advice.slo:g} ms".ljust(13) + _target(one, advice)
    buckets = ", ".join(map(str, advice.buckets))
    yield f"buckets      {buckets or 'none: batches run at their own size on this device'}"


def _limit(one: Swept, advice: Advice) -> str:
    if not one.report.max_batch_size:
        return "the model has no batch dimension"
    text = f"{advice.limit} rows have 90 % of the best throughput"
    if advice.rising:
        largest = one.report.latency.sizes[-1]
        return f"{text}, which still rises at {largest}: try --max-batch-size {2 * largest}"
    return text


def _target(one: Swept, advice: Advice) -> str:
    devices = f"{advice.devices} device{'s' if advice.devices > 1 else ''}"
    if not advice.target:
        smallest = 1e3 * one.report.latency.seconds[0]
        return f"too short on {devices}: one row alone takes {smallest:.4g} ms, waiting excluded"
    largest = advice.target == one.report.latency.sizes[-1]
    return f"{advice.target} rows on {devices}, {advice.target_throughput:.5g} rows/s" + (
        ", as many as were measured" if largest else ""
    )


def to_json(one: Swept, advice: Advice) -> dict[str, Any]:
    """Return the same for a program: seconds, bytes and rows."""
    report = one.report.to_json()
    return {
        "model": one.ref.name,
        "version": one.ref.version,
        "device": one.device,
        "description": one.description,
        **{key: report[key] for key in ("form", "max_batch_size", "latency", "peak_bytes")},
        "memory_bytes": report["memory_bytes"],
        "advice": dataclasses.asdict(advice),
    }


def _milliseconds(text: str) -> float:
    return positive(text, "milliseconds")
