"""Measure the server on simulated devices: ``python -m benchmarks.wallclock [PART …]``.

Parts: goodput (with the bar of 0.90 of the simulated one), overload (with recovery, memory and
honesty), neighbours (one queue and eight), profile. Overload and profile need the goodput of their
setting and find it with a short search of their own.

Everything shares the cores of one machine. Calls that end CANCELLED without a reason were turned
away by gRPC's own code, because the server's Python did not come to them: the host was too slow for
the load, and the run tells about it. ``--scale`` slows devices and arrivals so that it is not.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import machine
from benchmarks.command import add_results, end_on_sigterm
from benchmarks.process import BenchmarkError
from benchmarks.simulation.bounds import staggered
from benchmarks.wallclock.goodput import BAR, Bracket, Step, measure_goodput, search
from benchmarks.wallclock.overhead import profile_server
from benchmarks.wallclock.overload import FACTORS, measure_overload
from benchmarks.wallclock.plots import plot_overload
from benchmarks.wallclock.rig import Rig
from benchmarks.wallclock.scenes import QUICK, eight_models, slowed
from benchmarks.wallclock.tenants import measure_neighbours
from benchmarks.wallclock.virtual import simulated_goodput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.simulation.settings import Setting

CAPACITY_SHARE: Final = 0.9
"""Of the staggered capacity: what stands for the goodput where it only sets the tenants' shares."""
SLOWED_COUNT: Final = 10_500
"""Calls of a search where everything takes ten times as long: fifteen SLOs at the peak."""
NARROW: Final = Bracket(0.85, 1.02, 3)
"""Of the simulated goodput: for a peak that other figures are held against, to 2 %."""


class _Found:
    """Takes what the parts find: says it, keeps it, and notes whether a bar was missed."""

    def __init__(self, results: Path | None) -> None:
        self._results = results
        self._facts = machine.describe()
        self.missed = False
        if results is not None:
            results.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, text: str, document: object, *, missed: bool) -> None:
        print(f"## {name}\n\n{text}\n", flush=True)
        self.missed |= missed
        if self._results is not None and document is not None:
            file = self._results / f"wallclock_{name}.json"
            file.write_text(json.dumps({**self._facts, name: document}, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; return 1 when a bar was missed."""
    options = _parser().parse_args(arguments)
    end_on_sigterm()
    names = options.parts or list(PARTS)
    if unknown := set(names) - set(PARTS):
        print(f"no part {min(unknown)!r}; there are {', '.join(PARTS)}")
        return 2
    found = _Found(options.results)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                PARTS[name](options, Path(folder), found)
            except BenchmarkError as error:
                print(f"## {name}: failed\n\n{error}\n", file=sys.stderr)
                found.missed = True
    return int(found.missed)


def _goodput(options: argparse.Namespace, folder: Path, found: _Found) -> None:
    setting = dataclasses.replace(QUICK, seeds=tuple(range(1, options.seeds + 1)))
    with Rig(setting, folder, options.noise) as rig:
        goodput = measure_goodput(rig, options.noise)
    found.add("goodput", goodput.to_text(), goodput.to_json(), missed=goodput.ratio < BAR)


def _overload(options: argparse.Namespace, folder: Path, found: _Found) -> None:
    setting = _slowed(QUICK, options)
    with Rig(setting, folder, options.noise) as rig:
        overload = measure_overload(rig, _peak(rig, options), options.factors)
    found.add("overload", overload.to_text(), overload.to_json(), missed=overload.missed)
    if options.results:
        plot_overload(overload, options.results / "wallclock_overload.png")


def _neighbours(options: argparse.Namespace, folder: Path, found: _Found) -> None:
    texts, documents, missed = [], [], False
    for number, setting in enumerate((QUICK, eight_models(QUICK))):
        part = folder / str(number)
        part.mkdir()
        # Twice as slow again: 10.5 times the peak is offered, and what the host's Python refuses
        # for want of a core says nothing about fairness.
        slow = slowed(setting, 2 * options.scale)
        with Rig(slow, part, options.noise) as rig:
            capacity = staggered(slow)
            seen = measure_neighbours(rig, CAPACITY_SHARE * capacity)
        texts.append(seen.to_text())
        documents.append(seen.to_json())
        missed |= seen.missed
    found.add("neighbours", "\n".join(texts), documents, missed=missed)


def _profile(options: argparse.Namespace, folder: Path, found: _Found) -> None:
    with Rig(QUICK, folder, options.noise) as rig:
        text = profile_server(rig, _peak(rig, options), folder, native=options.native)
    found.add("profile", text, None, missed=False)


PARTS: Final[dict[str, Callable[[argparse.Namespace, Path, _Found], None]]] = {
    "goodput": _goodput,
    "overload": _overload,
    "neighbours": _neighbours,
    "profile": _profile,
}


def _slowed(setting: Setting, options: argparse.Namespace) -> Setting:
    return dataclasses.replace(slowed(setting, options.scale), count=SLOWED_COUNT, seeds=(1,))


def _peak(rig: Rig, options: argparse.Namespace) -> float:
    """Return the goodput of a rig's setting, searched for with its first seed."""
    if options.peak:
        return float(options.peak)
    first = dataclasses.replace(rig.setting, seeds=rig.setting.seeds[:1])
    steps: list[Step] = []
    rate = search(rig, first.seeds[0], simulated_goodput(first, options.noise), steps, NARROW)
    if not rate:
        msg = f"no rate of {rig.setting.name} has 99 % in time"
        raise BenchmarkError(msg)
    return rate


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.wallclock",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seeds", type=int, default=3, help="of goodput")
    parser.add_argument(
        "--noise", type=float, default=0.0, help="relative standard deviation of device times"
    )
    parser.add_argument(
        "--scale", type=float, default=10.0, help="how much slower overload and neighbours run"
    )
    parser.add_argument(
        "--factors", type=float, nargs="+", default=FACTORS, help="loads of overload, of the peak"
    )
    parser.add_argument(
        "--peak", type=float, help="goodput of the setting, where it is known: spares a search"
    )
    parser.add_argument(
        "--native",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="native frames in profile",
    )
    add_results(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
