"""What a result has beside each row's outputs, and what it is all called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.scoring.model import Tensor
    from jitney.scoring.table import Column

__all__ = ["Layout", "layout_of"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a result: those kept of the source, the outputs, and what went wrong."""

    keep: tuple[Column, ...]
    outputs: tuple[Tensor, ...]
    error: str = "error"

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of the columns that are kept."""
        return tuple(column.name for column in self.keep)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return tuple(tensor.name for tensor in self.outputs)

    def flat(self) -> list[str]:
        """Return the columns where each holds a text: an output of K numbers has K of them."""
        return [*self.kept, *(c for t in self.outputs for c in spread(t)), self.error]


def layout_of(
    columns: Sequence[Column],
    keep: Sequence[str],
    outputs: Sequence[Tensor],
    error: str,
    *,
    flat: bool,
) -> Layout:
    """Put a layout together.

    :param columns: those of the source.
    :param keep: names of them; ``*`` is all.
    :param flat: whether every column of the result holds a text.
    :raises ConfigError: when there is no such column, two would have the same name, or the result
        cannot have a column of that name.
    """
    known = {column.name: column for column in columns}
    names = list(known) if "*" in keep else list(dict.fromkeys(keep))
    for name in names:
        if name not in known:
            msg = f"--keep {name}: the file has no such column; it has {', '.join(known)}"
            raise ConfigError(msg)
    layout = Layout(tuple(known[name] for name in names), tuple(outputs), error)
    found = layout.flat() if flat else [*layout.kept, *layout.names, error]
    if not flat and (odd := [name for name in found if not _is_utf8(name)]):
        msg = f"--keep {odd[0]!r}: a name that is no UTF-8, which only .csv and .tsv can have"
        raise ConfigError(msg)
    if twice := [name for name in found if found.count(name) > 1]:
        msg = (
            f"two columns of the result would be called {twice[0]!r}: leave it out of --keep, or "
            "give the errors another name with --error-column"
        )
        raise ConfigError(msg)
    return layout


def _is_utf8(name: str) -> bool:
    """Tell whether a name has no bytes in it that were no text in the file that it comes from."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def spread(tensor: Tensor) -> list[str]:
    """Return the columns of an output in a table of texts.

    One where a row has one element, ``NAME_0`` and so on where it has a known number of them in one
    dimension, and otherwise one that holds JSON.
    """
    if is_spread(tensor):
        return [f"{tensor.name}_{index}" for index in range(tensor.dims[0])]
    return [tensor.name]


def is_spread(tensor: Tensor) -> bool:
    """Return whether each element of a row has its own column in a table of texts."""
    return len(tensor.dims) == 1 and tensor.dims[0] > 1
