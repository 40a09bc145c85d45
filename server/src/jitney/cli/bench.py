"""``jitney bench``: how a model does under load, and how much of it it can take."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jitney.cli import connection
from jitney.cli.failure import CommandError
from jitney.cli.numbers import count, positive
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from jitney.cli.bench_progress import ToldBench
    from jitney.loadgen.point import Point
    from jitney.loadgen.search import Found

__all__ = ["add_parser", "run"]

TENANT_KEY: Final = "x-tenant"
FACTORS: Final = (0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
EPILOG = """\
Give one of --rate, --search and --concurrency.

A rate is an open loop: all send times are drawn before the run, a call leaves at its time whatever
has come back, and its latency counts from that time. A concurrency is a closed loop, which slows
down with the server: good for throughput, blind to what callers wait when there are too many.

examples:
  jitney bench digits --rate 200,400,800 --slo-ms 50
  jitney bench digits --search --slo-ms 50 --overload --report digits.html
  jitney bench minilm --search --slo-ms 200 --shape input_ids=32 --shape attention_mask=32 \\
                      --range input_ids=0..30521 --range attention_mask=1..1
  jitney bench resnet18 --concurrency 1,4,16
  jitney bench digits --rate 500 --slo-ms 50 --arrivals gamma --tenants a=3,b=1
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "bench",
        help="measure a served model under load",
        description="Send load to a model of a running server, check every answer, and tell "
        "latencies\nand how many calls came in time.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    parser.add_argument("--version", default="", metavar="N", help="its version (server's choice)")
    _add_load_flags(parser.add_argument_group("load"))
    _add_input_flags(parser.add_argument_group("inputs and answers"))
    _add_caller_flags(parser.add_argument_group("callers"))
    group = parser.add_argument_group("results")
    group.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    group.add_argument(
        "--report", type=Path, metavar="FILE", help="write a page for people (.html), with plots"
    )
    connection.add_flags(parser)
    parser.set_defaults(run=run)


def _add_load_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--rate", type=_numbers, metavar="R,…", help="calls per second; a run for each"
    )
    group.add_argument(
        "--search",
        action="store_true",
        help="find the highest rate that has 99 %% in time, proven by MLPerf's early stopping",
    )
    group.add_argument(
        "--concurrency", type=_counts, metavar="N,…", help="calls at once; a run for each"
    )
    group.add_argument(
        "--slo-ms", type=positive, metavar="MS", help="what is in time, from the scheduled moment"
    )
    group.add_argument(
        "--duration",
        type=positive,
        default=10.0,
        metavar="SECONDS",
        help="how long calls count in a run (default 10; longer for a search at low rates)",
    )
    group.add_argument(
        "--overload",
        action="store_true",
        help="then run at 0.5 to 10 times the rate that was found",
    )
    group.add_argument(
        "--start", type=positive, metavar="R", help="where the search begins (found out otherwise)"
    )
    group.add_argument(
        "--arrivals",
        default="poisson",
        metavar="KIND|FILE",
        help="poisson (default), gamma, mmpp, or a trace: CSV with the column 'seconds'",
    )
    group.add_argument(
        "--cv", type=positive, default=4.0, metavar="CV", help="burstiness of gamma (default 4)"
    )
    group.add_argument(
        "--seeds", type=count, default=1, metavar="N", help="searches; their median counts"
    )


def _add_input_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--inputs",
        default="random",
        metavar="random|zeros|FILE",
        help="made up from the metadata, or an .npz; outputs in it are expected as they are",
    )
    group.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=D,…",
        help="dimensions of one row of an input, where they vary (default 16); repeated",
    )
    group.add_argument(
        "--range",
        action="append",
        default=[],
        dest="ranges",
        metavar="NAME=A..B",
        help="what random values lie between (default 0..1); repeated",
    )
    group.add_argument(
        "--rows", type=count, default=1, metavar="N", help="rows of a call (default 1)"
    )
    group.add_argument(
        "--tolerance",
        type=positive,
        default=1e-3,
        metavar="SHARE",
        help="what floating-point answers may differ by, of their largest value (default 0.001)",
    )
    group.add_argument("--no-check", action="store_true", help="do not look at the answers")


def _add_caller_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--tenants", default="", metavar="A=W,…", help="tenants and their shares of the calls"
    )
    group.add_argument(
        "--tenant-metadata-key",
        default=TENANT_KEY,
        metavar="KEY",
        help=f"where the server looks for the tenant (default {TENANT_KEY})",
    )
    group.add_argument(
        "--priorities", default="", metavar="P=W,…", help="priorities, 1 the highest, and shares"
    )
    group.add_argument(
        "--deadline-ms",
        type=float,
        metavar="MS",
        help="what calls tell the server (default the SLO; 0 tells nothing)",
    )
    group.add_argument(
        "--connections", type=count, default=8, metavar="N", help="to the server (default 8)"
    )
    group.add_argument(
        "--processes", type=count, default=1, metavar="N", help="that make the load (default 1)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for; return 1 where figures are worth nothing."""
    _check(arguments)
    # numpy and more, after the command line is right.
    from jitney.cli import bench_setup  # noqa: PLC0415
    from jitney.cli.bench_progress import Progress, ToldBench  # noqa: PLC0415
    from jitney.cli.bench_text import describe  # noqa: PLC0415
    from jitney.loadgen import document, mix  # noqa: PLC0415
    from jitney.loadgen.bench import Bench  # noqa: PLC0415
    from jitney.loadgen.crew import Crew, LoadError  # noqa: PLC0415

    callers = mix.callers(arguments.tenants, arguments.priorities)
    load = bench_setup.load_of(arguments)
    progress = Progress(sys.stderr)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connection.connect(arguments))
        metadata = client.metadata(arguments.model, version=arguments.version)
        calls = bench_setup.make_calls(arguments, client, metadata)
        target = bench_setup.target_of(arguments, metadata)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jitney-bench-")))
        stack.callback(progress.clear)
        try:
            crew = stack.enter_context(Crew(arguments.processes))
            bench = Bench(crew, client, folder, target, load, calls, callers, progress.counts)
            if bench.note:
                progress.say(f"answers are not checked: {bench.note}")
            told = ToldBench(bench, progress)
            points, found, overload = _measure(arguments, told, 1 / bench.alone)
        except LoadError as error:
            raise CommandError(str(error)) from None
    setup = bench_setup.setup_of(arguments, load, bench, calls)
    results = document.make(setup, points, found, overload)
    sys.stdout.writelines(f"{line}\n" for line in describe(results))
    _write(arguments, results)
    everything = [*points, *(point for _, point in overload)]
    # A search may try what the generator cannot do, and says so where that is the limit.
    return int(any(point.wrong or (point.fault and found is None) for point in everything))


def _measure(
    arguments: argparse.Namespace, bench: ToldBench, start: float
) -> tuple[list[Point], Found | None, list[tuple[float, Point]]]:
    """Return all runs, the search's result, and the runs of the overload with their factors."""
    if arguments.concurrency:
        return [bench.at_concurrency(number) for number in arguments.concurrency], None, []
    if arguments.rate:
        return [bench.at_rate(rate, 1) for rate in arguments.rate], None, []
    from jitney.loadgen.search import search_all  # noqa: PLC0415

    # One call after the other is what any server can take, if the deadline allows it at all.
    found = search_all(bench, arguments.start or start / 2, arguments.seeds)
    overload = []
    if arguments.overload and found.rate:
        overload = [(factor, bench.at_rate(factor * found.rate, 1)) for factor in FACTORS]
    return [point for one in found.searches for point in one.points], found, overload


def _check(arguments: argparse.Namespace) -> None:
    """Refuse flags that contradict each other.

    :raises ConfigError: naming them.
    """
    modes = {
        "--rate": arguments.rate,
        "--search": arguments.search,
        "--concurrency": arguments.concurrency,
    }
    given = [flag for flag, value in modes.items() if value]
    if len(given) != 1:
        msg = f"give one of {', '.join(modes)}; got {' and '.join(given) or 'none'}"
        raise ConfigError(msg)
    if arguments.slo_ms is None and not arguments.concurrency:
        msg = f"{given[0]} needs --slo-ms: without it nothing is late"
        raise ConfigError(msg)
    if arguments.overload and not arguments.search:
        msg = "--overload needs --search: it is in multiples of the rate that is found"
        raise ConfigError(msg)
    if arguments.deadline_ms is not None and not 0 <= arguments.deadline_ms < math.inf:
        msg = f"--deadline-ms: expected milliseconds, got {arguments.deadline_ms:g}"
        raise ConfigError(msg)
    if arguments.processes > arguments.connections:
        msg = "--processes: each needs a connection of its own; give more --connections"
        raise ConfigError(msg)
    for flag, file in (("--json", arguments.json), ("--report", arguments.report)):
        # Before minutes are spent on measuring.
        if file is not None and not file.absolute().parent.is_dir():
            msg = f"{flag} {file}: there is no such folder"
            raise ConfigError(msg)


def _write(arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    if arguments.json is not None:
        _write_text(arguments.json, json.dumps(results, indent=1) + "\n")
    if arguments.report is not None:
        from jitney.loadgen.report import page  # noqa: PLC0415  # plots

        _write_text(arguments.report, page(results))


def _write_text(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"{file}: cannot be written ({error.strerror})"
        raise CommandError(msg) from None
    sys.stderr.write(f"{file} written\n")


def _numbers(text: str) -> list[float]:
    return [positive(part) for part in text.split(",")]


def _counts(text: str) -> list[int]:
    return [count(part) for part in text.split(",")]
