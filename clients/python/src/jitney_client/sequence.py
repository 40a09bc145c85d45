"""Sequences: requests that a model with state handles as one conversation."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jitney_client.options import SequenceOptions

__all__ = ["Sequence"]


class Sequence:
    """The place of each request in a sequence: the first one starts it, ``last`` ends it.

        >>> from jitney_client import Sequence
        >>> sequence = Sequence(7)
        >>> sequence.next()
        {'sequence_id': 7, 'sequence_start': True, 'sequence_end': False}
        >>> sequence.last()
        {'sequence_id': 7, 'sequence_start': False, 'sequence_end': True}

    Given to any call as ``client.infer(model, inputs, **sequence.next())``.

    - One sequence goes to one server, whose worker holds its state. So a client of several
      addresses refuses it, but on a stream, which is one call to one of them.
    - Send a request when the last one was answered, or use a stream, which keeps the order.
    - Its requests are never repeated. When one fails, its server may or may not have counted it:
      begin anew.
    - The server forgets a sequence that it has not heard of for a while, ended or not.
    """

    def __init__(self, sequence_id: int | str | None = None) -> None:
        """Begin a sequence.

        :param sequence_id: not 0 and not empty; by default a random number that nobody else has.
        """
        # 63 bits: the parameter is an int64. The lowest is set, since 0 means "no sequence".
        self.id = secrets.randbits(63) | 1 if sequence_id is None else sequence_id
        self._started = False
        self._ended = False

    def __repr__(self) -> str:
        """Return the id, and where it stands."""
        state = "ended" if self._ended else "running" if self._started else "new"
        return f"<Sequence {self.id} {state}>"

    def next(self) -> SequenceOptions:
        """Return the options of the next request.

        :raises ValueError: when the sequence has ended.
        """
        return self._step(end=False)

    def last(self) -> SequenceOptions:
        """Return the options of the last request, which may be the first one, too.

        :raises ValueError: when the sequence has ended.
        """
        return self._step(end=True)

    def _step(self, *, end: bool) -> SequenceOptions:
        if self._ended:
            msg = f"the sequence {self.id} has ended"
            raise ValueError(msg)
        start, self._started, self._ended = not self._started, True, end
        return {"sequence_id": self.id, "sequence_start": start, "sequence_end": end}
