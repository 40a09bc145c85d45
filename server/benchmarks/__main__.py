"""Run benchmarks: ``python -m benchmarks [NAME …]``, or ``python -m benchmarks profile``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import client, correctness, dropin, machine, models, stages, suite
from benchmarks.command import add_results, end_on_sigterm
from benchmarks.comparison import Effort
from benchmarks.process import BenchmarkError
from benchmarks.profiling import profile
from benchmarks.stage import Stage
from benchmarks.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.comparison import Report

SPEED: Final[dict[str, Callable[[Stage], Report]]] = {
    "transport": suite.transport,
    "batching": suite.batching,
    "latency": suite.latency,
    "large": suite.large,
    "dropin": dropin.public_client,
    "client_shm": dropin.shared_memory,
    "client": client.overhead,
    "client_stream": client.streams,
}
CORRECTNESS: Final = "correctness"
STAGES: Final = "stages"
NAMES: Final = (*SPEED, STAGES, CORRECTNESS)
COUNT: Final = 200_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; return 1 when a bar was missed or an answer was wrong."""
    options = _parser().parse_args(arguments)
    end_on_sigterm()
    effort = Effort(options.rounds, options.seconds)
    names = options.names or NAMES
    if names[0] == "profile":
        with tempfile.TemporaryDirectory() as folder, Stage(Path(folder), effort) as stage:
            print(profile(stage, options.callers, native=options.native))
        return 0
    if unknown := set(names) - {*NAMES}:
        print(f"no benchmark {min(unknown)!r}; there are {', '.join(NAMES)}")
        return 2
    missed = False
    for name in names:
        with tempfile.TemporaryDirectory() as folder, Stage(Path(folder), effort) as stage:
            facts = machine.describe()
            try:
                missed |= _run(name, stage, facts, options)
            except BenchmarkError as error:
                print(f"## {name}: failed\n\n{error}\n", file=sys.stderr)
                missed = True
    return int(missed)


def _run(name: str, stage: Stage, facts: dict[str, object], options: argparse.Namespace) -> bool:
    if name == CORRECTNESS:
        server = stage.server(models.build_identities(stage.folder / "repository"))
        traffic = Traffic(count=options.count, seed=options.seed)
        outcome = asyncio.run(correctness.run(server.address, server.metrics_url, traffic))
        text, document, missed = outcome.to_text(), outcome.to_json(), bool(outcome.problems)
    elif name == STAGES:
        graph = stage.folder / "stages.svg" if options.results is None else _graph(options.results)
        text, document, missed = *stages.measure(stage, options.callers, graph), False
    else:
        report = SPEED[name](stage)
        report.facts |= stage.effort._asdict()
        text, document, missed = report.to_text(), report.to_json(), report.missed
    print(_heading(facts), text, sep="\n", flush=True)
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        file = options.results / f"{name}.json"
        file.write_text(json.dumps({**facts, **document}, indent=1) + "\n")
    return missed


def _graph(results: Path) -> Path:
    results.mkdir(parents=True, exist_ok=True)
    return results / f"{STAGES}.svg"


def _heading(facts: dict[str, object]) -> str:
    machine_facts, versions = facts["machine"], facts["versions"]
    assert isinstance(machine_facts, dict)  # machine.describe
    assert isinstance(versions, dict)  # machine.describe
    words = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{machine_facts['cpu']}, {machine_facts['cores']} cores, "
        f"load {machine_facts['load_before']}; {words}; commit {facts['commit']}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(NAMES)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {names}; or profile")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of every side")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of each round")
    parser.add_argument("--count", type=int, default=COUNT, help="requests of correctness")
    parser.add_argument("--seed", type=int, default=7, help="of correctness")
    parser.add_argument(
        "--native",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="native frames in profile: gRPC's own and the system calls",
    )
    parser.add_argument(
        "--callers",
        choices=tuple(suite.KINDS),
        default=suite.AIO,
        help="callers of profile and stages",
    )
    add_results(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
