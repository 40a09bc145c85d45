"""Host memory like a slot's, for batches that nobody sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from jitney.errors import OutputTooLarge
from jitney.runtime.interface import InputView
from jitney.runtime.tensors import encode_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.runtime.interface import Execution
    from jitney.runtime.tensors import Value
    from jitney.signature import TensorSpec

__all__ = ["Scratch"]

ALIGNMENT: Final = 64
FIRST_OUTPUT_BYTES: Final = 1 << 20
MOST_OUTPUT_BYTES: Final = 1 << 34
"""The largest slot that the settings allow."""


class Scratch:
    """An input and an output region that grow to what batches need.

    Page-locked where the device copies by itself, as slots are: from other memory a copy takes
    several times as long. The worker's own slots cannot be used, because the server may be filling
    them for the models that are loaded already.
    """

    def __init__(self, *, page_locked: bool) -> None:
        self._page_locked = page_locked
        self._inputs = self._allocate(0)
        self._outputs = self._allocate(FIRST_OUTPUT_BYTES)

    def __repr__(self) -> str:
        """Return the sizes."""
        return f"<Scratch {len(self._inputs)} bytes in, {len(self._outputs)} out>"

    def fill(
        self,
        specs: Sequence[TensorSpec],
        shapes: Sequence[tuple[int, ...]],
        values: Sequence[Value | None],
    ) -> list[InputView | None]:
        """Write the inputs of a batch as the protocol would, and return where they are."""
        parts = [None if value is None else _raw(value) for value in values]
        room = sum(-(-len(part) // ALIGNMENT) * ALIGNMENT for part in parts if part is not None)
        if room > len(self._inputs):
            self._inputs = self._allocate(room)
        views: list[InputView | None] = []
        at = 0
        for spec, shape, part in zip(specs, shapes, parts, strict=True):
            if part is None:
                views.append(None)
                continue
            region = self._inputs[at : at + len(part)]
            region[:] = part
            views.append(InputView(spec.datatype, shape, region))
            at += -(-len(part) // ALIGNMENT) * ALIGNMENT
        return views

    def run(self, forward: Callable[[memoryview], Execution]) -> Execution:
        """Call ``forward`` with the output region, again with a larger one until it suffices.

        :raises OutputTooLarge: if no slot could hold the outputs.
        """
        while True:
            try:
                return forward(self._outputs)
            except OutputTooLarge:
                if len(self._outputs) >= MOST_OUTPUT_BYTES:
                    raise
            self._outputs = self._allocate(4 * len(self._outputs))

    def _allocate(self, nbytes: int) -> memoryview:
        host = torch.empty(nbytes, dtype=torch.uint8, pin_memory=self._page_locked and nbytes > 0)
        return host.numpy().data


def _raw(value: Value) -> memoryview:
    if isinstance(value, list):
        return memoryview(b"".join(encode_texts(value)))
    return value.contiguous().reshape(-1).view(torch.uint8).numpy().data
