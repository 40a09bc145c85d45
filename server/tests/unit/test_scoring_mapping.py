"""Columns find the inputs that they belong to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fake_endpoint import doubling

from jitney.datatypes import DataType as D
from jitney.errors import ConfigError
from jitney.scoring.mapping import map_columns
from jitney.scoring.model import Tensor
from jitney.scoring.table import Column, Table

if TYPE_CHECKING:
    from jitney.scoring.mapping import Prepared
    from jitney.scoring.model import Model
    from jitney.scoring.table import Kind


def model(*inputs: Tensor) -> Model:
    """Return a model with these inputs."""
    return doubling(inputs=inputs)


def columns(**kinds: Kind) -> list[Column]:
    """Return columns of a file."""
    return [Column(name, kind) for name, kind in kinds.items()]


def prepared(tensor: Tensor, values: dict[str, Any], **given: list[str]) -> Prepared:
    """Return what a table is to a model with one input."""
    kinds = [Column(name, "number") for name in values]
    inputs = map_columns(model(tensor), kinds, given)
    return inputs.prepare(Table(0, len(next(iter(values.values()))), values))


PAIR = Tensor("x", D.FP32, (2,))
ONE = Tensor("n", D.INT64, ())
TEXT = Tensor("t", D.BYTES, (1,))


@pytest.mark.parametrize(
    ("inputs", "known", "given", "expected"),
    [
        ((PAIR,), {"x": "list", "y": "number"}, {}, {"x": ("x",)}),
        ((PAIR,), {"x_0": "number", "x_1": "number", "z": "number"}, {}, {"x": ("x_0", "x_1")}),
        ((PAIR,), {"a": "number", "id": "text", "b": "number"}, {}, {"x": ("a", "b")}),
        ((PAIR,), dict.fromkeys("abc", "number"), {"x": ["c", "a"]}, {"x": ("c", "a")}),
        ((PAIR,), {"pixels": "list", "name": "text"}, {}, {"x": ("pixels",)}),
        ((ONE, TEXT), {"n": "number", "t": "text"}, {}, {"n": ("n",), "t": ("t",)}),
        ((ONE, TEXT), {"n": "number", "u": "text"}, {"t": ["u"]}, {"n": ("n",), "t": ("u",)}),
        ((TEXT,), {"n": "number", "u": "text"}, {}, {"t": ("u",)}),
    ],
)  # fmt: skip
def test_columns_are_found(
    inputs: tuple[Tensor, ...],
    known: dict[str, Kind],
    given: dict[str, list[str]],
    expected: dict[str, tuple[str, ...]],
) -> None:
    """By what is given, by name, by numbered names, or by kind for an only input; in that order."""
    assert expected == map_columns(model(*inputs), columns(**known), given).columns


def test_kept_columns_are_no_inputs() -> None:
    """An identifier is a number too, and is not one to compute with once it is kept."""
    known = columns(id="number", a="number", b="number")

    assert {"x": ("a", "b")} == map_columns(model(PAIR), known, {}, keep=["id"]).columns


def test_optional_inputs_may_be_left_out() -> None:
    """What no column is for, and the model can do without, is not sent."""
    inputs = (PAIR, Tensor("mask", D.BOOL, (2,), optional=True))

    assert {"x": ("x",)} == map_columns(model(*inputs), columns(x="list"), {}).columns


@pytest.mark.parametrize(
    ("inputs", "known", "given", "text"),
    [
        ((ONE, TEXT), {"n": "number"}, {}, "the input t (BYTES [1] in each row): say"),
        ((PAIR,), {"a": "text"}, {}, "no column for the input x (FP32 [2] in each row): say which"),
        ((PAIR,), {}, {}, "the file has no columns"),
        ((TEXT,), {"a": "text", "b": "text"}, {}, "no column for the input t"),
        ((PAIR,), {"a": "number"}, {"y": ["a"]}, "--column y: double has the inputs x"),
        ((PAIR,), {"a": "number"}, {"x": ["b"]}, "x: the file has no column 'b'; it has a"),
        ((PAIR,), {"a": "number", "b": "number", "c": "number"}, {}, "cannot be made of 3 columns"),
    ],
)  # fmt: skip
def test_what_cannot_be_found_is_said(
    inputs: tuple[Tensor, ...], known: dict[str, Kind], given: dict[str, list[str]], text: str
) -> None:
    """Nothing is guessed: the error names the input, and what the file has."""
    with pytest.raises(ConfigError, match=re.escape(text)):
        map_columns(model(*inputs), columns(**known), given)


def test_columns_are_the_elements_of_a_row() -> None:
    """Several columns become one tensor, in the shape that the model takes."""
    square = Tensor("x", D.INT32, (1, 2, 2))
    names = {name: np.arange(2) + 10 * i for i, name in enumerate("abcd")}

    found = prepared(square, names)

    assert [[[[0, 10], [20, 30]]], [[[1, 11], [21, 31]]]] == found.tensors["x"].tolist()
    assert np.int32 == found.tensors["x"].dtype


def test_an_open_size_is_the_number_of_columns() -> None:
    """One size that varies is whatever is left."""
    assert (2, 3) == prepared(
        Tensor("x", D.FP32, (-1,)), {name: ["1", "2"] for name in "abc"}
    ).tensors["x"].shape


@pytest.mark.parametrize(("dims", "shape"), [((), (2,)), ((1,), (2, 1)), ((1, 1), (2, 1, 1))])
def test_one_element_needs_no_list(dims: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """A column of numbers is an input of one number, whatever dimensions of 1 that has."""
    assert shape == prepared(Tensor("x", D.FP32, dims), {"x": ["1", "2"]}).tensors["x"].shape


def test_a_bad_cell_makes_a_bad_row() -> None:
    """It is told with its column, and its row stays in place."""
    found = prepared(PAIR, {"a": ["1", "2"], "b": ["3", "four"]})

    assert {1: "b: 'four' is no FP32"} == found.bad
    assert [[1, 3], [2, 0]] == found.tensors["x"].tolist()


def test_broken_rows_stay_broken() -> None:
    """What the file itself says about a row counts more than that its cells are empty."""
    inputs = map_columns(model(PAIR), columns(x="list"), {})

    found = inputs.prepare(Table(0, 2, {"x": [None, [1, 2]]}, {0: "9 cells"}))

    assert {0: "9 cells"} == found.bad


def test_lists_of_one_length_are_one_array() -> None:
    """A column of lists becomes one tensor where they agree."""
    found = prepared(Tensor("x", D.FP32, (-1,)), {"x": ["[1, 2]", [3, 4]]})

    assert [[1, 2], [3, 4]] == found.tensors["x"].tolist()


def test_lists_of_several_lengths_are_several() -> None:
    """A model that takes any length gets each row with its own."""
    found = prepared(Tensor("x", D.FP32, (-1,)), {"x": [[1], [1, 2], None]})

    assert [[1], [1, 2], []] == [row.tolist() for row in found.tensors["x"]]
    assert {2: "x: it is empty"} == found.bad


def test_arrays_of_several_dimensions_get_the_shape_of_the_model() -> None:
    """An array of the right number of elements is as good as one of the right shape."""
    array = np.arange(8, dtype=np.float64).reshape(2, 4)

    assert (2, 2, 2) == prepared(Tensor("x", D.FP32, (2, 2)), {"x": array}).tensors["x"].shape
    assert (2, 4) == prepared(Tensor("x", D.FP32, (-1,)), {"x": array}).tensors["x"].shape
    with pytest.raises(ConfigError, match=re.escape("each row has the shape [4], the model takes")):
        prepared(Tensor("x", D.FP32, (3,)), {"x": array})
