"""Batch buffers: what is shared, where tensors stand, and that no view leaves its slot."""

from __future__ import annotations

import mmap
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.datatypes import DataType
from jitney.execution.slots import SlotMemory, Slots
from jitney.execution.wire import Tensor, WireError

SIZE = 4096


@pytest.fixture
def slots() -> Slots:
    """Return three slots of one page each."""
    memory = SlotMemory.create(3, SIZE)
    memory.close_fd()
    return Slots(memory)


def test_both_sides_see_the_same_bytes() -> None:
    """What one mapping of the file writes into a slot, another one reads there."""
    ours = SlotMemory.create(2, SIZE)
    theirs = SlotMemory(os.dup(ours.fd), 2, ours.slot_bytes)

    ours.inputs[1][:5] = b"there"
    theirs.outputs[0][-4:] = b"back"

    assert (b"there", b"back") == (bytes(theirs.inputs[1][:5]), bytes(ours.outputs[0][-4:]))
    ours.close_fd()
    theirs.close_fd()


def test_slots_do_not_overlap() -> None:
    """Filling one region leaves all others as they were."""
    memory = SlotMemory.create(3, SIZE)
    memory.close_fd()
    memory.close_fd()
    regions = [*memory.inputs, *memory.outputs]

    for value, region in enumerate(regions, start=1):
        region[:] = bytes([value]) * len(region)

    assert [{value} for value in range(1, 7)] == [set(region) for region in regions]
    assert 2 * 3 * SIZE == len(memory.mapping) - mmap.PAGESIZE


def test_sizes_are_rounded_up_to_pages() -> None:
    """A slot has at least the bytes asked for, in whole pages, which page-locking needs."""
    memory = SlotMemory.create(1, mmap.PAGESIZE + 1)
    memory.close_fd()

    assert 2 * mmap.PAGESIZE == memory.slot_bytes


def test_a_slot_is_held_by_one_batch(slots: Slots) -> None:
    """Three can be held at once, all different, and one that was released is free again."""
    held = [slots.acquire() for _ in range(3)]
    assert "<Slots 0 of 3 free>" == repr(slots)

    slots.release(held[1])

    assert {0, 1, 2} == set(held)
    assert held[1] == slots.acquire()


def test_inputs_are_writable_views_of_their_slot(slots: Slots) -> None:
    """Each input has exactly its bytes at its offset, up to the last byte of the slot."""
    tensors = (Tensor(DataType.UINT8, (10,), 0, 10), Tensor(DataType.UINT8, (96,), 4000, 96))

    views = slots.inputs(1, tensors)
    for view in views:
        view[:] = b"x" * len(view)

    assert [10, 96] == [len(view) for view in views]
    assert b"x" * 10 + bytes(3990) + b"x" * 96 == bytes(slots.memory.inputs[1])


@pytest.mark.parametrize(("offset", "nbytes"), [(4000, 97), (4096, 1), (4160, 0), (0, 4097)])
def test_inputs_that_do_not_fit_are_refused(slots: Slots, offset: int, nbytes: int) -> None:
    """One byte behind the slot's end is one too many, and the text has both sizes."""
    tensors = (Tensor(DataType.UINT8, (1,), 0, 1), Tensor(DataType.UINT8, (1,), offset, nbytes))

    with pytest.raises(WireError) as caught:
        slots.inputs(0, tensors)

    assert f"{offset + nbytes} bytes do not fit into a slot of 4096" == str(caught.value)


def test_an_output_is_a_view_of_its_bytes(slots: Slots) -> None:
    """The bytes that a worker names are those it gets, up to the last one of its slot."""
    slots.memory.outputs[2][SIZE - 8 :] = b"12345678"

    data, offsets = slots.output(2, Tensor(DataType.FP32, (2,), SIZE - 8, 8), 2)

    assert (b"12345678", None) == (bytes(data), offsets)


def test_row_offsets_are_read_from_the_slot(slots: Slots) -> None:
    """For BYTES the table beside the data says where each row begins."""
    slots.memory.outputs[0][512:536] = struct.pack("<3Q", 0, 5, 9)

    data, offsets = slots.output(0, Tensor(DataType.BYTES, (2,), 0, 9, 512), 2)

    assert (9, [0, 5, 9]) == (len(data), offsets)


HUGE = (1 << 64) - 1


@pytest.mark.parametrize(
    ("offset", "nbytes"),
    [(SIZE, 1), (0, SIZE + 1), (SIZE - 1, 2), (HUGE, 0), (HUGE, HUGE), (0, HUGE), (1 << 63, 8)],
)
def test_an_output_outside_its_slot_is_refused(slots: Slots, offset: int, nbytes: int) -> None:
    """No number that a worker sends makes a view beyond its slot."""
    with pytest.raises(WireError):
        slots.output(0, Tensor(DataType.BYTES, (1,), offset, nbytes), 1)


@pytest.mark.parametrize(
    ("table", "at"),
    [
        ((1, 5, 9), 512),  # does not start at 0
        ((0, 5, 8), 512),  # does not end with the data
        ((0, 10, 9), 512),  # goes back
        ((0, HUGE, 9), 512),
        ((0, 5, 9), 516),  # not aligned
        ((0, 5, 9), SIZE - 16),  # ends outside
        ((0, 5, 9), (1 << 63) - 8),
    ],
)
def test_row_offsets_that_lie_are_refused(
    slots: Slots, table: tuple[int, int, int], at: int
) -> None:
    """A table must lie in the slot and ascend from 0 to the size of the data."""
    base = slots.memory.outputs[0]
    if at + 24 <= SIZE:
        base[at : at + 24] = struct.pack("<3Q", *table)

    with pytest.raises(WireError):
        slots.output(0, Tensor(DataType.BYTES, (2,), 0, 9, at), 2)


@given(
    st.integers(0, HUGE),
    st.integers(0, HUGE),
    st.integers(-1, (1 << 63) - 1),
    st.integers(0, (1 << 32) - 1),
)
def test_any_numbers_give_a_view_inside_or_a_refusal(
    offset: int, nbytes: int, row_offsets_at: int, rows: int
) -> None:
    """Fuzzed offsets, sizes and row counts never read out of bounds and never allocate."""
    memory = SlotMemory.create(1, SIZE)
    memory.close_fd()
    try:
        data, _ = Slots(memory).output(
            0, Tensor(DataType.BYTES, (1,), offset, nbytes, row_offsets_at), rows
        )
    except WireError:
        return
    assert nbytes == len(data) <= SIZE
