"""Classes: the highest elements of an output, as the protocol writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jitney_client.tensors import Array

__all__ = ["ClassScore", "read_classes"]


class ClassScore(NamedTuple):
    """An element of an output: its value, its number in the row, its label (empty without one)."""

    value: float
    number: int
    label: str = ""


def read_classes(array: Array) -> list[list[ClassScore]]:
    """Return the classes of each row, the highest value first.

    :param array: ``bytes`` of the form ``value:number`` or ``value:number:label``, [rows, classes],
        or [classes] where the model has no batch dimension, which is one row.
    :raises ValueError: when it is not of that form.
    """
    rows = array.reshape(-1, array.shape[-1]) if array.size else array.reshape(len(array), 0)
    return [[_read(element) for element in row] for row in rows]


def _read(element: bytes) -> ClassScore:
    # A label may hold colons.
    value, number, *label = bytes(element).decode("utf-8", "replace").split(":", 2)
    return ClassScore(float(value), int(number), *label)
