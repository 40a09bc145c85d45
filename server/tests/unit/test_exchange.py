"""Batches on their way into a slot: where their inputs stand, and whose bytes are where."""

from __future__ import annotations

import dataclasses
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
from jitney.scheduling.placement import place
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


class Elsewhere:
    """A ``types.RemoteBuffer``."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        """Return how many bytes there are."""
        return len(self._data)

    def read(self) -> bytes:
        """Return a copy."""
        raise AssertionError

    def read_into(self, region: memoryview) -> None:
        """Copy them."""
        region[:] = self._data


def entry_of(key: BatchKey, rows: int, seed: int, carrier: EchoCarrier, *, row: int = -1) -> Entry:
    """Return an entry whose bytes follow from the seed."""
    headers, data = [], []
    present = [given for given in key.inputs if given is not None]
    for i, (datatype, dims) in enumerate(present):
        headers.append(TensorHeader(str(i), datatype, (rows, *dims) if key.batched else dims))
        elements = rows * math.prod(dims)
        if datatype is DataType.BYTES:
            text = b"%d" % seed
            data.append((struct.pack("<I", len(text)) + text) * elements)
        else:
            data.append(bytes([seed % 256]) * elements * datatype.item_size)
    request = Request(RequestHeader("m", "", tuple(headers)), data, carrier)
    order = tuple(range(len(present)))
    return Entry(request, key, rows, 0, 0.0, Ends(), inputs=order, row=row)


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


def test_what_requests_leave_out_has_no_place() -> None:
    """An absent input is None; those behind it stand as if it had never been declared."""
    key = dataclasses.replace(
        key_of([(DataType.FP32, (2,)), (DataType.UINT8, (3,))]),
        inputs=((DataType.FP32, (2,)), None, (DataType.UINT8, (3,))),
    )
    entries = [entry_of(key, n, n, CARRIERS[n % 2]) for n in (1, 2)]
    slots = slots_of()

    first, absent, last = gather(batch_of(key, *entries), slots, 0)

    assert absent is None
    assert first is not None
    assert last is not None
    assert ((3, 2), (3, 3), ALIGNMENT) == (first.shape, last.shape, last.offset)
    for i, tensor in enumerate((first, last)):
        region = slots.memory.inputs[0][tensor.offset : tensor.offset + tensor.nbytes]
        assert b"".join(entry.request.data[i] for entry in entries) == region


def test_bytes_that_are_elsewhere_are_fetched_into_the_slot() -> None:
    """A buffer in shared memory is measured and read, and no copy of it is made before."""
    key = key_of([(DataType.UINT8, (3,)), (DataType.BYTES, (1,))])
    request = Request(
        RequestHeader("m", "", ()),
        [Elsewhere(b"abc"), Elsewhere(struct.pack("<I", 2) + b"de")],
        CARRIERS[0],
    )
    entry = Entry(request, key, 1, 9, 0.0, Ends(), inputs=(0, 1))
    slots = slots_of()

    tensors = gather(batch_of(key, entry), slots, 0)

    held = [slots.memory.inputs[0][t.offset : t.offset + t.nbytes] for t in tensors if t]
    assert [b"abc", b"\x02\0\0\0de"] == held


@given(
    INPUTS,
    st.sets(st.integers(0, 7), min_size=1).flatmap(lambda rows: st.permutations([*rows])),
    st.booleans(),
)
def test_rows_stand_where_they_have_to_and_gaps_are_filled(
    inputs: list[tuple[DataType, tuple[int, ...]]],
    rows: list[int],
    given: bool,  # noqa: FBT001
) -> None:
    """Whatever the order of the entries and the carriers: each its row, the others the fill."""
    sizes = [math.prod(dims) * (kind.item_size or 4) for kind, dims in inputs]
    filled = tuple(b"" if not given else bytes([7]) * size for size in sizes)
    if given:  # texts have a length, not only bytes
        filled = tuple(
            struct.pack("<I", 0) * math.prod(dims) if kind is DataType.BYTES else row
            for row, (kind, dims) in zip(filled, inputs, strict=True)
        )
    key = dataclasses.replace(key_of(inputs), fill=filled)
    entries = [entry_of(key, 1, row, CARRIERS[row % 2], row=row) for row in rows]
    batch = Batch(key, entries, 1 + max(rows), Reason.IDLE, "cpu", 0.0)
    slots = slots_of()
    slots.memory.inputs[0][:] = b"\xff" * SIZE

    tensors = gather(batch, slots, 0)

    by_row = {entry.row: entry for entry in entries}
    for i, tensor in enumerate(tensors):
        assert tensor is not None
        expected = b"".join(
            by_row[row].request.data[i] if row in by_row else filled[i] or bytes(sizes[i])
            for row in range(batch.rows)
        )
        assert expected == slots.memory.inputs[0][tensor.offset : tensor.offset + tensor.nbytes]
        assert batch.rows == tensor.shape[0]
    placed = place(batch)
    assert sorted(rows) == [p.first_row for _, p in placed]
    assert all(p.first_row == entry.row for entry, p in placed)
