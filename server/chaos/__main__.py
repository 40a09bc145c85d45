"""Run scenarios: ``python -m chaos [NAME …]``; without names, all of the group ``faults``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import machine
from benchmarks.command import end_on_sigterm

from chaos.arena import Arena
from chaos.catalogue import SCENARIOS
from chaos.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chaos.scenario import Scenario

__all__ = ["control", "main", "perform"]

RESULTS: Final = Path(__file__).parent / "results"
NAMES: Final = {scenario.name: scenario for scenario in SCENARIOS}
GROUPS: Final = tuple(dict.fromkeys(scenario.group for scenario in SCENARIOS))


def perform(scenario: Scenario, parameters: Mapping[str, Any]) -> Verdict:
    """Run a scenario in a folder of its own; return what it found."""

    async def run() -> None:
        async with Arena(Path(folder)) as arena:
            await scenario.perform(arena, verdict, parameters)

    verdict = Verdict(scenario.name)
    began = time.monotonic()
    # A short path: sockets' names may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        asyncio.run(run())
    verdict.facts["seconds"] = round(time.monotonic() - began, 1)
    return verdict


def control(scenario: Scenario, parameters: Mapping[str, Any]) -> Verdict:
    """Run a scenario with its defence off; the one figure says whether the fault was found."""
    assert scenario.control is not None  # the caller's business
    off, figures = scenario.control
    found = perform(scenario, {**parameters, **off})
    missed = [figure.name for figure in found.missed if figure.name in figures]
    verdict = Verdict(f"{scenario.name} control")
    verdict.at_least(f"of {', '.join(figures)} missed", len(missed), 1)
    verdict.facts |= {"off": dict(off), "found": found.to_json()}
    return verdict


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; return 1 when a goal was missed."""
    options = _parser().parse_args(arguments)
    end_on_sigterm()
    words = options.names or ["faults"]
    if unknown := set(words) - {*NAMES, *GROUPS}:
        print(f"no scenario {min(unknown)!r}; there are {', '.join([*GROUPS, *NAMES])}")
        return 2
    chosen = [one for one in SCENARIOS if one.name in words or one.group in words]
    given = dict(map(_parameter, options.set))
    missed = False
    for scenario in chosen:
        size = scenario.short if options.short else scenario.long
        if size is None:
            continue
        wanted = {**size, **given}
        if options.controls and scenario.control is None:
            continue
        facts = machine.describe()
        verdict = (control if options.controls else perform)(scenario, wanted)
        print(verdict.to_text(), flush=True)
        missed |= bool(verdict.missed)
        if options.results:
            options.results.mkdir(parents=True, exist_ok=True)
            name = verdict.scenario.replace(" ", "_")
            file = options.results / f"{name}.json"
            file.write_text(json.dumps({**facts, **verdict.to_json()}, indent=1) + "\n")
    return int(missed)


def _parameter(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    names = ", ".join([*GROUPS, *NAMES])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {names}")
    parser.add_argument("--short", action="store_true", help="as small as the tests run them")
    parser.add_argument(
        "--controls", action="store_true", help="with defences off, where a fault must be found"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the scenarios, such as seconds=60; may be given again",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FOLDER", help="where results are kept"
    )
    where.add_argument(
        "--no-results", dest="results", action="store_const", const=None, help="keep none"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
