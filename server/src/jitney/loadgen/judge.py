"""Whether replies are right: those of a run against what the same input alone is answered with."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np
from google.protobuf.message import DecodeError

from jitney_client.protocol import inference as pb
from jitney_client.tensors import Tensor, decode, decode_typed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.loadgen.replies import Reply
    from jitney.loadgen.seen import Array

__all__ = ["TOLERANCE", "Judge", "outputs_of"]

TOLERANCE: Final = 1e-3
"""Of the largest value of an output: what another batch size may change in floating point."""


class Judge:
    """Knows the right answer to each message, and counts what differs from it.

    Whole numbers and texts have to be equal, floating point may differ by ``tolerance`` times the
    output's largest magnitude. Only the outputs' names, datatypes, shapes and values count.
    """

    def __init__(self, right: Sequence[Mapping[str, Array]], tolerance: float = TOLERANCE) -> None:
        self._right = right
        self._tolerance = tolerance
        self._known: dict[tuple[int, bytes], str] = {}

    def wrong(self, replies: Sequence[Reply]) -> tuple[int, str]:
        """Return how many calls were answered wrongly, and what was wrong with the first."""
        count, example = 0, ""
        for reply in replies:
            # A search gets the same replies in each of its runs. Not the replies are remembered,
            # which may be large, but what is as good as one.
            key = (reply.message, blake2b(reply.body, digest_size=16).digest())
            why = self._known.get(key)
            if why is None:
                why = self._known[key] = self.fault(reply.message, reply.body)
            if why:
                count, example = count + reply.times, example or why
        return count, example

    def fault(self, message: int, body: bytes) -> str:
        """Return what is wrong with a reply; empty when it is right."""
        try:
            outputs = outputs_of(body)
        except ValueError as error:
            return f"the reply cannot be read: {error}"
        right = self._right[message]
        if missing := sorted(set(right) - set(outputs)):
            return f"the output {missing[0]!r} is missing"
        for name, expected in right.items():
            if why := _difference(expected, outputs[name], self._tolerance):
                return f"output {name!r}: {why}"
        return ""


def outputs_of(body: bytes) -> dict[str, Array]:
    """Return the outputs of a reply.

    :raises ValueError: when it is none.
    """
    try:
        reply = pb.ModelInferResponse.FromString(body)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    raw = list(reply.raw_output_contents)
    if raw and len(raw) != len(reply.outputs):
        msg = f"{len(reply.outputs)} outputs, and the bytes of {len(raw)}"
        raise ValueError(msg)
    return {
        output.name: decode(Tensor(output.datatype, tuple(output.shape), raw[number]))
        if raw
        else decode_typed(output.datatype, tuple(output.shape), output.contents)
        for number, output in enumerate(reply.outputs)
    }


def _difference(expected: Array, got: Array, tolerance: float) -> str:
    if expected.shape != got.shape:
        return f"expected the shape {list(expected.shape)}, got {list(got.shape)}"
    if got.dtype.kind != "f" or expected.dtype.kind not in "iuf":
        return "" if _same(expected, got) else "another value than for the same input alone"
    a, b = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    scale = float(np.abs(a[finite]).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        close = np.where(
            finite, np.abs(a - b) <= tolerance * scale, (a == b) | (np.isnan(a) & np.isnan(b))
        )
    if close.all():
        return ""
    worst = float(np.abs(a - b)[finite & ~close].max(initial=0.0))
    return (
        f"differs by {worst:.3g} from the answer to the same input alone (values up to {scale:.3g})"
    )


def _same(expected: Array, got: Array) -> bool:
    if got.dtype.kind == "O":
        texts = np.vectorize(_as_bytes, otypes=[object])(expected) if expected.size else expected
        return bool((texts == got).all())
    return bool((expected == got).all())


def _as_bytes(text: object) -> object:
    return text.encode() if isinstance(text, str) else text
