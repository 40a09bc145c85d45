"""From a source to a journal: the rows in order, several requests at once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from jitney.scoring.scored import Scored, joined
from jitney_client.many import many_awaited
from jitney_client.progress import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from jitney.scoring.asking import Answer, Asker
    from jitney.scoring.journal import Journal
    from jitney.scoring.mapping import Inputs, Prepared
    from jitney.scoring.model import Model
    from jitney.scoring.table import Array, Cursor

    Told = Callable[["Standing"], None]

__all__ = ["BadRow", "Pace", "Standing", "score"]

REQUEST_BYTES: Final = 8 << 20
"""Of the inputs of one request, unless a single row has more: servers take 64 MiB and more."""
BLOCK_ROWS: Final = 1024
BLOCK_BYTES: Final = 16 << 20
"""A block is what is read, and noted, at once: at least a request's worth of rows."""
SYNC_EVERY: Final = 1.0
"""Seconds of work that may be lost when the machine stops."""


class BadRow(Exception):
    """A row that the model cannot take, where that was to end the run."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"row {row}: {reason}")


class Pace(NamedTuple):
    """How much at once: ``rows`` in a request, 0 for as many as the model takes."""

    rows: int = 0
    concurrency: int = 8


class Standing(NamedTuple):
    """How far it is: rows of this run, rows before it, failed rows of both, share of the file."""

    rows: int
    before: int
    failed: int
    fraction: float


@dataclass(slots=True)
class _Block:
    """Rows that were read together, and what came of them so far."""

    first: int
    rows: int
    fraction: float
    outputs: dict[str, list[Array | None]]
    errors: dict[int, str] = field(default_factory=dict)


class _Part(NamedTuple):
    """Rows of a block that are sent together. ``is_last`` of its block."""

    block: _Block
    rows: list[int]
    inputs: dict[str, Array]
    is_last: bool


async def score(
    cursor: Cursor,
    inputs: Inputs,
    model: Model,
    asker: Asker,
    journal: Journal,
    *,
    pace: Pace,
    on_error: Literal["skip", "stop"],
    told: Told,
) -> None:
    """Score all rows that ``cursor`` still gives, and note them.

    Rows are read in another thread; what is in memory at once is bounded by blocks and requests,
    whatever the size of the file.

    :param told: is called after each block.
    :raises BadRow: for the first one, with ``stop``; what came before its block is noted.
    :raises jitney_client.JitneyError: when the server fails for other reasons than a row.
    :raises OSError: when there is no room for the journal.
    """
    before, synced = journal.rows, time.monotonic()
    parts = _parts(cursor, inputs, model, pace)

    async def ask(part: _Part) -> tuple[_Part, Answer]:
        return part, await asker.ask(part.inputs, len(part.rows))

    answers = many_awaited(ask, parts, pace.concurrency, Progress(None, None), return_errors=False)
    try:
        async for result in answers:
            part, answer = result  # type: ignore[misc]  # errors are raised
            block = part.block
            _take(block, part, answer)
            if not part.is_last:
                continue
            if block.errors and on_error == "stop":
                row, reason = min(block.errors.items())
                raise BadRow(block.first + row, reason)
            journal.append(_scored(block, model))
            if time.monotonic() - synced >= SYNC_EVERY:
                await asyncio.to_thread(journal.sync)
                synced = time.monotonic()
            told(Standing(journal.rows - before, before, journal.failed, block.fraction))
    finally:
        await answers.aclose()
        await parts.aclose()
        journal.sync()


async def _parts(
    cursor: Cursor, inputs: Inputs, model: Model, pace: Pace
) -> AsyncGenerator[_Part, None]:
    """Yield what is to be sent, block by block."""
    most = min(pace.rows or model.rows, model.rows) if model.batched else 1
    size = most

    def read() -> tuple[_Block, Prepared] | None:
        table = cursor.take(size)
        if not table.rows:
            return None
        outputs: dict[str, list[Array | None]] = {
            tensor.name: [None] * table.rows for tensor in model.outputs
        }
        block = _Block(table.first, table.rows, cursor.fraction, outputs)
        return block, inputs.prepare(table)

    while (found := await asyncio.to_thread(read)) is not None:
        block, prepared = found
        block.errors.update(prepared.bad)
        row_bytes = max(1, _bytes(prepared) // block.rows)
        size = max(most, min(_whole(BLOCK_ROWS, most), _whole(BLOCK_BYTES // row_bytes, most)))
        together = max(1, min(most, REQUEST_BYTES // row_bytes))
        groups = [rows for group in _alike(block, prepared) for rows in _cut(group, together)]
        # A block of which nothing can be sent takes its turn all the same.
        for number, rows in enumerate(groups or [[]], 1):
            yield _Part(block, rows, _chosen(prepared, rows), number >= len(groups))


def _whole(rows: int, most: int) -> int:
    """Return the next lower number of rows that makes requests of ``most`` without a rest."""
    return rows // most * most


def _bytes(prepared: Prepared) -> int:
    """Return what the inputs take, by and large."""
    total = 0
    for rows in prepared.tensors.values():
        for array in rows if isinstance(rows, list) else [rows]:
            if array.dtype == object:
                total += sum(len(element) for element in array.ravel())
            else:
                total += array.nbytes
    return total


def _alike(block: _Block, prepared: Prepared) -> list[list[int]]:
    """Return the rows that may be sent, those together whose inputs have the same shapes."""
    ragged = [rows for rows in prepared.tensors.values() if isinstance(rows, list)]
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for row in range(block.rows):
        if row not in prepared.bad:
            groups.setdefault(tuple(rows[row].shape for rows in ragged), []).append(row)
    return list(groups.values())


def _cut(rows: list[int], size: int) -> Iterator[list[int]]:
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]


def _chosen(prepared: Prepared, rows: list[int]) -> dict[str, Array]:
    chosen: dict[str, Array] = {}
    if not rows:
        return chosen
    for name, tensor in prepared.tensors.items():
        if isinstance(tensor, list):
            chosen[name] = np.stack([tensor[row] for row in rows])
        elif rows[-1] - rows[0] + 1 == len(rows):
            chosen[name] = tensor[rows[0] : rows[-1] + 1]  # no copy
        else:
            chosen[name] = tensor[rows]
    return chosen


def _take(block: _Block, part: _Part, answer: Answer) -> None:
    for place, row in enumerate(part.rows):
        for name, arrays in answer.outputs.items():
            block.outputs[name][row] = arrays[place]
        if place in answer.errors:
            block.errors[row] = answer.errors[place]


def _scored(block: _Block, model: Model) -> Scored:
    outputs = {t.name: joined(block.outputs[t.name], t.datatype) for t in model.outputs}
    return Scored(block.first, block.rows, outputs, dict(sorted(block.errors.items())))
