"""Whose fault the end of a device's worker processes is: the device's, or one model's."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from jitney.types import ModelRef

__all__ = ["MOST_CRASHES", "Deaths", "Verdict"]

WINDOW: Final = 60.0
"""Seconds for which a death counts."""
MOST_CRASHES: Final = 3
"""Deaths within the window after which the model is to blame whose batches were running."""


class Verdict(NamedTuple):
    """What follows from a death: give the device up, refuse a model, or neither."""

    hopeless: bool
    refuse: ModelRef | None = None


class Deaths:
    """Counts the ends of a device's processes; pure, it is told the time.

    A model whose batches keep ending the process is to be refused, and what it did is not held
    against the device. Not so the last model that the device would still run: there the device may
    as well be the culprit, and a device that runs nothing is better given up.
    """

    def __init__(self, most: int) -> None:
        """Begin with none.

        :param most: deaths within the window that a device may have.
        """
        self._most = most
        self._recent: deque[tuple[float, ModelRef | None]] = deque()
        self._while_loading: Counter[ModelRef] = Counter()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Deaths {len(self._recent)} of {self._most}>"

    def note(self, now: float, culprit: ModelRef | None, *, others: bool) -> Verdict:
        """Count a death.

        :param culprit: the model whose batch was running, None where there was none.
        :param others: whether the device has other models that it may run.
        """
        recent = self._recent
        recent.append((now, culprit))
        while recent[0][0] < now - WINDOW:
            recent.popleft()
        refuse = None
        if (
            culprit is not None
            and others
            and sum(model == culprit for _, model in recent) >= MOST_CRASHES
        ):
            refuse = culprit
            self._recent = deque(death for death in recent if death[1] != culprit)
        return Verdict(len(self._recent) > self._most, refuse)

    def note_while_loading(self, model: ModelRef) -> bool:
        """Count a death during a load; return whether the model deserves another try.

        One: the process may have been killed from outside.
        """
        self._while_loading[model] += 1
        return self._while_loading[model] == 1

    def forgive(self, model: ModelRef) -> None:
        """Forget what happened while a model was loaded: it has been loaded since."""
        del self._while_loading[model]

    def __len__(self) -> int:
        """Return how many deaths count."""
        return len(self._recent)
