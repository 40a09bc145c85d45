"""What may be said about a request beside its model and its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["InferOptions", "Parameter", "RequestOptions", "SequenceOptions", "check_options"]

Parameter = bool | int | str | float


class SequenceOptions(TypedDict, total=False):
    """Where a request stands in a sequence; ``Sequence`` writes these."""

    sequence_id: int | str
    """Which sequence: not 0, and not empty."""
    sequence_start: bool
    """Whether it is the first request of its sequence."""
    sequence_end: bool
    """Whether it is the last one."""


class RequestOptions(SequenceOptions, total=False):
    """The options of one request, on a stream or not."""

    version: str
    """The version to run; empty for the server's choice."""
    outputs: Sequence[str]
    """Names of the outputs to return, none for all, or, with ``top_k``, only for those in it."""
    top_k: Mapping[str, int]
    """Outputs of which not the tensor but its so many highest elements shall come, with their
    labels where the model has some: in ``InferResult.classes``."""
    request_id: str
    """Returned in the result."""
    parameters: Mapping[str, Parameter]
    """Any others that the server or the model may know."""
    priority: int
    """1 is the highest; 0 is the model's default."""
    queue_timeout: float
    """Seconds that it may wait for its batch to start, however far its deadline is."""
    timing: bool
    """Whether to ask how long each stage took on the server: ``InferResult.timing``."""


class InferOptions(RequestOptions, total=False):
    """The options of a call."""

    timeout: float | None
    """Seconds until the call is given up, here and on the server; by default the client's."""
    tenant: str
    """On whose behalf it is made; by default the client's."""


_OF_CALLS: Final = frozenset({"timeout", "tenant"})
_KNOWN: Final = frozenset(InferOptions.__annotations__)
_TEXTS: Final = frozenset({"request_id", "tenant", "version"})


def check_options(options: Mapping[str, object], *, call: bool) -> None:
    """Refuse what is no option, or one of another kind: type checkers see it, Python does not.

    :param call: whether the options of a call are among them, or only those of a request.
    :raises TypeError: naming the wrong one.
    """
    for name in options:
        if name not in _KNOWN or (not call and name in _OF_CALLS):
            known = sorted(_KNOWN if call else _KNOWN - _OF_CALLS)
            msg = f"unknown option {name!r}; there are {', '.join(known)}"
            raise TypeError(msg)
        value = options[name]
        if name in _TEXTS and not isinstance(value, str | None):
            msg = f"{name}: expected a str, got {value!r}"
            raise TypeError(msg)
        if name == "outputs" and isinstance(value, str):
            # It is a sequence too, of names that nobody meant.
            msg = f"outputs: expected a list of names, such as [{value!r}], got a str"
            raise TypeError(msg)
