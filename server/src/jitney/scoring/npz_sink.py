"""Results as ``.npz``, array by array, so that no array is ever in memory as a whole."""

from __future__ import annotations

import zipfile
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from jitney.errors import ConfigError
from jitney.scoring.cells import DTYPES
from jitney.scoring.csv_sink import texts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from jitney.scoring.journal import Journal
    from jitney.scoring.layout import Layout
    from jitney.scoring.model import Tensor
    from jitney.scoring.table import Array, Column, Values

    Kept = Callable[[str], Iterator[Values]]

__all__ = ["write_npz"]


class _Form(NamedTuple):
    """What an array is: the shape of a row, and the type of an element."""

    row: tuple[int, ...]
    dtype: np.dtype[Any]


def write_npz(path: Path, layout: Layout, journal: Journal, kept: Kept) -> None:
    """Write every output as an array, and beside them which rows have no result.

    In such rows floats are NaN, other numbers 0, and texts empty. Texts are of dtype U where all
    are UTF-8, and S otherwise: NumPy's files have no other kind that is not unpickled.

    :param kept: yields a column that is kept, in parts.
    :raises ConfigError: when the rows of an output differ in shape.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for column in layout.keep:
            form = _form_of_kept(column, kept)
            parts = (_kept_part(values, form) for values in kept(column.name))
            _write(archive, column.name, journal.rows, form, parts)
        for tensor in layout.outputs:
            form = _form_of_output(tensor, journal)
            _write(archive, tensor.name, journal.rows, form, _output_parts(tensor, journal, form))
        flags = _Form((), np.dtype(np.bool_))
        _write(archive, layout.error, journal.rows, flags, _flags(journal))


def _write(
    archive: zipfile.ZipFile, name: str, rows: int, form: _Form, parts: Iterable[Array]
) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        _write_head(file, (rows, *form.row), form.dtype)
        for part in parts:
            # Not a view, which saves a copy: of dates there is none.
            file.write(part.astype(form.dtype, copy=False).tobytes())


def _write_head(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    head = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, head)


def _flags(journal: Journal) -> Iterator[Array]:
    for scored in journal.read():
        flags = np.zeros(scored.rows, np.bool_)
        flags[list(scored.errors)] = True
        yield flags


# -- outputs -------------------------------------------------------------------------------------


def _form_of_output(tensor: Tensor, journal: Journal) -> _Form:
    """Return what an output's rows have in common.

    :raises ConfigError: when that is not their shape.
    """
    shapes: set[tuple[int, ...]] = set()
    texts = _Texts()
    for scored in journal.read([tensor.name]):
        rows = scored.outputs[tensor.name]
        arrays = [a for a in rows if a is not None] if isinstance(rows, list) else [rows]
        for array in arrays:
            shapes.add(array.shape if isinstance(rows, list) else array.shape[1:])
            if array.dtype == object:
                texts.see(array.ravel().tolist())
    if len(shapes) > 1:
        found = " and ".join(str(list(shape)) for shape in sorted(shapes)[:2])
        msg = (
            f"{tensor.name}: its rows differ in shape ({found}), which those of an array cannot: "
            f"write to .parquet or .csv. Nothing has to be scored again if {journal.path.name} "
            "gets the name that belongs to the new result"
        )
        raise ConfigError(msg)
    row = next(iter(shapes), tuple(max(d, 0) for d in tensor.dims))
    dtype = DTYPES[tensor.datatype]
    return _Form(row, texts.dtype if dtype.hasobject else dtype)


def _output_parts(tensor: Tensor, journal: Journal, form: _Form) -> Iterator[Array]:
    for scored in journal.read([tensor.name]):
        rows = scored.outputs[tensor.name]
        if isinstance(rows, list):
            whole = np.zeros((scored.rows, *form.row), form.dtype)
            for row, array in enumerate(rows):
                if array is not None:
                    whole[row] = _as(array, form.dtype)
        else:
            whole = _as(rows, form.dtype)
        if scored.errors and whole.dtype.kind == "f":
            whole = whole.copy()
            whole[list(scored.errors)] = np.nan
        yield whole


def _as(array: Array, dtype: np.dtype[Any]) -> Array:
    if array.dtype == object and dtype.kind == "U":
        return np.array([text.decode() for text in array.ravel()], dtype).reshape(array.shape)
    return array.astype(dtype, copy=False)


# -- kept columns --------------------------------------------------------------------------------


def _form_of_kept(column: Column, kept: Kept) -> _Form:
    """Return what a column is: as it was in a file of NumPy's, texts where it comes from others."""
    if isinstance(column.native, tuple):
        dtype, row = column.native
        return _Form(row, dtype)
    texts = _Texts()
    for values in kept(column.name):
        texts.see([text.encode("utf-8", "surrogateescape") for text in texts_of(values)])
    return _Form((), texts.dtype)


def _kept_part(values: Values, form: _Form) -> Array:
    if isinstance(values, np.ndarray) and values.dtype == form.dtype:
        return values
    texts = texts_of(values)
    if form.dtype.kind == "S":
        return np.array([text.encode("utf-8", "surrogateescape") for text in texts], form.dtype)
    return np.array(texts, form.dtype)


class _Texts:
    """What texts have in common: how long the longest is, and whether all are UTF-8."""

    def __init__(self) -> None:
        self._bytes = self._characters = 1
        self._utf8 = True

    def see(self, texts: Iterable[bytes]) -> None:
        """Look at some."""
        for text in texts:
            self._bytes = max(self._bytes, len(text))
            try:
                self._characters = max(self._characters, len(text.decode()))
            except UnicodeDecodeError:
                self._utf8 = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest type that holds them all."""
        return np.dtype(f"U{self._characters}" if self._utf8 else f"S{self._bytes}")
