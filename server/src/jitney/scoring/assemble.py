"""From a journal to the result, which is there as a whole or not at all."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Final

from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney.scoring.csv_sink import write_csv
from jitney.scoring.npz_sink import write_npz
from jitney.scoring.parquet_sink import write_parquet
from jitney.scoring.parquet_source import require_pyarrow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jitney.scoring.journal import Journal
    from jitney.scoring.layout import Layout
    from jitney.scoring.scored import Scored
    from jitney.scoring.table import Cursor, Source, Values

__all__ = ["FLAT", "assemble", "check_result", "errors_path"]

FLAT: Final = (".csv", ".tsv")
"""Endings of results in which every column holds a text."""
ENDINGS: Final = (".npz", *FLAT, ".parquet")


def check_result(out: Path) -> None:
    """Do nothing if a result can be written there, as far as can be known.

    :raises ConfigError: when its name has another ending or is a folder's, its own folder is not
        there, or pyarrow is missing.
    """
    if out.suffix.lower() not in ENDINGS:
        msg = f"-o {out}: expected a name that ends with {', '.join(ENDINGS)}"
        raise ConfigError(msg)
    if out.is_dir():
        msg = f"-o {out}: it is a folder"
        raise ConfigError(msg)
    if not out.parent.is_dir():
        msg = f"-o {out}: there is no folder {out.parent}"
        raise ConfigError(msg)
    if out.suffix.lower() == ".parquet":
        require_pyarrow(out)


def errors_path(out: Path) -> Path:
    """Return where the rows without a result are listed."""
    return out.with_name(f"{out.name}.errors.jsonl")


def assemble(out: Path, source: Source, journal: Journal, layout: Layout) -> None:
    """Write the result, and the list of the rows that have none, if there are any.

    Memory holds a block at a time. The result gets its name when it is complete and on the disk,
    and last of all: where it is, the list is there as well.

    :raises ConfigError: when the outputs are not what such a file can hold.
    :raises OSError: when there is no room for it.
    """
    if journal.failed:
        _whole(errors_path(out), partial(_write_errors, journal))
    else:
        errors_path(out).unlink(missing_ok=True)
    ending = out.suffix.lower()
    if ending == ".npz":
        kept = partial(_column, source, journal)
        _whole(out, lambda path: write_npz(path, layout, journal, kept))
    elif ending in FLAT:
        blocks = _blocks(source, journal, layout)
        _whole(out, lambda path: write_csv(path, out, layout, blocks))
    else:
        blocks = _blocks(source, journal, layout)
        binary = _binary(journal, layout)
        _whole(out, lambda path: write_parquet(path, layout, blocks, binary=binary))


def _whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside, and give it its name when it is on the disk."""
    # One name for all runs, so that what one of them left when it was killed does not stay: only
    # one at a time has the journal.
    beside = path.with_name(f".{path.name}.tmp")
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_errors(journal: Journal, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for scored in journal.read():
            for row, reason in scored.errors.items():
                line = json.dumps({"row": scored.first + row, "error": reason}, ensure_ascii=False)
                file.write(line.encode("utf-8", "replace").decode() + "\n")


def _blocks(
    source: Source, journal: Journal, layout: Layout
) -> Iterator[tuple[Scored, dict[str, Values]]]:
    """Yield each block with the columns that are kept; these are read from the source again."""
    cursor = source.cursor(0, layout.kept)
    try:
        for scored in journal.read(layout.names):
            columns: dict[str, Values] = {}
            if layout.kept:
                columns = _again(cursor, scored)
            yield scored, columns
    finally:
        cursor.close()


def _column(source: Source, journal: Journal, name: str) -> Iterator[Values]:
    """Yield one column that is kept, block by block."""
    cursor = source.cursor(0, [name])
    try:
        for scored in journal.read():
            yield _again(cursor, scored)[name]
    finally:
        cursor.close()


def _again(cursor: Cursor, scored: Scored) -> dict[str, Values]:
    """Return the columns of rows that were read before.

    :raises ConfigError: when they are not there any more.
    """
    table = cursor.take(scored.rows)
    if table.rows != scored.rows:
        msg = "the input file has fewer rows than it had: it changed meanwhile"
        raise ConfigError(msg)
    return table.columns


def _binary(journal: Journal, layout: Layout) -> frozenset[str]:
    """Return the outputs whose texts are not all UTF-8."""
    texts = [tensor.name for tensor in layout.outputs if tensor.datatype is DataType.BYTES]
    found = set()
    for scored in journal.read(texts) if texts else ():
        for name, rows in scored.outputs.items():
            arrays = [a for a in rows if a is not None] if isinstance(rows, list) else [rows]
            if not all(_is_utf8(text) for array in arrays for text in array.ravel()):
                found.add(name)
    return frozenset(found)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
