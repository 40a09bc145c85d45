"""BYTES tensors are walked in runs, and the walk agrees with one that is not clever."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.strings import STRETCH, blocks, first_not_text, row_offsets, run_length

LENGTHS = st.lists(
    st.tuples(st.integers(0, 300), st.sampled_from([1, 2, 63, 64, 65, 700, STRETCH + 1])),
    max_size=6,
)


def raw(*elements: bytes) -> bytes:
    """Return a BYTES tensor."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def tensor_of(runs: list[tuple[int, int]]) -> tuple[bytes, list[int]]:
    """Return a tensor with runs of elements of one length, and where its elements start."""
    parts, starts, at = [], [], 0
    for length, count in runs:
        for _ in range(count):
            starts.append(at)
            parts.append(struct.pack("<I", length) + b"x" * length)
            at += len(parts[-1])
    return b"".join(parts), starts


@given(LENGTHS)
def test_every_element_is_found(runs: list[tuple[int, int]]) -> None:
    """Starts come in order, each once, and the last block ends where the tensor does."""
    data, starts = tensor_of(runs)
    found = list(blocks(memoryview(data), len(starts) + 1))

    assert starts == [start for block, _ in found for start in block]
    assert len(data) == (found[-1][1] if found else 0)


@given(LENGTHS, st.integers(1, 2000))
def test_no_more_elements_are_walked_than_wanted(runs: list[tuple[int, int]], most: int) -> None:
    """The walk ends behind so many elements, whatever follows."""
    data, starts = tensor_of(runs)

    assert starts[:most] == [start for block, _ in blocks(data, most) for start in block]


@given(LENGTHS, st.integers(1, 10))
def test_what_is_cut_off_ends_behind_the_data(runs: list[tuple[int, int]], missing: int) -> None:
    """The last element is reported with an end beyond that of the data, unless it is gone whole."""
    data, starts = tensor_of([*runs, (20, 1)])
    short = data[:-missing]

    found = list(blocks(short, len(starts)))

    assert starts == [start for block, _ in found for start in block]
    assert found[-1][1] > len(short)


@given(st.binary(max_size=200), st.integers(0, 40))
def test_any_bytes_can_be_walked(data: bytes, expected: int) -> None:
    """Nothing raises, and no more elements are found than expected."""
    assert expected >= sum(len(block) for block, _ in blocks(data, expected))


def test_ten_million_elements_of_one_length_are_ten_blocks() -> None:
    """A large tensor of equally long elements is not walked one by one."""
    count = 10 << 20
    found = list(blocks(memoryview(raw(b"a") * count), count))

    size = 5 << 20
    assert [(range(at, at + size, 5), at + size) for at in range(0, 10 * size, size)] == found


@given(LENGTHS, st.integers(1, 7))
def test_rows_start_at_their_first_elements(runs: list[tuple[int, int]], elements: int) -> None:
    """Offsets are those of every row's first element, and the end of the last row."""
    data, starts = tensor_of(runs)
    rows = len(starts) // elements
    end = starts[rows * elements] if rows * elements < len(starts) else len(data)

    assert [*starts[: rows * elements : elements], end] == list(
        row_offsets(data[:end], rows, elements)
    )


def test_rows_without_elements_are_empty() -> None:
    """Where a dimension is 0 there is nothing between the offsets."""
    assert [0, 0, 0] == list(row_offsets(b"", 2, 0))


@pytest.mark.parametrize("lead", [(), (b"a",) * 100, (b"a", b"bc", b"\xe4\xb8\xad") * 50])
@pytest.mark.parametrize(
    ("element", "is_text"),
    [
        (b"\xff", False),
        (b"\xe4\xb8", False),
        (b"\xad\x80", False),
        ("ü".encode() * 200, True),
        (b"\0", True),
    ],
)
def test_elements_that_are_no_text_are_found(
    lead: tuple[bytes, ...], element: bytes, *, is_text: bool
) -> None:
    """Half a character is none, although its other half begins the next element."""
    data = raw(*lead, element, b"\xb8", *lead) if not is_text else raw(*lead, element, *lead)
    starts = [start for block, _ in blocks(data, 1000) for start in block]

    assert (None if is_text else len(lead)) == first_not_text(data, starts, len(data))


def test_a_run_of_equal_lengths_is_checked_as_one() -> None:
    """Elements of a run are named by their place in it."""
    data = raw(*["ü".encode()] * 500, b"\xff\xff", *[b"ab"] * 500)

    assert 500 == first_not_text(data, range(0, len(data), 6), len(data))


def test_the_length_of_a_run() -> None:
    """A run ends at the first number that differs, or where it may not go on."""
    data = b"\1\0" * 5000 + b"\2\0"

    assert [5000, 70, 0] == [
        run_length(data, 0, 2, 5001, "<u2", 1),
        run_length(data, 0, 2, 70, "<u2", 1),
        run_length(data, 0, 2, 70, "<u2", 2),
    ]
