"""Cells of a file become elements of a tensor, or are told."""

from __future__ import annotations

import math
import re
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from jitney.datatypes import DataType as D
from jitney.scoring.cells import array_of, column_of

BIG = (1 << 53) + 1
"""An integer that no float64 is."""


@pytest.mark.parametrize(
    ("datatype", "cells", "expected"),
    [
        (D.FP32, ["1.5", " 2", "1e3", "inf"], [1.5, 2.0, 1000.0, math.inf]),
        (D.INT64, [str(BIG), "-1", "2.0"], [BIG, -1, 2]),
        (D.UINT64, [str((1 << 64) - 1), "0"], [(1 << 64) - 1, 0]),
        (D.INT8, ["-128", "127"], [-128, 127]),
        (D.BOOL, ["true", "False", "1", "0"], [True, False, True, False]),
        (D.FP16, [1, True, 2.5], [1.0, 1.0, 2.5]),
        (D.INT32, np.array([1.0, -2.0]), [1, -2]),
        (D.FP64, np.array([1, 2], np.int8), [1.0, 2.0]),
        (D.INT16, np.array(["1", "2"]), [1, 2]),
        (D.BOOL, np.array([0, 1], np.uint8), [False, True]),
        (D.INT64, [Decimal(BIG), 2.0, True], [BIG, 2, 1]),
        (D.FP32, [Decimal("1.5"), 2], [1.5, 2.0]),
        (D.INT8, [b"1", b"2.0"], [1, 2]),
    ],
)
def test_what_fits_becomes_numbers(datatype: D, cells: Any, expected: list[Any]) -> None:
    """Texts are read, and kinds of numbers change where nothing is lost."""
    bad: dict[int, str] = {}

    column = column_of(cells, datatype, bad)

    assert ({}, expected) == (bad, column.tolist())
    assert np.dtype({"FP16": "f2", "BF16": "f4"}.get(datatype.value, column.dtype)) == column.dtype


@pytest.mark.parametrize(
    ("datatype", "cells", "reasons"),
    [
        (
            D.FP32,
            ["1", "one", "", None],
            {1: "'one' is no FP32", 2: "it is empty", 3: "it is empty"},
        ),
        (D.FP32, ["1", "1e39"], {1: "1e+39 is no FP32"}),
        (D.FP16, np.array([1, 70_000]), {1: "70000 is no FP16"}),
        (D.INT32, ["1.5", "7"], {0: "'1.5' is no INT32"}),
        (D.INT32, [str(1 << 31)], {0: f"{1 << 31} is no INT32"}),
        (D.INT64, [str(1 << 63)], {0: f"'{1 << 63}' is no INT64"}),
        (D.INT64, np.array([2.0**63, 1.0]), {0: "9.223372036854775808e+18 is no INT64"}),
        (D.UINT8, np.array([255, -1, 256]), {1: "-1 is no UINT8", 2: "256 is no UINT8"}),
        (D.INT8, np.array([255], np.uint8), {0: "255 is no INT8"}),
        (D.INT64, np.array([np.nan, 1.5]), {0: "nan is no INT64", 1: "1.5 is no INT64"}),
        (D.BOOL, ["yes"], {0: "'yes' is no BOOL"}),
        (D.BOOL, np.array([0, 2]), {1: "2 is no BOOL"}),
        (D.INT32, [[1, 2]], {0: "[1, 2] is no INT32"}),
        (D.INT32, [Decimal("1.5"), Decimal(2)], {0: "1.5 is no INT32"}),
        (D.UINT64, [1.5, 2], {0: "1.5 is no UINT64"}),
        (D.INT64, [date(2020, 1, 1)], {0: "2020-01-01 is no INT64"}),
        (D.FP32, ["x" * 50], {0: f"'{'x' * 40}...' is no FP32"}),
    ],
)
def test_what_does_not_fit_is_told(datatype: D, cells: Any, reasons: dict[int, str]) -> None:
    """Each wrong cell is named, and is a zero; the others are as they should be."""
    bad: dict[int, str] = {}

    column = column_of(cells, datatype, bad)

    found = {row: _rounded(reason) for row, reason in bad.items()}
    assert {row: _rounded(reason) for row, reason in reasons.items()} == found
    assert [0] * len(reasons) == [column[row] for row in reasons]
    assert len(cells) == len(column)


def _rounded(reason: str) -> str:
    """Return a reason whose number is written as Python would, whatever NumPy's version does."""
    number, _, rest = reason.partition(" ")
    try:
        return f"{float(number):g} {rest}" if "e+18" in number else reason
    except ValueError:
        return reason


def test_texts_become_bytes() -> None:
    """Text is UTF-8, bytes that were none are kept, and nothing is no text."""
    bad: dict[int, str] = {}

    column = column_of(["ä", b"\0x\0", "\udcff", None, 5, ""], D.BYTES, bad)

    assert ["ä".encode(), b"\0x\0", b"\xff", b"", b"", b""] == column.tolist()
    assert {3: "it is empty", 4: "5 is no text"} == bad


def test_arrays_of_texts_become_bytes() -> None:
    """NumPy's texts as well; arrays of numbers do not."""
    bad: dict[int, str] = {}

    assert [[b"a"], [b"b"]] == column_of(np.array([["a"], ["b"]]), D.BYTES, bad).tolist()
    assert {} == bad
    column_of(np.array([1.5, 2.5]), D.BYTES, bad)
    assert {0: "1.5 is no text", 1: "2.5 is no text"} == bad


def test_a_wrong_element_makes_its_row_wrong() -> None:
    """Of an array of several dimensions, the row is named with its first wrong element."""
    bad: dict[int, str] = {}

    column = column_of(np.array([[1, 2], [3, 300], [400, -1]]), D.UINT8, bad)

    assert {1: "300 is no UINT8", 2: "400 is no UINT8"} == bad
    assert [1, 2] == column[0].tolist()


@pytest.mark.parametrize(
    ("value", "datatype", "dims", "expected"),
    [
        ("[1, 2, 3]", D.FP32, (3,), [1.0, 2.0, 3.0]),
        ([1, 2, 3, 4], D.INT32, (2, 2), [[1, 2], [3, 4]]),
        ([[1, 2], [3, 4]], D.INT32, (4,), [1, 2, 3, 4]),
        ([1, 2, 3, 4], D.INT32, (-1, 2), [[1, 2], [3, 4]]),
        ("[[1, 2], [3, 4]]", D.INT32, (-1, -1), [[1, 2], [3, 4]]),
        (5.0, D.FP32, (-1,), [5.0]),
        ("5", D.FP32, (-1,), [5.0]),
        ([], D.FP32, (-1,), []),
        ('["a", "b"]', D.BYTES, (2,), [b"a", b"b"]),
        (["a", b"b"], D.BYTES, (-1,), [b"a", b"b"]),
        ("one text", D.BYTES, (-1,), [b"one text"]),
        ([True, False], D.BOOL, (2,), [True, False]),
    ],
)
def test_lists_get_the_shape_of_the_row(
    value: object, datatype: D, dims: tuple[int, ...], expected: object
) -> None:
    """A cell holds the tensor of its row, as a list or as JSON, in its own shape or as one line."""
    assert expected == array_of(value, datatype, dims).tolist()


@pytest.mark.parametrize(
    ("value", "datatype", "dims", "reason"),
    [
        (None, D.FP32, (2,), "it is empty"),
        ("[1, 2", D.FP32, (2,), "'[1, 2' is no JSON of a list"),
        ([1, 2, 3], D.FP32, (2,), "it has 3 elements, the model takes [2]"),
        ([1, 2, 3], D.FP32, (-1, 2), "it has 3 elements, the model takes [-1, 2]"),
        ([1, 2, 3, 4], D.FP32, (-1, -1), "it has 4 elements, the model takes [-1, -1]"),
        ([1, "b"], D.FP32, (2,), "element 1: 'b' is no FP32"),
        ([1, None], D.FP32, (2,), "element 1: it is empty"),
        ([[1, 2], [3]], D.FP32, (2,), "its lists differ in length"),
        ([1.5], D.INT32, (1,), "1.5 is no INT32"),
    ],
)
def test_lists_that_do_not_fit_are_told(
    value: object, datatype: D, dims: tuple[int, ...], reason: str
) -> None:
    """The reason is one that whoever made the file can act on."""
    with pytest.raises(ValueError, match=rf"^{re.escape(reason)}$"):
        array_of(value, datatype, dims)
