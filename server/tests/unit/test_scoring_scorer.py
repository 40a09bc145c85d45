"""Rows go through a model in order, a bounded number at a time, and can go on later."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fake_endpoint import FakeEndpoint, doubling, error

from jitney.datatypes import DataType
from jitney.scoring.asking import Asker, Wishes
from jitney.scoring.journal import Journal
from jitney.scoring.mapping import map_columns
from jitney.scoring.model import Tensor
from jitney.scoring.scorer import BadRow, Pace, score
from jitney.scoring.table import Column, Table
from jitney_client import ModelNotFound

if TYPE_CHECKING:
    from pathlib import Path

    from jitney.scoring.scorer import Standing


class Rows:
    """A cursor over one column, ``x``; ``taken`` are the sizes of what was read."""

    def __init__(self, values: Any, first: int = 0) -> None:
        self._values = values
        self._next = first
        self.taken: list[int] = []

    @property
    def fraction(self) -> float:
        """The share of the values that was read."""
        return self._next / max(1, len(self._values))

    def take(self, rows: int) -> Table:
        """Return the next values."""
        first, part = self._next, self._values[self._next : self._next + rows]
        self._next += len(part)
        self.taken.append(len(part))
        return Table(first, len(part), {"x": part})

    def close(self) -> None:
        """Do nothing."""


def run(
    path: Path,
    cursor: Rows,
    endpoint: FakeEndpoint,
    model: Any = None,
    *,
    on_error: Any = "skip",
    **pace: int,
) -> list[Standing]:
    """Score into a journal; return what was told."""
    model = model or doubling()
    inputs = map_columns(model, [Column("x", "list")], {})
    told: list[Standing] = []
    with Journal(path, {}) as journal:
        asyncio.run(
            score(
                cursor,
                inputs,
                model,
                Asker(endpoint, model, Wishes()),
                journal,
                pace=Pace(**pace),
                on_error=on_error,
                told=told.append,
            )
        )
    return told


def scored(path: Path) -> tuple[list[float | None], dict[int, str]]:
    """Return the first element of every row's output, and the errors, by row."""
    values: list[float | None] = []
    errors: dict[int, str] = {}
    with Journal(path, {}) as journal:
        for block in journal.read(["y"]):
            assert len(values) == block.first
            rows = block.outputs["y"]
            values += [
                None if row in block.errors else float(np.ravel(rows[row])[0])
                for row in range(block.rows)
            ]
            errors |= {block.first + row: why for row, why in block.errors.items()}
    return values, errors


def pairs(count: int) -> Any:
    """Return rows that begin with their number."""
    return np.stack([np.arange(count), np.zeros(count)], axis=1).astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 3000])
def test_all_rows_are_scored_in_order(tmp_path: Path, count: int) -> None:
    """Whatever their number; no request has more than the model takes."""
    endpoint = FakeEndpoint()

    told = run(tmp_path / "j", Rows(pairs(count)), endpoint)

    assert ([2.0 * i for i in range(count)], {}) == scored(tmp_path / "j")
    assert max(map(len, endpoint.sent), default=0) <= 4
    assert [count] == [standing.rows for standing in told][-1:] or not count
    assert sorted(told) == told


def test_requests_run_side_by_side(tmp_path: Path) -> None:
    """As many as was said, and no more; full, but for the last one."""
    endpoint = FakeEndpoint()

    run(tmp_path / "j", Rows(pairs(130)), endpoint, concurrency=3, rows=2)

    assert 3 == endpoint.together
    assert {2} == {len(sent) for sent in endpoint.sent}


def test_only_so_much_is_read_ahead(tmp_path: Path) -> None:
    """Of an endless file, no more is in memory than a few blocks."""
    cursor, endpoint = Rows(pairs(20_000)), FakeEndpoint(lambda f: error(ModelNotFound) if 4000.0 in f else None)  # noqa: E501 # fmt: skip

    with pytest.raises(ModelNotFound):
        run(tmp_path / "j", cursor, endpoint)
    assert sum(cursor.taken) < 4000 + 3 * 1024


def test_wide_rows_go_in_smaller_requests(tmp_path: Path) -> None:
    """A request has 8 MiB at most, whatever number of rows the model takes."""
    wide = doubling(64, inputs=(Tensor("x", DataType.FP32, (1 << 19,)),),
                    outputs=(Tensor("y", DataType.FP32, (1 << 19,)),))  # fmt: skip
    endpoint, cursor = FakeEndpoint(), Rows(np.zeros((20, 1 << 19), np.float32))

    run(tmp_path / "j", cursor, endpoint, wide, concurrency=1)

    assert {4} == {len(sent) for sent in endpoint.sent}


def test_bad_rows_are_skipped(tmp_path: Path) -> None:
    """Those that cannot be sent and those that are refused; all others have results."""
    values = [[float(i), 0.0] for i in range(10)]
    values[3] = ["three", 0.0]  # type: ignore[list-item]
    values[7] = [-1.0, 0.0]
    endpoint = FakeEndpoint()

    told = run(tmp_path / "j", Rows(values), endpoint)

    expected = [None if i in (3, 7) else 2.0 * i for i in range(10)]
    reasons = {3: "x: element 0: 'three' is no FP32", 7: "row with -1"}
    assert (expected, reasons) == scored(tmp_path / "j")
    assert 2 == told[-1].failed


def test_a_block_of_bad_rows_is_one_too(tmp_path: Path) -> None:
    """Nothing of it is sent, and what follows is in its place."""
    endpoint = FakeEndpoint()
    values = [None] * 4 + [[4.0, 0.0]]

    run(tmp_path / "j", Rows(values), endpoint)

    assert ([None] * 4 + [8.0], dict.fromkeys(range(4), "x: it is empty")) == scored(tmp_path / "j")
    assert [[4.0]] == endpoint.sent


def test_the_first_bad_row_can_be_the_end(tmp_path: Path) -> None:
    """What came before its block is kept, and nothing after it."""
    values = pairs(6000)
    values[5000, 0] = -1

    with pytest.raises(BadRow, match="row 5000: row with -1"):
        run(tmp_path / "j", Rows(values), FakeEndpoint(), on_error="stop")

    kept, errors = scored(tmp_path / "j")
    assert {} == errors
    assert 0 < len(kept) <= 5000


def test_a_run_that_ended_goes_on(tmp_path: Path) -> None:
    """What is noted is not sent again, and the result is the same."""
    values = pairs(5000)
    first = FakeEndpoint(lambda f: error(ModelNotFound) if 3000.0 in f else None)
    with pytest.raises(ModelNotFound):
        run(tmp_path / "j", Rows(values), first)
    done = len(scored(tmp_path / "j")[0])
    second = FakeEndpoint()

    told = run(tmp_path / "j", Rows(values, done), second)

    assert [2.0 * i for i in range(5000)] == scored(tmp_path / "j")[0]
    assert 5000 - done == sum(map(len, second.sent))
    assert (done, 1.0) == (told[-1].before, told[-1].fraction)


def test_rows_of_different_shapes_do_not_share_a_request(tmp_path: Path) -> None:
    """Each request has rows of one shape; their results go back to their own places."""
    model = doubling(4, inputs=(Tensor("x", DataType.FP32, (-1,)),),
                     outputs=(Tensor("y", DataType.FP32, (-1,)),))  # fmt: skip
    values = [[float(i)] * (1 + i % 2) for i in range(8)]
    endpoint = FakeEndpoint()

    run(tmp_path / "j", Rows(values), endpoint, model)

    assert [2.0 * i for i in range(8)] == scored(tmp_path / "j")[0]
    assert [{i % 2 for i in sent} for sent in endpoint.sent] == [{0}, {1}] * (
        len(endpoint.sent) // 2
    )
