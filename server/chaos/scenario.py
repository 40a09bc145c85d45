"""A scenario: what is done to a server, how much of it, and how to see that it would be found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from chaos.arena import Arena
    from chaos.verdict import Verdict

    Run = Callable[..., Awaitable[Verdict]]

__all__ = ["Control", "Scenario"]


class Control(NamedTuple):
    """Parameters that switch a defence off, and the figures of which one must miss its goal then.

    Where none does, the scenario could not have found anything.
    """

    parameters: Mapping[str, Any]
    figures: tuple[str, ...]


class Scenario(NamedTuple):
    """``run(arena, verdict, **parameters)``; ``goal`` is what reliability asks for, in words.

    ``long`` are the parameters of ``make chaos``, ``short`` those of the tests. A scenario without
    ``short`` takes too long for them however little it does.
    """

    name: str
    goal: str
    run: Callable[..., Awaitable[None]]
    long: Mapping[str, Any]
    short: Mapping[str, Any] | None
    control: Control | None = None
    group: str = "faults"

    async def perform(self, arena: Arena, verdict: Verdict, parameters: Mapping[str, Any]) -> None:
        """Run it, and note its parameters with what it found."""
        verdict.facts |= {"goal": self.goal, "parameters": dict(parameters)}
        await self.run(arena, verdict, **parameters)
