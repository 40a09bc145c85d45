"""Simulate: ``python -m benchmarks.simulation [PART …]``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks import machine
from benchmarks.command import add_results
from benchmarks.simulation import (
    conditions,
    fairness,
    fractions,
    jobs,
    light,
    overload,
    plots,
    priorities,
    singles,
)
from benchmarks.simulation.arrivals import Arrivals
from benchmarks.simulation.settings import SETTINGS, SINGLE, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.simulation.jobs import Job, Record

NAME: Final = "simulation"
CASES: Final = ("S1", "S2", "S3", "S4", "S5")
"""Settings of the fairness and priority cases: one queue and several, few devices and many."""
QUICK_COUNT: Final = 4000
QUICK_STEPS: Final = 7
QUICK_SETTINGS: Final = ("S1", "S2", "S4", "P25")


class Part(NamedTuple):
    """Something that is simulated: what to run, and what to print of it."""

    title: str
    settings: tuple[Setting, ...]
    jobs: Callable[[Sequence[Setting]], list[Job]]
    text: Callable[[Sequence[Record], Sequence[Setting]], str]


def _some(names: Sequence[str]) -> tuple[Setting, ...]:
    return tuple(setting for setting in SETTINGS if setting.name in names)


PARTS: Final[dict[str, Part]] = {
    "goodput": Part(
        "goodput / clairvoyant bound, 99 % in SLO, refusals are misses",
        SETTINGS,
        fractions.jobs,
        fractions.text,
    ),
    "optimum": Part("goodput / exact optimum, one device", SINGLE, singles.jobs, singles.text),
    "overload": Part(
        "answers in time / staggered capacity, by offered load",
        SETTINGS,
        overload.jobs,
        overload.text,
    ),
    "fairness": Part(
        "a quiet tenant beside a noisy one, and alone",
        _some(CASES),
        fairness.jobs,
        lambda records, _: fairness.text(records),
    ),
    "priorities": Part(
        "shares in time by class; and low ones without deadline among high ones",
        _some(CASES),
        priorities.jobs,
        lambda records, _: priorities.text(records),
    ),
    "conditions": Part(
        "what jitter, padding and mixed SLOs cost",
        _some([f"S{i}" for i in range(1, 8)]),
        conditions.jobs,
        conditions.text,
    ),
    "light": Part("30 % load", SETTINGS, light.jobs, lambda records, _: light.text(records)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that the command line names, all if it names none."""
    parser = _parser()
    options = parser.parse_args(arguments)
    names = options.parts or list(PARTS)
    for word, wanted, known in (
        ("part", names, PARTS),
        ("setting", options.settings, [setting.name for setting in (*SETTINGS, *SINGLE)]),
        ("policy", options.policies, fractions.NAMES),
    ):
        if unknown := set(wanted) - set(known):
            parser.error(f"no {word} {min(unknown)!r}; there are {', '.join(known)}")
    document = machine.describe() | {"benchmark": NAME, "quick": options.quick, "parts": {}}
    began = time.monotonic()
    records: dict[str, list[Record]] = {}
    chosen = {name: _chosen(PARTS[name].settings, options) for name in names}
    # One pool for all parts, so that no core waits for the last run of each.
    work = {
        name: [job for job in PARTS[name].jobs(chosen[name]) if _is_wanted(job, options)]
        for name in names
    }
    done = iter(jobs.run([job for some in work.values() for job in some], options.processes))
    for name in names:
        records[name] = [next(done) for _ in work[name]]
        text = (
            PARTS[name].text(records[name], chosen[name]) if records[name] else "(nothing to run)"
        )
        print(f"## {name}: {PARTS[name].title}\n\n{text}\n", flush=True)
    document["seconds"] = round(time.monotonic() - began, 1)
    document["parts"] = records
    print(f"{document['seconds']:.0f} s with {options.processes} processes")
    if options.results:
        _keep(options.results, document, records)
    return 0


def _chosen(settings: Sequence[Setting], options: argparse.Namespace) -> list[Setting]:
    """Return the settings as the command line wants them."""
    chosen = []
    for setting in settings:
        if options.settings and setting.name not in options.settings:
            continue
        if options.quick and not options.settings and setting.name not in QUICK_SETTINGS:
            continue
        if options.seeds:
            setting = replace(setting, seeds=tuple(options.seeds))  # noqa: PLW2901  # as wanted
        if options.quick:
            steps = min(QUICK_STEPS, setting.steps)
            setting = replace(  # noqa: PLW2901
                setting, seeds=setting.seeds[:1], count=QUICK_COUNT, steps=steps
            )
        if options.trace and setting.arrivals is Arrivals.REPLAYED:
            setting = replace(setting, trace=options.trace)  # noqa: PLW2901
        chosen.append(setting)
    return chosen


def _is_wanted(job: Job, options: argparse.Namespace) -> bool:
    return not options.policies or not job.policy or job.policy in options.policies


def _keep(folder: Path, document: dict[str, object], records: dict[str, list[Record]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}.json").write_text(json.dumps(document, indent=1) + "\n")
    try:
        if records.get("goodput"):
            plots.draw_goodput(records["goodput"], folder / f"{NAME}-goodput.png")
        if records.get("overload"):
            plots.draw_overload(records["overload"], folder / f"{NAME}-overload.png")
    except plots.NoPlots as error:
        print(error, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--settings", nargs="+", default=[], metavar="NAME", help="only these, such as S1"
    )
    parser.add_argument(
        "--policies", nargs="+", default=[], metavar="NAME", help="only these, such as jitney"
    )
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="instead of 1 and 2")
    parser.add_argument("--quick", action="store_true", help="few settings, short traces")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="replayed in setting R3")
    parser.add_argument(
        "--processes", type=int, default=max(1, len(os.sched_getaffinity(0))), metavar="N"
    )
    add_results(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
