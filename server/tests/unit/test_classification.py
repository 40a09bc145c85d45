"""The highest elements of a row, as C++ would print them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.datatypes import DataType
from jitney.errors import InvalidRequest
from jitney.transport import classification
from jitney.transport.classification import NUMPY, top_classes


def elements(data: bytes) -> list[str]:
    """Return the texts of a BYTES tensor."""
    texts, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        texts.append(data[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return texts


def classes(array: np.ndarray[Any, Any], count: int, labels: tuple[str, ...] = ()) -> list[str]:
    """Return the classes of a table's rows."""
    datatype = {dtype: datatype for datatype, dtype in NUMPY.items()}[
        array.dtype.str.replace("|", "<")
    ]
    return elements(top_classes(datatype, array.tobytes(), len(array), count, labels)[1])


@pytest.mark.parametrize("datatype", NUMPY)
def test_the_highest_come_first(datatype: DataType) -> None:
    """Floats have six decimals, whole numbers none."""
    data = np.array([[1, 7, 3]], NUMPY[datatype]).tobytes()
    expected = ["7.000000:1", "3.000000:2"] if datatype.is_float else ["7:1", "3:2"]

    count, found = top_classes(datatype, data, 1, 2)

    assert (2, expected) == (count, elements(found))


def test_each_row_has_its_own() -> None:
    """All dimensions but the rows count as one."""
    table = np.array([[[1, 2], [3, 4]], [[8, 7], [6, 5]]], np.int64)

    assert ["4:3", "3:2", "8:0", "7:1"] == classes(table, 2)


def test_labels_follow_the_index() -> None:
    """An index without a label, or with an empty one, has none."""
    table = np.array([[3, 2, 1]], np.float32)

    assert ["3.000000:0:cat", "2.000000:1", "1.000000:2"] == classes(table, 3, ("cat", ""))


def test_there_are_no_more_classes_than_elements() -> None:
    """Asking for more gives all; of no elements, none."""
    assert (2, ["5:1", "-5:0"]) == (
        top_classes(DataType.INT8, b"\xfb\x05", 1, 1 << 62)[0],
        classes(np.array([[-5, 5]], np.int8), 1 << 62),
    )
    assert (0, b"") == top_classes(DataType.FP32, b"", 1, 3)


def test_what_is_not_a_number_comes_last() -> None:
    """Infinities are numbers."""
    table = np.array([[np.nan, -1, np.inf, -np.inf]], np.float64)

    assert ["inf:2", "-1.000000:1"] == classes(table, 4)[:2]


@given(
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=30), st.integers(1, 30)
)
def test_no_higher_element_is_left_out(values: list[int], count: int) -> None:
    """The values are the highest ones, in order, each at its index."""
    found = [
        tuple(map(int, text.split(":"))) for text in classes(np.array([values], np.int64), count)
    ]

    assert sorted(values, reverse=True)[:count] == [value for value, _ in found]
    assert all(values[index] == value for value, index in found)
    assert len({index for _, index in found}) == len(found)


@pytest.mark.parametrize("datatype", [d for d in DataType if d not in NUMPY])
def test_what_cannot_be_classified(datatype: DataType) -> None:
    """The text is the one that public clients compare."""
    with pytest.raises(InvalidRequest) as caught:
        top_classes(datatype, b"", 1, 1)

    assert (
        f"class result not available for output due to unsupported type '{datatype.value}'"
    ) == str(caught.value)


def test_a_row_has_a_million_elements_at_most() -> None:
    """One more is refused."""
    most = classification.MAX_ELEMENTS
    assert 1 == top_classes(DataType.INT8, bytes(most), 1, 1)[0]
    with pytest.raises(InvalidRequest) as caught:
        top_classes(DataType.INT8, bytes(most + 1), 1, 1)

    assert "classification output tensor too large" == str(caught.value)


def test_a_request_has_some_thousand_classes_at_most() -> None:
    """Each is a text that is made while nobody else is served, so all rows of a request count."""
    rows, most = 4, classification.MAX_TEXTS // 4
    table = np.zeros((rows, most + 1), np.int8).tobytes()
    assert most == top_classes(DataType.INT8, table, rows, most)[0]
    with pytest.raises(InvalidRequest) as caught:
        top_classes(DataType.INT8, table, rows, 1 << 62)

    assert (
        f"{most + 1} classes of each of 4 rows are wanted, and a request may have "
        f"{classification.MAX_TEXTS} classes; ask for fewer ('classification'), or for the output "
        "itself"
    ) == str(caught.value)
