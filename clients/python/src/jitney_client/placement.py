"""Tensors of one request that go through shared memory."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Final

import numpy as np

from jitney_client.framing import id_field, join_request
from jitney_client.prepared import BF16_BYTES, LARGE
from jitney_client.protocol import inference
from jitney_client.tensors import DTYPES, TensorView, decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney_client.prepared import Prepared
    from jitney_client.protocol.message import MessageMap
    from jitney_client.region import Region
    from jitney_client.regions import Regions
    from jitney_client.tensors import Array

__all__ = ["Placement", "place"]

ALIGNMENT: Final = 64
"""Bytes; what arrays like to begin at."""


class Placement:
    """Where the large tensors of a request are: its inputs in one region, its outputs in another.

    Two regions, because they are free at different times: the inputs when the reply is there, the
    outputs when nobody has an array of them any more.
    """

    def __init__(self, regions: Regions, head: inference.ModelInferRequest) -> None:
        self._regions = regions
        self._head = head
        self._borrowed: list[Region] = []
        self._outputs: Region | None = None
        self._in_message: list[TensorView] = []

    def message(self, request_id: str) -> bytes:
        """Return the request, serialised."""
        head = [self._head.SerializeToString()]
        if request_id:
            head += id_field(request_id)
        return join_request(head, self._in_message)

    async def put_inputs(self, tensors: list[TensorView]) -> None:
        """Copy the large ones to shared memory, as far as there is some."""
        large = [t.nbytes if t.nbytes >= LARGE else 0 for t in tensors]
        region = await self._borrow(sum(map(_aligned, large))) if any(large) else None
        if region is None:
            self._in_message = tensors
            return
        at = 0
        memory = memoryview(region.memory)
        for tensor, about, size in zip(tensors, self._head.inputs, large, strict=True):
            if not size:
                self._in_message.append(tensor)
                continue
            memory[at : at + size] = memoryview(tensor.data).cast("B")
            _refer(about.parameters, region, at, size)
            at += _aligned(size)

    async def expect_outputs(self, sizes: Mapping[str, int]) -> None:
        """Let large outputs come in shared memory, as far as there is some.

        :param sizes: of each output that shall be returned, in bytes; 0 where it is not known.
        """
        large = {name: size for name, size in sizes.items() if size >= LARGE}
        region = await self._borrow(sum(map(_aligned, large.values()))) if large else None
        if region is None:
            return
        self._outputs = region
        if not self._head.outputs:
            for name in sizes:
                self._head.outputs.add(name=name)
        at = 0
        for about in self._head.outputs:
            if size := large.get(about.name):
                _refer(about.parameters, region, at, size)
                at += _aligned(size)

    def take_outputs(self, reply: inference.ModelInferResponse) -> dict[str, Array]:
        """Return the outputs that came in shared memory; everything else is given back.

        :raises ValueError: when the reply contradicts the request.
        """
        arrays: dict[str, Array] = {}
        if self._outputs is not None:
            asked = {about.name: about.parameters for about in self._head.outputs}
            for about in reply.outputs:
                parameters = asked.get(about.name)
                if parameters is None or "shared_memory_region" not in parameters:
                    continue
                arrays[about.name] = self._array(about, parameters["shared_memory_offset"])
        if arrays:
            self._lend(list(arrays.values()))
        self.give_back()
        return arrays

    def give_back(self) -> None:
        """Make everything free that the server has done with."""
        while self._borrowed:
            self._regions.give_back(self._borrowed.pop())

    def retire(self) -> None:
        """Use none of it again: nobody knows what the server still does with it."""
        while self._borrowed:
            self._regions.retire(self._borrowed.pop())

    def forget(self) -> None:
        """Forget all regions: the server does not know those of this request."""
        while self._borrowed:
            self._regions.forget(self._borrowed.pop())

    async def _borrow(self, size: int) -> Region | None:
        region = await self._regions.borrow(size)
        if region is not None:
            self._borrowed.append(region)
        return region

    def _array(
        self,
        about: inference.ModelInferResponse.InferOutputTensor,
        offset: inference.InferParameter,
    ) -> Array:
        assert self._outputs is not None  # noqa: S101  # it was asked for
        shape, datatype, at = tuple(about.shape), about.datatype, offset.int64_param
        if min(shape, default=0) < 0:
            msg = f"the shape {list(shape)} has a negative size"
            raise ValueError(msg)
        if datatype == "BF16":
            size = math.prod(shape) * BF16_BYTES
            return decode(TensorView(datatype, shape, bytes(self._outputs.memory[at : at + size])))
        dtype = DTYPES.get(datatype)
        if dtype is None:
            msg = f"{datatype} in shared memory"
            raise ValueError(msg)
        try:
            array: Array = np.ndarray(shape, dtype, self._outputs.memory, at)
        except TypeError:
            msg = f"{datatype} of shape {list(shape)} is larger than what was asked for"
            raise ValueError(msg) from None
        array.flags.writeable = False
        return array

    def _lend(self, arrays: list[Array]) -> None:
        """Keep the outputs' region until the last of the arrays is gone."""
        region = self._outputs
        assert region is not None  # noqa: S101  # there are arrays of it
        self._borrowed.remove(region)
        # Those of BF16 are new arrays already.
        lent = [array for array in arrays if not array.flags.owndata]
        if not lent:
            self._regions.give_back(region)
            return
        # All but one find a token here. Popping is atomic, as counting down is not: the collector
        # may run in any thread, and two that saw 0 would give the region back twice.
        tokens = [None] * (len(lent) - 1)
        for array in lent:
            # Views of an array keep it alive; it is gone when none of them is left.
            weakref.finalize(array, _release, tokens, region, self._regions).atexit = False


def _release(tokens: list[None], region: Region, regions: Regions) -> None:
    try:
        tokens.pop()
    except IndexError:
        regions.give_back(region)


async def place(prepared: Prepared, regions: Regions) -> Placement:
    """Put the large tensors of a request into shared memory, as far as there is some.

    :raises JitneyError: when shared memory is insisted on and cannot be had.
    :raises OSError: likewise.
    """
    placement = Placement(regions, inference.ModelInferRequest.FromString(prepared.head.data))
    try:
        await placement.put_inputs(prepared.tensors)
        await placement.expect_outputs(prepared.head.output_sizes)
    except BaseException:
        placement.give_back()  # the server has not heard of the request
        raise
    return placement


def _refer(
    parameters: MessageMap[str, inference.InferParameter],
    region: Region,
    at: int,
    size: int,
) -> None:
    parameters["shared_memory_region"].string_param = region.name
    parameters["shared_memory_byte_size"].int64_param = size
    if at:
        parameters["shared_memory_offset"].int64_param = at


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
