"""Batches on their way into a slot: where their inputs stand, and whose bytes are where."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.datatypes import DataType
from jitney.execution.exchange import gather
from jitney.execution.slots import ALIGNMENT, SlotMemory, Slots
from jitney.execution.wire import WireError
from jitney.scheduling.batch import Batch, BatchKey, Entry, Reason
from jitney.signature import TensorSpec
from jitney.testing import EchoCarrier, Ends
from jitney.types import ModelRef, Request, RequestHeader, TensorHeader

SIZE = 1 << 16
INPUTS = st.lists(
    st.tuples(
        st.sampled_from([DataType.UINT8, DataType.FP32, DataType.INT64, DataType.BYTES]),
        st.sampled_from([(), (1,), (3,), (2, 0), (5, 7)]),
    ),
    min_size=1,
    max_size=5,
)
CARRIERS = (EchoCarrier(), EchoCarrier())


def key_of(inputs: list[tuple[DataType, tuple[int, ...]]], *, batched: bool = True) -> BatchKey:
    """Return a key with the inputs."""
    return BatchKey(
        ModelRef("m", 1),
        tuple(inputs),
        (TensorSpec("y", DataType.FP32, ("N",) if batched else ()),),
        max_rows=8,
        max_bytes=SIZE,
        batched=batched,
    )


def entry_of(key: BatchKey, rows: int, seed: int, carrier: EchoCarrier) -> Entry:
    """Return an entry whose bytes follow from the seed."""
    headers, data = [], []
    for i, (datatype, dims) in enumerate(key.inputs):
        headers.append(TensorHeader(str(i), datatype, (rows, *dims) if key.batched else dims))
        elements = rows * math.prod(dims)
        if datatype is DataType.BYTES:
            text = b"%d" % seed
            data.append((struct.pack("<I", len(text)) + text) * elements)
        else:
            data.append(bytes([seed % 256]) * elements * datatype.item_size)
    request = Request(RequestHeader("m", "", tuple(headers)), data, carrier)
    order = tuple(range(len(key.inputs)))
    return Entry(request, key, rows, 0, 0.0, Ends(), inputs=order)


def batch_of(key: BatchKey, *entries: Entry) -> Batch:
    """Return a batch of the entries."""
    return Batch(key, list(entries), sum(e.rows for e in entries), Reason.IDLE, "cpu", 0.0)


def slots_of(size: int = SIZE) -> Slots:
    """Return two slots."""
    memory = SlotMemory.create(2, size)
    memory.close_fd()
    return Slots(memory)


@given(INPUTS, st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_inputs_stand_one_after_the_other_and_hold_every_row(
    inputs: list[tuple[DataType, tuple[int, ...]]], rows: list[int]
) -> None:
    """Whatever the inputs: aligned places that do not overlap, with all bytes in order."""
    key = key_of(inputs)
    entries = [entry_of(key, n, seed, CARRIERS[0]) for seed, n in enumerate(rows)]
    slots = slots_of()

    tensors = gather(batch_of(key, *entries), slots, 1)

    end = 0
    for i, tensor in enumerate(tensors):
        datatype, dims = key.inputs[i]
        assert (datatype, (sum(rows), *dims)) == (tensor.datatype, tensor.shape)
        assert 0 == tensor.offset % ALIGNMENT
        assert end <= tensor.offset < end + ALIGNMENT
        end = tensor.offset + tensor.nbytes
        expected = b"".join(entry.request.data[i] for entry in entries)
        assert expected == slots.memory.inputs[1][tensor.offset : end]


def test_requests_of_two_carriers_may_take_turns() -> None:
    """Each carrier fills its own rows, wherever they are."""
    key = key_of([(DataType.FP32, (2,)), (DataType.UINT8, ())])
    entries = [entry_of(key, n, n, CARRIERS[n % 2]) for n in (1, 2, 3, 1)]
    slots = slots_of()

    tensors = gather(batch_of(key, *entries), slots, 0)

    for i, tensor in enumerate(tensors):
        region = slots.memory.inputs[0][tensor.offset : tensor.offset + tensor.nbytes]
        assert b"".join(entry.request.data[i] for entry in entries) == region


def test_without_batch_dimension_shapes_are_the_requests_own() -> None:
    """No number of rows is put before them."""
    key = key_of([(DataType.FP32, (2, 3))], batched=False)

    [tensor] = gather(batch_of(key, entry_of(key, 1, 7, CARRIERS[0])), slots_of(), 0)

    assert ((2, 3), 24) == (tensor.shape, tensor.nbytes)


@pytest.mark.parametrize("datatype", [DataType.UINT8, DataType.BYTES])
def test_a_batch_that_does_not_fit_is_refused(datatype: DataType) -> None:
    """Limits of the key rule it out; when they are wrong nothing is written beyond the slot."""
    key = key_of([(datatype, (SIZE,))])

    with pytest.raises(WireError, match="do not fit into a slot of"):
        gather(batch_of(key, entry_of(key, 2, 1, CARRIERS[0])), slots_of(), 0)
