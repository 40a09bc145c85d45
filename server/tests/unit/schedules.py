"""Random schedules with faults, each from a seed, on a policy that is checked after every event.

python server/tests/unit/schedules.py --count 1000000 --from 0 --jobs 2
python server/tests/unit/schedules.py --seed 4711 --trace
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from policy_model import Ticket, World
from sums import check_sums

from jitney.latency_profile import LatencyProfile
from jitney.scheduling.batch import BatchKey, Mode, State
from jitney.scheduling.policy import PolicySettings
from jitney.testing import make_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.scheduling.batch import Batch

EVENTS = 24
START = 1024.0
"""Seconds; a number that is not 0, and shows if something takes 0 for "never"."""
MS = 2.0**-10
"""Seconds: about a millisecond, whose multiples by powers of two are exact."""
KINDS = (
    *("offer",) * 9,
    *("advance",) * 6,
    *("complete",) * 6,
    *("cancel",) * 2,
    *("fault", "model"),
)
BUCKETS = ((1, 2, 4, 8, 16), (1, 4, 16), (2, 6, 16), (8, 16))


@dataclass(frozen=True, slots=True)
class Truth:
    """How long a key's batches really take, and what was measured of that."""

    alpha: float
    beta: float
    sizes: tuple[int, ...]
    padded: bool
    wrong: float
    spread: float
    known: bool

    def seconds(self, rows: int) -> float:
        """Return the seconds of a batch on a device of usual speed."""
        if self.padded:
            rows = next((size for size in self.sizes if size >= rows), rows)
        return self.alpha * rows + self.beta

    def profile(self, speed: float) -> LatencyProfile | None:
        """Return what the sweep found on a device."""
        if not self.known:
            return None
        seconds = tuple(self.seconds(n) * self.wrong / speed for n in self.sizes)
        return LatencyProfile(self.sizes, seconds, (self.spread,) * len(self.sizes), self.padded)


class Schedule:
    """One seed's schedule; ``play`` runs it. All times start at ``start``, in units of ``unit``."""

    def __init__(
        self,
        seed: int,
        *,
        start: float = START,
        unit: float = 1.0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.chance = chance = random.Random(seed)  # noqa: S311  # a schedule, not a secret
        # What queues may have that most do not is drawn apart, for a schedule without any of it to
        # stay the one that it was.
        self.extra = random.Random(~seed)  # noqa: S311  # the same
        self.extras = self.extra.random() < 0.5
        self.tell = tell
        self.start, self.unit = start, unit
        self.ms = MS * unit
        self.tenants = chance.choice((("",), ("",), ("a", "b"), ("", "a", "b", "c")))
        self.settings = PolicySettings(
            max_overhead=chance.choice((1.0, 1.0, 0.5, 0.1)),
            tenant_weights=chance.choice(({}, {"a": 2.0, "b": 0.5})),
            least_spread=chance.choice((0.0, 0.01)),
        )
        self.world = World(self.settings, start, unit)
        self.speeds = {
            f"d{i}": chance.choice((1.0, 1.0, 1.0, 0.5, 0.25)) for i in range(chance.randint(1, 4))
        }
        self.truths: dict[str, Truth] = {}
        # Now and then more queues than the policy looks at.
        keys = 50 if chance.random() < 0.02 else chance.choice((1, 1, 2, 3, 4))
        self.keys = [self.draw_key() for _ in range(keys)]
        self.slos = [chance.choice((0.5, 1.5, 3.0, 8.0, 30.0)) for _ in range(2)]
        self.timed = chance.choice((1.0, 1.0, 0.7, 0.3, 0.0))
        self.classes = chance.choice(((1,), (1,), (0, 1, 2)))
        self.jitter = chance.choice((0.0, 0.05, 0.3))
        self.overhead = chance.choice((0.0, 0.1, 0.5)) * self.ms
        self.tickets: list[Ticket] = []

    # -- what there is --------------------------------------------------------------------------

    def draw_key(self) -> BatchKey:
        """Return a key of one of three models; the models of equal name share a truth."""
        chance, ms = self.chance, self.ms
        model = chance.choice("xyz")
        if model not in self.truths:
            padded = chance.random() < 0.4
            self.truths[model] = Truth(
                alpha=chance.choice((0.0, 0.05, 0.3, 1.0)) * ms,
                beta=chance.choice((0.1, 1.0, 5.0)) * ms,
                sizes=chance.choice(BUCKETS) if padded else (1, 2, 4, 8, 16),
                padded=padded,
                wrong=chance.choice((1.0, 1.0, 1.0, 2.0, 0.4)),
                spread=chance.choice((0.0, 0.0, 0.05)),
                known=chance.random() < 0.8,
            )
        max_rows = chance.choice((1, 3, 4, 8, 16))
        key = make_key(
            model,
            dims=(len(self.truths), chance.randint(1, 1000)),
            max_rows=max_rows,
            max_bytes=chance.choice((1 << 20, 1 << 20, 5 * max_rows)),
            max_delay=chance.choice((0.0, 0.0, 0.0, 2.0, 10.0)) * ms,
            max_queue_rows=chance.choice((1024, 1024, 2 * max_rows)),
            mode=chance.choice((Mode.LATENCY, Mode.LATENCY, Mode.LATENCY, Mode.EFFICIENCY)),
        )
        key = replace(key, varies=chance.random() < 0.2)
        return self.with_extras(key) if self.extras else key

    def with_extras(self, key: BatchKey) -> BatchKey:
        """Return a key that may have rows of its own for entries, and limits for classes."""
        extra = self.extra
        if extra.random() < 0.4:
            key = replace(key, fill=extra.choice(((b"",), (b"four",))), max_bytes=1 << 20)
        if extra.random() < 0.4:
            bounds = tuple(extra.choice((0, 1, key.max_rows)) for _ in range(3))
            key = replace(key, class_queue_rows=bounds)
        if extra.random() < 0.4:
            key = replace(key, delays_late=tuple(extra.random() < 0.7 for _ in range(3)))
        return key

    def free_row(self, key: BatchKey) -> int | None:
        """Return a row that no other entry has, or now and then any; None where there is none."""
        rows = range(key.max_rows)
        if self.extra.random() < 0.05:
            return self.extra.choice(rows)
        live = [ticket for ticket in self.tickets if ticket.key is key]
        taken = {ticket.row for ticket in live if ticket.state is not State.DONE}
        free = [row for row in rows if row not in taken]
        return self.extra.choice(free) if free else None

    def play(self, events: int = EVENTS) -> World:
        """Let everything happen; every event is checked."""
        for name in self.speeds:
            self.bring_up(name)
        for _ in range(events):
            kind = self.chance.choice(KINDS)
            getattr(self, kind)()
            if kind == "advance" or self.chance.random() < 0.9:
                self.turn()
            else:
                check_sums(self.world)
        self.finish()
        return self.world

    def note(self, *words: object) -> None:
        """Tell what happens."""
        if self.tell is not None:
            at = self.shown(self.world.now - self.start)
            self.tell(f"{at:>14}  {' '.join(map(str, words))}")

    def shown(self, seconds: float) -> str:
        """Return a duration in milliseconds."""
        return f"{1e3 * seconds / self.unit:.4f} ms"

    def turn(self) -> None:
        """Take a turn, and tell what came of it."""
        world = self.world
        before = len(world.log)
        try:
            world.turn()
        finally:
            for line in world.log[before:]:
                self.note("   ->", *line)

    # -- events ---------------------------------------------------------------------------------

    def offer(self) -> None:
        """Offer a few entries."""
        chance, world = self.chance, self.world
        key = chance.choice(self.keys)
        burst = chance.choice((1, 1, 1, 2, 4, 12))
        for _ in range(burst if self.tickets else max(burst, len(self.keys))):
            if len(self.keys) > burst:
                key = chance.choice(self.keys)
            truth = self.truths[key.model.name]
            rows = chance.choice((1, 1, 1, 2, 3, key.max_rows))
            rows = min(rows, key.max_rows)
            within = start_within = math.inf
            if chance.random() < self.timed:
                slo = chance.choice(self.slos) * truth.seconds(key.max_rows)
                if chance.random() < 0.8:
                    within = slo * chance.choice((1.0, 1.0, 0.3, chance.random()))
                else:
                    start_within = slo * chance.random()
            row: int | None = -1
            if key.fill:
                rows, row = 1, self.free_row(key)
            if row is None:
                continue
            ticket = world.offer(
                key,
                rows,
                within=within,
                start_within=start_within,
                priority=chance.choice(self.classes),
                tenant=chance.choice(self.tenants),
                nbytes=min(chance.choice((4, 4, 8)) * rows, key.max_bytes),
                row=row,
            )
            if self.tell is not None:
                limit = f"within {self.shown(within)}, started {self.shown(start_within)}"
                end = world.log[-1][1] if ticket is None else ticket
                self.note("offer", key, rows, "rows", limit, "->", end)
            if ticket is not None:
                self.tickets.append(ticket)

    def advance(self) -> None:
        """Let time pass: until something is due, or for a while."""
        world, chance = self.world, self.chance
        if world.due is not None and chance.random() < 0.5:
            world.now = max(world.now, world.due)
        else:
            world.now += chance.choice((0.05, 0.5, 2.0, 10.0)) * chance.random() * self.ms
        self.note("time")

    def complete(self) -> None:
        """End what a device runs."""
        world, chance = self.world, self.chance
        busy = [name for name, device in world.devices.items() if device.running is not None]
        if not busy:
            return
        name = chance.choice(busy)
        chosen = chance.random()
        if chosen < 0.05 and world.devices[name].staged is not None:
            self.note("could not send what is staged to", name)
            world.refuse_staged(name)
        elif chosen < 0.1:
            self.note("fails", name)
            world.fail(name)
        elif chosen < 0.2:
            self.note("fails in parts", name)
            world.fail(name, split=True)
        else:
            running = world.devices[name].running
            assert running is not None
            seconds = self.seconds(running)
            world.now = max(world.now, running.formed_at + seconds * chance.random())
            overhead = chance.choice((0.0, 1.0, 1.0, 5.0)) * self.overhead
            replies = chance.choice((0.0, 0.0, 1.0)) * self.overhead
            self.note("ends", name, "took", self.shown(seconds))
            world.complete(name, seconds, overhead, replies)

    def seconds(self, batch: Batch) -> float:
        """Return what a batch takes."""
        truth = self.truths[batch.key.model.name]
        factor = max(0.1, self.chance.gauss(1.0, self.jitter))
        return truth.seconds(batch.rows) / self.speeds[batch.device] * factor

    def cancel(self) -> None:
        """Cancel any entry there ever was: waiting, running, or done."""
        if self.tickets:
            ticket = self.chance.choice(self.tickets)
            self.note("cancel", ticket)
            self.world.cancel(ticket)

    def fault(self) -> None:
        """Lose a device, or bring it back, or let it load something."""
        name = self.chance.choice(list(self.speeds))
        if name not in self.world.devices:
            self.bring_up(name)
        elif self.chance.random() < 0.5:
            self.note("down", name)
            self.world.device_down(name)
        else:
            self.note("loads, or is done with that:", name)
            self.world.device_loading(name)

    def model(self) -> None:
        """Let a model come or go, or give it up; rarely, begin to drain."""
        chance, world = self.chance, self.world
        model = chance.choice(self.keys).model
        chosen = chance.random()
        if chosen < 0.1:
            self.note("drain")
            world.drain()
        elif chosen < 0.2:
            self.note("abandon", model)
            world.abandon(model)
        elif world.devices:
            name = chance.choice(list(world.devices))
            if model in world.devices[name].models:
                self.note("gone", model, name)
                world.model_gone(name, model)
            else:
                self.ready(name, model.name)

    def bring_up(self, name: str) -> None:
        """Bring a device up, with most of its models."""
        self.note("up", name, self.speeds[name])
        self.world.device_up(name)
        for model in self.truths:
            if self.chance.random() < 0.9:
                self.ready(name, model)

    def ready(self, name: str, model: str) -> None:
        """Let a device run a model."""
        truth = self.truths[model]
        self.note("ready", name, model, truth)
        ref = next(key.model for key in self.keys if key.model.name == model)
        self.world.model_ready(name, ref, truth.profile(self.speeds[name]))

    def finish(self) -> None:
        """Drain with all devices and models there, and check that nothing stays."""
        world = self.world
        self.note("drain")
        world.drain()
        for name in self.speeds:
            if name not in world.devices:
                self.bring_up(name)
            if world.devices[name].loading:
                world.device_loading(name)
            for model in self.truths:
                if all(m.name != model for m in world.devices[name].models):
                    self.ready(name, model)
        self.turn()
        while world.waiting or any(device.running for device in world.devices.values()):
            busy = [name for name, device in world.devices.items() if device.running is not None]
            if busy:
                running = world.devices[busy[0]].running
                assert running is not None
                self.note("ends", busy[0])
                world.complete(busy[0], self.seconds(running), 0.0, 0.0)
                self.turn()
            else:
                assert world.due is not None, "something waits for nothing"
                world.now = world.due
                self.note("time")
                self.turn()
        world.finish()


def play(seed: int, *, events: int = EVENTS) -> str:
    """Play a seed's schedule; return how it failed, empty if it did not."""
    try:
        Schedule(seed).play(events)
    except Exception as error:  # noqa: BLE001  # whatever it is, the seed is what matters
        frames = traceback.extract_tb(error.__traceback__)
        return f"{type(error).__name__} in {frames[-1].name}, line {frames[-1].lineno}: {error}"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play many, or replay one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="schedules")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--events", type=int, default=EVENTS, help="events of a schedule")
    parser.add_argument("--seed", type=int, help="play this one only")
    parser.add_argument("--trace", action="store_true", help="print its events")
    chosen = parser.parse_args(arguments)
    say = partial(print, file=sys.stdout)
    if chosen.seed is not None:
        Schedule(chosen.seed, tell=say if chosen.trace else None).play(chosen.events)
        say(f"seed {chosen.seed} keeps every invariant")
        return 0
    seeds = range(chosen.first, chosen.first + chosen.count)
    failed = 0
    with ProcessPoolExecutor(chosen.jobs) as pool:
        ends = pool.map(partial(play, events=chosen.events), seeds, chunksize=500)
        for seed, end in zip(seeds, ends, strict=True):
            if end:
                failed += 1
                say(f"seed {seed}: {end}", flush=True)
    say(f"{len(seeds)} schedules, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
