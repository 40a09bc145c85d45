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
"""Crashes within the window after which the model is to blame whose batches were running."""
MOST_TRIES: Final = 2
"""Deaths during loads of a model, one after the other, after which it is not tried again."""
MOST_FROM_OUTSIDE: Final = 10
"""The same, where each time somebody killed the process: that says little about the model."""


class Verdict(NamedTuple):
    """What follows from a death: give the device up, refuse a model, or neither."""

    hopeless: bool
    refuse: ModelRef | None = None


class _Death(NamedTuple):
    """The end of a process: when, and which model it was running or loading, if any.

    ``again`` tells that it ran part of a batch that had ended a process before.
    """

    at: float
    running: ModelRef | None
    loading: tuple[str, int] | None
    again: bool = False


class Deaths:
    """Counts the ends of a device's processes; pure, it is told the time.

    A model whose batches keep ending the process is to be refused, and what it did is not held
    against the device. Not so the last model that the device would still run: there the device may
    as well be the culprit, and a device that runs nothing is better given up. A batch that ends a
    process, and the part of it that ends another while the one at fault is looked for, are one
    crash: one bad request shall not be two thirds of the way. Where that would cost the device,
    every death is one.

    A model that ends the process while it is loaded may be sent again and again, by whoever may
    load models. It counts once, however often: one bad file shall not cost the others their device.
    Where the process had loaded another model before, the device works, and it does not count at
    all.
    """

    def __init__(self, most: int) -> None:
        """Begin with none.

        :param most: deaths within the window that a device may have.
        """
        self._most = most
        self._recent: deque[_Death] = deque()
        self._while_loading: Counter[ModelRef] = Counter()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Deaths {len(self._recent)} of {self._most}>"

    def note(
        self, now: float, culprit: ModelRef | None, *, others: bool, again: bool = False
    ) -> Verdict:
        """Count a death.

        :param culprit: the model whose batch was running, None where there was none.
        :param others: whether the device has other models that it may run.
        :param again: whether that was part of a batch that had ended a process before.
        """
        self._add(_Death(now, culprit, None, again))
        refuse = None
        if culprit is not None and others and self._crashes(culprit) >= MOST_CRASHES:
            refuse = culprit
            self._recent = deque(death for death in self._recent if death.running != culprit)
        return Verdict(len(self._recent) > self._most, refuse)

    def note_of_load(self, now: float, model: ModelRef, *, works: bool) -> Verdict:
        """Count a death during a load.

        :param works: whether the process had loaded another model before.
        """
        named = (model.name, model.version)  # whichever load of it this is
        self._forget_before(now - WINDOW)
        if not works and all(death.loading != named for death in self._recent):
            self._add(_Death(now, None, named))
        return Verdict(len(self._recent) > self._most)

    def _crashes(self, culprit: ModelRef) -> int:
        """Return how often a model has ended a process, each batch with the first of its parts."""
        deaths = [death.again for death in self._recent if death.running == culprit]
        if len(self._recent) > self._most:
            return len(deaths)
        count, is_open = 0, False
        for again in deaths:
            is_open = not (again and is_open)
            count += is_open
        return count

    def _add(self, death: _Death) -> None:
        self._recent.append(death)
        self._forget_before(death.at - WINDOW)

    def _forget_before(self, moment: float) -> None:
        while self._recent and self._recent[0].at < moment:
            self._recent.popleft()

    def note_while_loading(self, model: ModelRef, *, outside: bool = False) -> bool:
        """Count a death during a load; return whether the model deserves another try.

        :param outside: whether the process was killed by somebody else.
        """
        self._while_loading[model] += 1
        if self._while_loading[model] < (MOST_FROM_OUTSIDE if outside else MOST_TRIES):
            return True
        self.forgive(model)  # it is not tried again; another load of it has another reference
        return False

    def forgive(self, model: ModelRef) -> None:
        """Forget what happened while a model was loaded: it has been loaded since."""
        del self._while_loading[model]

    def __len__(self) -> int:
        """Return how many deaths count."""
        return len(self._recent)
