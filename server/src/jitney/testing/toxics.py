"""What a toxic proxy does to the bytes that pass it: one small value for each kind of bad network.

Kinds and names are Toxiproxy's where it has them. A toxic is told nothing and keeps nothing: it
answers questions about the next piece, so that it can be put in and taken out while bytes flow.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

__all__ = [
    "KINDS",
    "Bandwidth",
    "BlackHole",
    "Direction",
    "Duplicates",
    "Frozen",
    "HalfClose",
    "Latency",
    "LimitData",
    "ResetPeer",
    "Slicer",
    "SlowClose",
    "Toxic",
    "Trickle",
    "read_toxic",
]

Direction: TypeAlias = Literal["up", "down", "both"]
"""``up`` is from the client to the server."""

SMOOTH: Final = 0.05
"""Seconds of a bandwidth that go in one piece."""


@dataclass(frozen=True, slots=True)
class Toxic:
    """A network without a fault, for a direction. Each kind answers some questions otherwise."""

    direction: Direction = field(default="both", kw_only=True)

    drops: ClassVar[bool] = False
    """Whether bytes are taken and thrown away."""
    blocks: ClassVar[bool] = False
    """Whether nothing is taken and nothing is given."""
    resets: ClassVar[bool] = False
    """Whether a connection that it ends is reset, and not closed."""
    halves: ClassVar[bool] = False
    """Whether it ends a direction, and not the connection."""
    delays: ClassVar[bool] = False
    """Whether chunks that have come wait before they go on."""

    def latency(self, random: Random) -> float:  # noqa: ARG002  # for who needs it
        """Return seconds from the arrival of a chunk until it goes on, while others come in."""
        return 0.0

    def piece(self, random: Random) -> float:  # noqa: ARG002
        """Return how many bytes may go at once, at least 1."""
        return math.inf

    def pause(self, size: int) -> float:  # noqa: ARG002
        """Return seconds to wait after a piece of that size, while nothing goes."""
        return 0.0

    def room(self) -> float:
        """Return how many bytes of a direction may pass in all, before it is ended."""
        return math.inf

    def ends_after(self) -> float:
        """Return seconds until a connection is ended."""
        return math.inf

    def linger(self) -> float:
        """Return seconds from the end of one side until the other is told."""
        return 0.0

    def copies(self) -> int:
        """Return how many connections to the server a new one opens beside its own."""
        return 0


@dataclass(frozen=True, slots=True)
class Latency(Toxic):
    """Every chunk comes ``seconds`` later, give or take up to ``jitter``; the order stays."""

    seconds: float = 0.1
    jitter: float = 0.0
    delays: ClassVar[bool] = True

    def latency(self, random: Random) -> float:
        """Return a moment of the range, all alike."""
        return max(0.0, self.seconds + self.jitter * random.uniform(-1, 1))


@dataclass(frozen=True, slots=True)
class Bandwidth(Toxic):
    """Only so many bytes a second."""

    bytes_per_second: float = 10_000.0

    def piece(self, random: Random) -> float:  # noqa: ARG002
        """Return what goes in a moment too short to be noticed."""
        return max(1.0, self.bytes_per_second * SMOOTH)

    def pause(self, size: int) -> float:
        """Return how long such a piece takes."""
        return size / self.bytes_per_second if self.bytes_per_second else math.inf


@dataclass(frozen=True, slots=True)
class Trickle(Toxic):
    """One byte each second, or ``size`` every so many ``seconds``."""

    size: int = 1
    seconds: float = 1.0

    def piece(self, random: Random) -> float:  # noqa: ARG002
        """Return the size of every piece."""
        return max(1, self.size)

    def pause(self, size: int) -> float:  # noqa: ARG002
        """Return the same after every piece."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class Slicer(Toxic):
    """Cuts what comes into pieces of about ``size`` bytes, ``seconds`` between them."""

    size: int = 16
    variation: int = 0
    seconds: float = 0.0

    def piece(self, random: Random) -> float:
        """Return a size of the range, all alike."""
        return max(1, self.size + random.randint(-self.variation, self.variation))

    def pause(self, size: int) -> float:  # noqa: ARG002
        """Return the same after every piece."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class SlowClose(Toxic):
    """One side learns that the other has closed only ``seconds`` later."""

    seconds: float = 1.0

    def linger(self) -> float:
        """Return how slow it is."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class BlackHole(Toxic):
    """Bytes vanish (Toxiproxy's "timeout"); after ``seconds`` the connection is closed."""

    seconds: float = math.inf
    drops: ClassVar[bool] = True

    def ends_after(self) -> float:
        """Return when it has had enough."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class Frozen(Toxic):
    """A peer that was stopped: connections stay, nothing moves; afterwards nothing is lost."""

    blocks: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class LimitData(Toxic):
    """The connection is closed when ``nbytes`` have passed in a direction."""

    nbytes: int = 0

    def room(self) -> float:
        """Return what may pass."""
        return self.nbytes


@dataclass(frozen=True, slots=True)
class HalfClose(Toxic):
    """A direction is closed when ``nbytes`` have passed; the other one goes on."""

    nbytes: int = 0
    halves: ClassVar[bool] = True

    def room(self) -> float:
        """Return what may pass."""
        return self.nbytes


@dataclass(frozen=True, slots=True)
class ResetPeer(Toxic):
    """Both sides are sent a reset, ``seconds`` after the connection or the toxic came."""

    seconds: float = 0.0
    resets: ClassVar[bool] = True

    def ends_after(self) -> float:
        """Return when it has had enough."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class Duplicates(Toxic):
    """Each new connection comes to the server ``count`` times more, and says the same there."""

    count: int = 1

    def copies(self) -> int:
        """Return as many as are wanted."""
        return self.count


KINDS: Final[Mapping[str, type[Toxic]]] = {
    "latency": Latency,
    "bandwidth": Bandwidth,
    "trickle": Trickle,
    "slicer": Slicer,
    "slow_close": SlowClose,
    "black_hole": BlackHole,
    "frozen": Frozen,
    "limit_data": LimitData,
    "half_close": HalfClose,
    "reset_peer": ResetPeer,
    "duplicates": Duplicates,
}


def read_toxic(text: str) -> Toxic:
    """Read a toxic from words such as ``latency seconds=0.1 jitter=0.05 direction=down``.

    :raises ValueError: saying what is wrong with it.
    """
    name, *words = text.split() or [""]
    kind = KINDS.get(name)
    if kind is None:
        msg = f"no toxic '{name}'; there are {', '.join(KINDS)}"
        raise ValueError(msg)
    known: dict[str, object] = {f.name: f.default for f in fields(kind)}
    values: dict[str, object] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in known:
            msg = f"{name} has no '{key}', it has {', '.join(sorted(known))}"
            raise ValueError(msg)
        if key == "direction":
            if value not in ("up", "down", "both"):
                msg = "direction is up, down or both"
                raise ValueError(msg)
            values[key] = value
        else:
            values[key] = _number(key, value, known[key])
    return kind(**values)  # type: ignore[arg-type]  # by name, and of the type of the default


def _number(key: str, text: str, default: object) -> float:
    """Read a number of the kind of a default, 0 or more."""
    whole = isinstance(default, int)
    with contextlib.suppress(ValueError):
        number = int(text) if whole else float(text)
        if number >= 0:  # which NaN is not
            return number
    msg = f"{key}: expected a {'whole ' if whole else ''}number, 0 or more, got {text!r}"
    raise ValueError(msg)
