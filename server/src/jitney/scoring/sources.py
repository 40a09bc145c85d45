"""Which reader and which writer a file's name asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jitney.errors import ConfigError
from jitney.scoring.csv_source import CsvSource
from jitney.scoring.npz_source import NpzSource
from jitney.scoring.parquet_source import ParquetSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jitney.scoring.table import Source

__all__ = ["open_source"]

READERS: Final[dict[str, Callable[[Path], Source]]] = {
    ".npz": NpzSource,
    ".npy": NpzSource,
    ".csv": CsvSource,
    ".tsv": CsvSource,
    ".parquet": ParquetSource,
}


def open_source(path: Path) -> Source:
    """Open a file of rows.

    :raises ConfigError: when its name has another ending, or it cannot be read.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        msg = f"{path}: expected a file that ends with {', '.join(READERS)}"
        raise ConfigError(msg)
    if not path.is_file():
        msg = f"{path}: there is no such file"
        raise ConfigError(msg)
    return reader(path)
