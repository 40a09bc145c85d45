"""Files of rows are read a few at a time, from any row on."""

from __future__ import annotations

import io
import itertools
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jitney.errors import ConfigError
from jitney.scoring.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jitney.scoring.table import Table

ROWS = 23


def all_of(path: Path, first: int = 0, step: int = 5) -> list[Table]:
    """Return what a cursor gives from a row on, and check that it ends."""
    with open_source(path) as source:
        cursor = source.cursor(first, [column.name for column in source.columns])
        tables = list(
            itertools.takewhile(lambda t: t.rows, (cursor.take(step) for _ in range(100)))
        )
        assert 1.0 == cursor.fraction
        assert 0 == cursor.take(step).rows
        cursor.close()
    return tables


def rows_of(path: Path, first: int = 0, step: int = 5) -> list[tuple[Any, ...]]:
    """Return the rows that a cursor gives, with their numbers."""
    rows: list[tuple[Any, ...]] = []
    for table in all_of(path, first, step):
        cells = [np.asarray(v).tolist() if isinstance(v, np.ndarray) else v
                 for v in table.columns.values()]  # fmt: skip
        numbers = range(table.first, table.first + table.rows)
        rows += zip(numbers, *cells, strict=True)
    return rows


def write_csv(path: Path) -> list[tuple[Any, ...]]:
    """Write a table of text; return its rows."""
    rows = [(i, str(i), f"text, {i}\nand more" if i % 3 else "") for i in range(ROWS)]
    path.write_text("n,t\n" + "".join(f'{n},"{t}"\n' for _, n, t in rows), encoding="utf-8-sig")
    return rows


def write_npz(save: Callable[..., None]) -> Callable[[Path], list[tuple[Any, ...]]]:
    """Return what writes arrays with a function of NumPy's."""

    def write(path: Path) -> list[tuple[Any, ...]]:
        n, t = np.arange(ROWS, dtype="<i2"), np.array([f"t{i}" for i in range(ROWS)])
        x = np.arange(ROWS * 6, dtype=np.float32).reshape(ROWS, 3, 2)
        save(path, n=n, t=t, x=x, f=np.asfortranarray(x))
        return [(i, i, f"t{i}", x[i].tolist(), x[i].tolist()) for i in range(ROWS)]

    return write


def write_parquet(path: Path) -> list[tuple[Any, ...]]:
    """Write columns in groups of four rows; return the rows."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [(i, i, None if i % 4 == 1 else f"t{i}", [float(i)] * (i % 3)) for i in range(ROWS)]
    table = pa.table(
        {
            "n": [row[1] for row in rows],
            "t": [row[2] for row in rows],
            "x": pa.array([row[3] for row in rows], pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, path, row_group_size=4)
    return rows


WRITERS = {
    "a.csv": write_csv,
    "b.npz": write_npz(np.savez),
    "c.npz": write_npz(np.savez_compressed),
    "d.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("first", [0, 1, 7, ROWS - 1, ROWS, ROWS + 5])
@pytest.mark.parametrize("step", [1, 5, 100])
def test_rows_are_read_from_any_row_on(tmp_path: Path, name: str, first: int, step: int) -> None:
    """Whatever the kind of file, the row to begin with and the rows at once: the same rows."""
    rows = WRITERS[name](tmp_path / name)

    assert rows[first:] == rows_of(tmp_path / name, first, step)


@pytest.mark.parametrize("name", WRITERS)
def test_columns_have_kinds(tmp_path: Path, name: str) -> None:
    """Numbers, texts and lists are told apart, without reading it all."""
    WRITERS[name](tmp_path / name)
    with open_source(tmp_path / name) as source:
        kinds = {column.name: column.kind for column in source.columns}
        assert source.rows == (None if name.endswith("csv") else ROWS)

    expected = {"n": "number", "t": "text", "x": "list", "f": "list"}
    assert {column: expected[column] for column in kinds} == kinds


def test_an_npy_has_one_column_without_a_name(tmp_path: Path) -> None:
    """A single array is read likewise."""
    np.save(tmp_path / "one.npy", np.arange(6).reshape(3, 2))

    assert [(0, [0, 1]), (1, [2, 3]), (2, [4, 5])] == rows_of(tmp_path / "one.npy")


def test_rows_of_a_wrong_length_are_broken(tmp_path: Path) -> None:
    """They are told by their number, and do not move the cells of others."""
    (tmp_path / "x.csv").write_text("a,b\n1,2\n\n3\n4,5,6\n7,8\n")

    (table,) = all_of(tmp_path / "x.csv")

    assert {1: "1 cells, the first line has 2", 2: "3 cells, the first line has 2"} == table.broken
    assert {"a": ["1", None, None, "7"], "b": ["2", None, None, "8"]} == table.columns


def test_a_quote_that_is_not_closed_is_no_text(tmp_path: Path) -> None:
    """Otherwise all that follows would be one cell of one row, and nobody would know."""
    (tmp_path / "x.csv").write_text('a,b\n1,2\n3,"4\n5,6\n7,8\n')

    (table,) = all_of(tmp_path / "x.csv")

    assert {1: "a quote is not closed (in 3 lines of the file, from a quote on)"} == table.broken
    assert {"a": ["1", None], "b": ["2", None]} == table.columns


def test_quotes_that_do_not_fit_break_their_row(tmp_path: Path) -> None:
    """Also among the first rows, which say what kind a column is; the others are read."""
    (tmp_path / "x.csv").write_text('a,b\n1,"2"3\n3,"4\n5"6,7\n8,9\n')

    (table,) = all_of(tmp_path / "x.csv")

    wrong = "',' expected after '\"'"
    over = " (in 2 lines of the file, from a quote on)"
    assert {0: wrong, 1: wrong + over} == table.broken
    assert {"a": [None, None, "8"], "b": [None, None, "9"]} == table.columns


def test_tabs_stand_between_the_cells_of_a_tsv(tmp_path: Path) -> None:
    """The ending says it."""
    (tmp_path / "x.tsv").write_text("a\tb\n1,5\t2\n")

    assert [(0, "1,5", "2")] == rows_of(tmp_path / "x.tsv")


def test_bytes_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    """A text of another encoding arrives as it was written."""
    (tmp_path / "x.csv").write_bytes(b"t\n\xff\xfe\n")

    ((_, text),) = rows_of(tmp_path / "x.csv")

    assert b"\xff\xfe" == text.encode("utf-8", "surrogateescape")


def test_how_much_is_read_is_known(tmp_path: Path) -> None:
    """A progress bar of a file of text goes by its bytes."""
    (tmp_path / "x.csv").write_text("n\n" + "1\n" * 999)
    with open_source(tmp_path / "x.csv") as source:
        cursor = source.cursor(0, ["n"])
        cursor.take(499)
        assert 0.5 == cursor.fraction
        cursor.close()


def _zipped(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _described(shape: tuple[int, ...]) -> bytes:
    """Return an array that is nothing but what describes it."""
    file = io.BytesIO()
    head = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)
    return file.getvalue()


def _with_method(method: int) -> bytes:
    """Return an archive that says to be compressed by a method."""
    data = bytearray(_zipped(a=np.zeros(2)))
    for signature, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.index(signature) + place] = method
    return bytes(data)


def _with_flag(flag: int) -> bytes:
    """Return an archive whose file has a flag."""
    data = bytearray(_zipped(a=np.zeros(2)))
    for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + place] |= flag
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("x.txt", b"", "expected a file that ends with .npz, .npy, .csv, .tsv, .parquet"),
        ("x.csv", b"", "its first line has to name the columns"),
        ("x.csv", b"a,a\n", "two columns are called 'a'"),
        ("x.csv", "a,b\n1,2\n".encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        ("x.csv", b"a,b\r1,2\r", "its lines end with \\r alone"),
        ("x.npy", _described((-5, 2)), "the array has the shape [-5, 2]"),
        ("x.npy", _described((3, 10**15)), "the array ends too early"),
        ("x.npy", b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16, "that can be read: "),
        ("x.npz", _zipped(a=np.zeros(2, "i4,f4")), "save an array for each"),
        ("x.npz", _with_method(99), "compression method is not supported"),
        ("x.npz", _with_flag(1), "is encrypted"),
        ("x.npz", b"no zip", "not a file of NumPy's that can be read: File is not a zip file"),
        ("x.npy", b"no array", "not a file of NumPy's that can be read"),
        ("x.npz", _zipped(a=np.zeros(2), b=np.zeros(3)), "number of rows; it has a 2, b 3"),
        ("x.npz", _zipped(a=np.float64(1)), "a is a single number"),
        ("x.npz", _zipped(a=np.array([{}], object)), "a holds objects"),
        ("x.npz", _zipped(), "it has 0"),
        ("x.parquet", b"no parquet", "not a Parquet file that can be read"),
    ],
)  # fmt: skip
def test_files_that_are_none_are_said_to_be(
    tmp_path: Path, name: str, content: bytes, text: str
) -> None:
    """The error names the file and what is wrong with it."""
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ConfigError) as caught, open_source(tmp_path / name):
        pass

    assert str(tmp_path / name) in str(caught.value)
    assert text in str(caught.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Nor is a folder one."""
    with pytest.raises(ConfigError, match="there is no such file"):
        open_source(tmp_path / "x.csv")


def test_a_file_that_is_cut_short_is_damaged(tmp_path: Path) -> None:
    """What its first bytes promise has to be there, when it is opened and when it is read."""
    path = tmp_path / "x.npy"
    np.save(path, np.arange(10_000))
    with open_source(path) as source:
        cursor = source.cursor(0, [""])
        os.truncate(path, path.stat().st_size - 8)
        with pytest.raises(ConfigError, match="can be read: the array ends too early"):
            open_source(path)
        cursor.take(50)
        with pytest.raises(ConfigError, match="damaged, or changed meanwhile: it ends too early"):
            cursor.take(9950)
        cursor.close()
