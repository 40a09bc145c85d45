"""What a request says of the sequence that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney.types import RequestHeader

__all__ = ["Correlation", "read_correlation"]

MASK: Final = (1 << 64) - 1
LONGEST_ID: Final = 128
"""Bytes of an id that is a text; Triton's limit. Ids are kept for as long as their sequences."""


class Correlation(NamedTuple):
    """A correlation id, and whether the request begins or ends the sequence, or both.

    An id that is a number counts from 1 to 2⁶⁴ - 1; what the wire has as a negative one is that
    plus 2⁶⁴, as in Triton.
    """

    id: int | str
    starts: bool
    ends: bool


def read_correlation(header: RequestHeader) -> Correlation:
    """Read the parameters ``sequence_id``, ``sequence_start`` and ``sequence_end``.

    :raises InvalidRequest: when there is no id, or a parameter is of another type.
    """
    parameters = header.parameters or {}
    key = parameters.get("sequence_id", 0)
    if isinstance(key, bool) or not isinstance(key, int | str):
        msg = (
            "invalid value type for 'sequence_id' parameter, expected int64_param or string_param."
        )
        raise InvalidRequest(msg)
    starts = _flag(parameters, "sequence_start")
    ends = _flag(parameters, "sequence_end")
    if not key:
        msg = (
            f"inference request to model '{header.model_name}' must specify a non-zero or "
            "non-empty correlation ID"
        )
        raise InvalidRequest(msg)
    if isinstance(key, int):
        key &= MASK
    elif len(key.encode()) > LONGEST_ID:
        msg = (
            f"the correlation ID of this request to model '{header.model_name}' is longer than "
            f"{LONGEST_ID} bytes"
        )
        raise InvalidRequest(msg)
    return Correlation(key, starts, ends)


def _flag(parameters: Mapping[str, object], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        msg = f"invalid value type for '{name}' parameter, expected bool_param."
        raise InvalidRequest(msg)
    return value
