"""The parameters of requests and of their tensors: what they may be, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jitney.errors import InvalidRequest
from jitney.transport.shared_memory import Location

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney_client.protocol import inference as pb

    Parameters = Mapping[str, pb.InferParameter]

__all__ = [
    "MAX_NAME",
    "REGION",
    "class_count",
    "location",
    "not_a_number",
    "request_parameters",
]

MAX_NAME: Final = 128
"""Characters of a key, and of the names in a request."""
MAX_INT64: Final = (1 << 63) - 1

KNOWN: Final = frozenset({"triton_enable_empty_final_response"})
"""Keys of the reserved beginning that callers may send."""
NUMBERS: Final = {"priority": ("int64_param", "uint64_param"), "timeout": ("int64_param",)}
"""Parameters that the server acts on: how each may come. None may be negative."""
SEQUENCE: Final = {
    "sequence_id": ("int64_param", "uint64_param", "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
}
"""Likewise, where the model has state."""

REGION: Final = "shared_memory_region"
SIZE: Final = "shared_memory_byte_size"
OFFSET: Final = "shared_memory_offset"
CLASSES: Final = "classification"


def request_parameters(given: Parameters) -> dict[str, bool | int | str | float] | None:
    """Check a request's own parameters; unknown ones are kept, reserved ones are refused.

    :raises InvalidRequest: naming the one that is wrong, and what it has to be.
    """
    if not given:
        return None
    values: dict[str, bool | int | str | float] = {}
    for key, parameter in given.items():
        kind = parameter.WhichOneof("parameter_choice")
        if len(key) > MAX_NAME:
            msg = f"parameter '{key[:MAX_NAME]}': at most {MAX_NAME} characters are allowed"
            raise InvalidRequest(msg)
        if key in NUMBERS:
            if kind not in NUMBERS[key] or getattr(parameter, kind) < 0:
                raise not_a_number(key)
        elif key in SEQUENCE:
            if kind not in SEQUENCE[key] or len(parameter.string_param) > MAX_NAME:
                kinds = (
                    f"an int64, a uint64 or a string of at most {MAX_NAME} characters"
                    if key == "sequence_id"
                    else "a bool"
                )
                msg = f"parameter '{key}' must be {kinds}"
                raise InvalidRequest(msg)
        elif kind is None or kind == "uint64_param":
            msg = f"parameter '{key}' must be a bool, an int64, a double or a string"
            raise InvalidRequest(msg)
        if key.startswith("triton_") and key not in KNOWN:
            msg = f"parameter '{key}' is reserved"
            raise InvalidRequest(msg)
        values[key] = getattr(parameter, kind)
    return values


def not_a_number(key: str) -> InvalidRequest:
    """Return the refusal of one of ``NUMBERS``."""
    kinds = " or ".join(kind.removesuffix("_param") for kind in NUMBERS[key])
    return InvalidRequest(f"parameter '{key}' must be an {kinds}, 0 or more")


def location(given: Parameters, tensor: str) -> Location | None:
    """Return where a tensor stands in shared memory, None where it does not.

    :param tensor: what it is called in texts, such as ``input 'x'``.
    :raises InvalidRequest: when a parameter is missing, or not what it has to be.
    """
    if not given:
        return None
    if REGION not in given:
        for key in (SIZE, OFFSET):
            if key in given:
                msg = f"{tensor}: parameter '{key}' needs '{REGION}'"
                raise InvalidRequest(msg)
        return None
    if SIZE not in given:
        msg = f"{tensor}: parameter '{SIZE}' must be given along with '{REGION}'"
        raise InvalidRequest(msg)
    region = given[REGION].string_param
    if not region:
        msg = f"{tensor}: parameter '{REGION}' must be the name of a region"
        raise InvalidRequest(msg)
    numbers = []
    for key in (OFFSET, SIZE):
        number = 0
        if key in given:
            kind = given[key].WhichOneof("parameter_choice")
            number = getattr(given[key], kind) if kind in {"int64_param", "uint64_param"} else -1
        if not 0 <= number <= MAX_INT64:
            msg = f"{tensor}: parameter '{key}' must be an int64, 0 or more"
            raise InvalidRequest(msg)
        numbers.append(number)
    return Location(region, *numbers)


def class_count(given: Parameters, output: str) -> int:
    """Return how many classes of an output are wanted in its place, 0 for the output itself.

    :raises InvalidRequest: when that is no number above 0, or the output goes to shared memory.
    """
    if CLASSES not in given:
        return 0
    count = given[CLASSES].int64_param
    if count < 1:
        msg = f"requested output '{output}': parameter '{CLASSES}' must be an int64 above 0"
        raise InvalidRequest(msg)
    if REGION in given:
        msg = (
            f"requested output '{output}': '{CLASSES}' and '{REGION}' exclude each other; the "
            "classes come in the reply"
        )
        raise InvalidRequest(msg)
    return int(count)
