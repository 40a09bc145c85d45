"""Results are written as whole files, of each kind, with the rows in order."""

from __future__ import annotations

import csv
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jitney.datatypes import DataType as D
from jitney.errors import ConfigError
from jitney.scoring.assemble import FLAT, assemble, check_result, errors_path
from jitney.scoring.journal import Journal
from jitney.scoring.layout import layout_of
from jitney.scoring.model import Tensor
from jitney.scoring.scored import Scored
from jitney.scoring.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jitney.scoring.layout import Layout
    from jitney.scoring.table import Source

OUTPUTS = (
    Tensor("pair", D.FP32, (2,)),
    Tensor("one", D.INT16, (1,)),
    Tensor("flag", D.BOOL, ()),
    Tensor("half", D.FP16, (1, 1)),
    Tensor("square", D.FP64, (2, 2)),
    Tensor("text", D.BYTES, (1,)),
    Tensor("words", D.BYTES, (-1,)),
)


def texts(*values: bytes) -> Any:
    """Return texts as the client has them."""
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(-1, 1)


def block(first: int, rows: int, **errors: str) -> Scored:
    """Return rows whose numbers are all over their outputs."""
    n = np.arange(first, first + rows)
    outputs = {
        "pair": np.stack([n + 0.1, -n], axis=1).astype(np.float32),
        "one": n.astype(np.int16).reshape(-1, 1),
        "flag": n % 2 == 0,
        "half": n.astype(np.float16).reshape(-1, 1, 1),
        "square": np.stack([n] * 4, axis=1).astype(np.float64).reshape(-1, 2, 2),
        "text": texts(*(f"tä{i}".encode() for i in n)),
        "words": np.repeat(texts(*(b"w%d" % i for i in n)), 2, axis=1),
    }
    return Scored(first, rows, outputs, {int(row[1:]): why for row, why in errors.items()})


BLOCKS = (block(0, 3, _1="too long"), block(3, 2))


def assembled(
    folder: Path,
    ending: str,
    blocks: Sequence[Scored] = BLOCKS,
    outputs: Sequence[Tensor] = OUTPUTS,
    keep: Sequence[str] = (),
    source: str = "n\n" + "".join(f"{i}0\n" for i in range(5)),
) -> Path:
    """Write a result from a journal; return its path."""
    (folder / "in.csv").write_text(source)
    out = folder / f"out{ending}"
    with open_source(folder / "in.csv") as rows, Journal(folder / "j", {}) as journal:
        for one in blocks:
            journal.append(one)
        assemble(out, rows, journal, layout(rows, outputs, keep, out))
        journal.delete()
    (folder / "in.csv").unlink()
    return out


def layout(source: Source, outputs: Sequence[Tensor], keep: Sequence[str], out: Path) -> Layout:
    """Return what the result has."""
    return layout_of(source.columns, keep, outputs, "error", flat=out.suffix in FLAT)


def parquet(path: Path) -> Any:
    """Read a file with pyarrow, if there is one."""
    pq = pytest.importorskip("pyarrow.parquet")
    return pq.read_table(path)


def test_texts_have_a_column_for_each_element(tmp_path: Path) -> None:
    """Numbers as short as they mean the same, lists as JSON, and nothing where a row failed."""
    out = assembled(tmp_path, ".csv", keep=["n"])

    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert ["n", "pair_0", "pair_1", "one", "flag", "half", "square", "text", "words", "error"] == rows[0]  # noqa: E501 # fmt: skip
    assert ["00", "0.1", "0.0", "0", "true", "0.0", "[[0.0, 0.0], [0.0, 0.0]]", "tä0", '["w0", "w0"]', ""] == rows[1]  # noqa: E501 # fmt: skip
    assert ["10", *[""] * 8, "too long"] == rows[2]
    assert ["40", "4.1", "-4.0", "4", "true", "4.0", "[[4.0, 4.0], [4.0, 4.0]]", "tä4", '["w4", "w4"]', ""] == rows[5]  # noqa: E501 # fmt: skip
    assert 6 == len(rows)


def test_tabs_stand_between_the_cells_of_a_tsv(tmp_path: Path) -> None:
    """The ending says it."""
    out = assembled(tmp_path, ".tsv", outputs=OUTPUTS[1:3], keep=["n"])

    assert ["n", "one", "flag", "error"] == out.read_text().splitlines()[0].split("\t")


def test_arrays_have_every_row(tmp_path: Path) -> None:
    """Of the type that the model gave; rows that failed are NaN, 0 or empty, and marked."""
    out = assembled(tmp_path, ".npz", keep=["n"])

    with np.load(out) as found:
        arrays = dict(found)
    assert ["n", *(t.name for t in OUTPUTS), "error"] == list(arrays)
    assert [False, True, False, False, False] == arrays["error"].tolist()
    assert (np.float32, (5, 2)) == (arrays["pair"].dtype, arrays["pair"].shape)
    assert [True, True] == np.isnan(arrays["pair"][1]).tolist()
    assert math.isnan(arrays["half"][1, 0, 0])
    assert [[4.0, 4.0], [4.0, 4.0]] == arrays["square"][4].tolist()
    assert (np.int16, [[0], [1], [2], [3], [4]]) == (arrays["one"].dtype, arrays["one"].tolist())
    assert (np.dtype("U3"), "tä4") == (arrays["text"].dtype, arrays["text"][4, 0])
    assert ["w4", "w4"] == arrays["words"][4].tolist()
    assert ["00", "10", "20", "30", "40"] == arrays["n"].tolist()


def test_columns_have_types(tmp_path: Path) -> None:
    """Lists where a row has several elements, nulls where it has none."""
    table = parquet(assembled(tmp_path, ".parquet", keep=["n"]))

    types = {field.name: str(field.type) for field in table.schema}
    assert {
        "n": "string",
        "pair": "list<element: float>",
        "one": "int16",
        "flag": "bool",
        "half": "halffloat",
        "square": "list<element: list<element: double>>",
        "text": "string",
        "words": "list<element: string>",
        "error": "string",
    } == types
    rows = table.to_pylist()
    assert dict.fromkeys(types) | {"n": "10", "error": "too long"} == rows[1]
    assert {
        "n": "40",
        "pair": [pytest.approx(4.1), -4.0],
        "one": 4,
        "flag": True,
        "half": 4.0,
        "square": [[4.0, 4.0], [4.0, 4.0]],
        "text": "tä4",
        "words": ["w4", "w4"],
        "error": None,
    } == rows[4]


@pytest.mark.parametrize("ending", [".csv", ".npz", ".parquet"])
def test_failed_rows_are_listed(tmp_path: Path, ending: str) -> None:
    """A line of JSON for each, in a file beside; nothing else is left there."""
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    out = assembled(tmp_path, ending)

    lines = errors_path(out).read_text().splitlines()
    assert [{"row": 1, "error": "too long"}] == [json.loads(line) for line in lines]
    assert {out, errors_path(out)} == set(tmp_path.iterdir())


def test_a_list_of_an_earlier_run_goes_away(tmp_path: Path) -> None:
    """Where every row has a result, no file says otherwise."""
    errors_path(tmp_path / "out.csv").write_text("{}")

    out = assembled(tmp_path, ".csv", [block(0, 5)])

    assert {out} == set(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".csv", ".npz", ".parquet"])
def test_no_rows_make_an_empty_result(tmp_path: Path, ending: str) -> None:
    """It has its columns all the same."""
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    with open_source(assembled(tmp_path, ending, [], OUTPUTS[1:3], source="n\n")) as result:
        assert ["one", "flag", "error"] == [column.name for column in result.columns]


@pytest.mark.parametrize("ending", [".csv", ".npz", ".parquet"])
def test_a_block_without_any_result_is_no_obstacle(tmp_path: Path, ending: str) -> None:
    """Nobody knows the shape of its rows."""
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    nothing: dict[str, Any] = {tensor.name: [None, None] for tensor in OUTPUTS}
    blocks = [Scored(0, 2, nothing, {0: "a", 1: "b"}), block(2, 3)]

    out = assembled(tmp_path, ending, blocks)

    if ending == ".csv":
        lines = out.read_text().splitlines()
        assert [",,,,,,,,a", ",,,,,,,,b"] == lines[1:3]
    elif ending == ".npz":
        assert [True, True, False, False, False] == np.load(out)["error"].tolist()
    else:
        assert [None, None, 2, 3, 4] == parquet(out)["one"].to_pylist()


LENGTHS = (Tensor("y", D.FP32, (-1,)),)
RAGGED = Scored(0, 3, {"y": [np.ones(1, np.float32), None, np.ones(2, np.float32)]}, {1: "no"})


def test_rows_of_several_lengths(tmp_path: Path) -> None:
    """Columns of lists take them; an array cannot, and what was scored is not lost."""
    assert [[1.0], None, [1.0, 1.0]] == parquet(assembled(tmp_path, ".parquet", [RAGGED], LENGTHS))[
        "y"
    ].to_pylist()
    text = assembled(tmp_path, ".csv", [RAGGED], LENGTHS).read_text()
    assert ["y,error", "[1.0],", ",no", '"[1.0, 1.0]",'] == text.splitlines()

    with pytest.raises(ConfigError, match=r"y: its rows differ in shape \(\[1\] and \[2\]\)"):
        assembled(tmp_path, ".npz", [RAGGED], LENGTHS)
    assert (tmp_path / "j").exists()
    assert not list(tmp_path.glob("out.npz")) + list(tmp_path.glob(".*"))


def test_texts_that_are_no_utf8(tmp_path: Path) -> None:
    """Are bytes in a result that has types, and as they are in a text."""
    one = (Tensor("t", D.BYTES, (1,)),)
    blocks = [Scored(0, 2, {"t": texts(b"\xff", b"ok")})]

    assert [b"\xff", b"ok"] == parquet(assembled(tmp_path, ".parquet", blocks, one))[
        "t"
    ].to_pylist()
    assert [[b"\xff"], [b"ok"]] == np.load(assembled(tmp_path, ".npz", blocks, one))["t"].tolist()
    assert b"t,error\n\xff,\nok,\n" == assembled(tmp_path, ".csv", blocks, one).read_bytes()


@pytest.mark.parametrize("ending", [".csv", ".npz", ".parquet"])
@pytest.mark.parametrize("origin", ["in.npz", "in.parquet"])
def test_kept_columns_keep_their_types(tmp_path: Path, ending: str, origin: str) -> None:
    """Where both files have types, a column has the same one in both."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    n, x, t = np.arange(3, dtype=np.int8), np.ones((3, 2)), np.array(["a", "b", "c"])
    if origin == "in.npz":
        np.savez(tmp_path / origin, n=n, x=x, t=t)
    else:
        pq.write_table(pa.table({"n": n, "x": x.tolist(), "t": t}), tmp_path / origin)
    blocks = [Scored(0, 3, {"y": np.zeros(3, np.float32)})]
    outputs = (Tensor("y", D.FP32, ()),)
    out = tmp_path / f"out{ending}"
    with open_source(tmp_path / origin) as rows, Journal(tmp_path / "j", {}) as journal:
        for one in blocks:
            journal.append(one)
        assemble(out, rows, journal, layout(rows, outputs, ["*"], out))

    if ending == ".csv":
        assert '0,"[1.0, 1.0]",a,0.0,' == out.read_text().splitlines()[1]
    elif ending == ".parquet":
        types = [str(field.type) for field in pq.read_table(out).schema]
        assert ["int8", "list<element: double>", "string", "float", "string"] == types
    elif origin == "in.npz":
        found = np.load(out)
        assert [np.int8, np.float64] == [found["n"].dtype, found["x"].dtype]
        assert (3, 2) == found["x"].shape
    else:
        assert ["0", "1", "2"] == np.load(out)["n"].tolist()


def test_an_input_that_got_shorter_is_noticed(tmp_path: Path) -> None:
    """Kept columns would stand beside the wrong rows."""
    with pytest.raises(ConfigError, match="fewer rows than it had"):
        assembled(tmp_path, ".csv", keep=["n"], source="n\n1\n")


def test_names_are_used_once(tmp_path: Path) -> None:
    """A column that would hide another is refused before anything is scored."""
    (tmp_path / "in.csv").write_text("one,error,pair_1\n")
    with open_source(tmp_path / "in.csv") as source:
        for keep in ("one", "error", "pair_1"):
            with pytest.raises(ConfigError, match=f"would be called '{keep}'"):
                layout(source, OUTPUTS, [keep], tmp_path / "out.csv")
        with pytest.raises(ConfigError, match="--keep id: the file has no such column"):
            layout(source, OUTPUTS, ["id"], tmp_path / "out.csv")
        assert ("pair_1",) == layout(source, OUTPUTS, ["pair_1"], tmp_path / "out.npz").kept


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("out.xlsx", "expected a name that ends with .npz, .csv, .tsv, .parquet"),
        ("no/out.csv", "there is no folder"),
    ],
)
def test_a_place_for_the_result_is_checked(tmp_path: Path, name: str, text: str) -> None:
    """Before anything is scored."""
    with pytest.raises(ConfigError, match=text):
        check_result(tmp_path / name)


def kept(folder: Path, ending: str, **columns: Any) -> Path:
    """Write a result of five rows that keeps columns of a file of NumPy's; return its path."""
    np.savez(folder / "in.npz", **columns)
    out = folder / f"out{ending}"
    with open_source(folder / "in.npz") as rows, Journal(folder / "j", {}) as journal:
        journal.append(block(0, 5))
        assemble(out, rows, journal, layout(rows, OUTPUTS[1:2], ["*"], out))
        journal.delete()
    return out


DATES = np.arange("2020-01-01", "2020-01-06", dtype="M8[D]")


def test_dates_are_kept(tmp_path: Path) -> None:
    """As such where the result has them."""
    with np.load(kept(tmp_path, ".npz", when=DATES)) as found:
        assert DATES.tolist() == found["when"].tolist()
    line = kept(tmp_path, ".csv", when=DATES).read_text().splitlines()[1]
    assert "2020-01-01" == line.split(",")[0]
    assert DATES.tolist() == parquet(kept(tmp_path, ".parquet", when=DATES))["when"].to_pylist()


def test_what_parquet_does_not_have_is_kept_as_text(tmp_path: Path) -> None:
    """Complex numbers, for one."""
    pytest.importorskip("pyarrow")
    table = parquet(kept(tmp_path, ".parquet", z=np.arange(5) * 1j))

    assert ["0j", "1j"] == table["z"].to_pylist()[:2]


@pytest.mark.parametrize("ending", [".npz", ".parquet"])
def test_a_name_that_is_no_text_is_refused_in_time(tmp_path: Path, ending: str) -> None:
    """Before anything is scored; a .csv has it as it was."""
    (tmp_path / "in.csv").write_bytes(b"n\xff\n1\n")
    with open_source(tmp_path / "in.csv") as source:
        (name,) = (column.name for column in source.columns)
        with pytest.raises(ConfigError, match="a name that is no UTF-8"):
            layout(source, OUTPUTS[1:2], ["*"], tmp_path / f"out{ending}")
        assert (name,) == layout(source, OUTPUTS[1:2], ["*"], tmp_path / "out.csv").kept


def test_a_reason_that_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    """It may name a column by bytes that are none."""
    pytest.importorskip("pyarrow")
    table = parquet(assembled(tmp_path, ".parquet", [block(0, 5, _2="n\udcff: it is empty")]))

    assert "n?: it is empty" == table["error"][2].as_py().replace("\ufffd", "?")


@pytest.mark.parametrize("ending", [".csv", ".npz"])
def test_an_input_that_became_shorter_is_noticed(tmp_path: Path, ending: str) -> None:
    """What is kept of it would be of other rows, or of none."""
    with pytest.raises(ConfigError, match="fewer rows than it had"):
        assembled(tmp_path, ending, keep=["n"], source="n\n00\n")
    assert not (tmp_path / f"out{ending}").exists()


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    """Half a result has one name, whichever process writes it."""
    (tmp_path / ".out.csv.tmp").write_text("half")

    out = assembled(tmp_path, ".csv", [block(0, 5)])

    assert {out} == set(tmp_path.iterdir())
