"""The process' own memory is looked at, and given back when nobody needs it."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from jitney.telemetry.memory import PAUSE, WORTHWHILE, Memory, own_bytes, trim

if TYPE_CHECKING:
    from collections.abc import Callable


class Bench:
    """A process whose size is what the test says."""

    def __init__(self) -> None:
        self.size = 100
        self.held = 0
        self.idle = True
        self.ran: list[Callable[[], None]] = []
        self.memory = Memory(
            lambda: self.held, lambda: self.idle, lambda: self.size, self.ran.append
        )
        self.memory.settle()

    def look(self, seconds: int = 1) -> int:
        """Let time pass; return how often memory was trimmed so far."""
        for _ in range(seconds):
            self.memory.look()
        assert len(self.ran) == self.memory.trims
        return self.memory.trims


def test_excess_is_what_nobody_knows_of() -> None:
    """Beyond what the process needs, and beyond what it holds for somebody."""
    bench = Bench()
    bench.size, bench.held = 1000, 300

    assert 600 == bench.memory.excess()


def test_memory_is_given_back_when_nothing_is_in_flight() -> None:
    """Where it is worth it, and not again and again where it does not help."""
    bench = Bench()
    bench.size += WORTHWHILE
    assert 0 == bench.look(100)
    bench.size += 1
    bench.idle = False
    assert 0 == bench.look(100)
    bench.idle = True
    assert 1 == bench.look()
    assert 1 == bench.look(PAUSE - 1)
    assert 2 == bench.look()


def test_it_can_be_asked_for() -> None:
    """Without regard to the time."""
    bench = Bench()
    bench.memory.trim()
    bench.memory.trim()

    assert [trim, trim] == bench.ran


def test_own_memory_is_counted_and_shared_memory_is_not() -> None:
    """As the kernel has it."""
    size = 32 << 20
    before = own_bytes()
    own = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    own.write(b"x" * size)
    between = own_bytes()
    shared = mmap.mmap(-1, size)
    shared.write(b"x" * size)
    after = own_bytes()

    assert between - before > size * 3 // 4
    assert after - between < size // 2
    trim()
