"""What a request says of its sequence, and the bytes in which its model is told."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sequences import CONTROLS, make_config

from jitney.datatypes import DataType
from jitney.errors import InvalidRequest
from jitney.sequence import Control, ControlKind
from jitney.sequencing import Controls, fill
from jitney.sequencing.correlation import Correlation, read_correlation
from jitney.sequencing.places import Places
from jitney.types import RequestHeader


def header(**parameters: Any) -> RequestHeader:
    """Return the header of a request with these parameters."""
    return RequestHeader("m", "", (), parameters=parameters)


def corrid(datatype: DataType) -> Controls:
    """Return the controls of a model that is told the id and nothing else."""
    return Controls(make_config(Control("ID", ControlKind.CORRID, datatype)))


def test_the_three_parameters_are_read() -> None:
    """An id is a number or a text; flags that are not there are not set."""
    assert Correlation(7, starts=True, ends=False) == read_correlation(
        header(sequence_id=7, sequence_start=True, sequence_end=False)
    )
    assert Correlation("a", starts=False, ends=True) == read_correlation(
        header(sequence_id="a", sequence_end=True)
    )
    assert Correlation((1 << 64) - 1, starts=False, ends=False) == read_correlation(
        header(sequence_id=-1)
    )


@pytest.mark.parametrize("parameters", [{}, {"sequence_id": 0}, {"sequence_id": ""}])
def test_a_request_without_an_id_is_refused(parameters: dict[str, Any]) -> None:
    """The text is the one that clients compare."""
    with pytest.raises(InvalidRequest) as caught:
        read_correlation(header(**parameters))
    assert (
        "inference request to model 'm' must specify a non-zero or non-empty correlation ID"
        == str(caught.value)
    )
    with pytest.raises(InvalidRequest, match="must specify a non-zero"):
        read_correlation(RequestHeader("m", "", ()))


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"sequence_id": True}, "'sequence_id' parameter, expected int64_param or string_param"),
        ({"sequence_id": 1.5}, "'sequence_id'"),
        ({"sequence_id": 1, "sequence_start": 1}, "'sequence_start' parameter, expected bool"),
        ({"sequence_id": 1, "sequence_end": "yes"}, "'sequence_end'"),
        ({"sequence_id": "é" * 65}, "longer than 128 bytes"),
    ],
)
def test_parameters_of_another_type_are_refused(parameters: dict[str, Any], named: str) -> None:
    """What cannot be meant is not guessed at."""
    with pytest.raises(InvalidRequest, match=named):
        read_correlation(header(**parameters))


def test_flags_have_the_values_of_the_config() -> None:
    """START, END and READY are one element each, of the datatype and the values asked for."""
    controls = Controls(
        make_config(
            Control("END", ControlKind.END, DataType.FP32, (-0.5, 2.5)),
            Control("START", ControlKind.START, DataType.INT32, (3, -4)),
            Control("READY", ControlKind.READY, DataType.BOOL),
        )
    )
    assert [struct.pack("<f", 2.5), struct.pack("<i", 3), b"\1"] == controls.row(
        Correlation(1, starts=False, ends=True), "m"
    )
    assert [struct.pack("<f", -0.5), struct.pack("<i", -4), b"\1"] == controls.row(
        Correlation(1, starts=True, ends=False), "m"
    )


@pytest.mark.parametrize(
    ("datatype", "key", "expected"),
    [
        (DataType.UINT64, (1 << 64) - 2, struct.pack("<Q", (1 << 64) - 2)),
        (DataType.INT64, (1 << 64) - 2, struct.pack("<q", -2)),
        (DataType.UINT32, (1 << 32) - 1, struct.pack("<I", (1 << 32) - 1)),
        (DataType.INT32, (1 << 64) - 5, struct.pack("<i", -5)),
        (DataType.BYTES, "né", b"\3\0\0\0n\xc3\xa9"),
    ],
)
def test_an_id_is_written_in_its_datatype(
    datatype: DataType, key: int | str, expected: bytes
) -> None:
    """Every id that has a place in the datatype is told as it is, negative ones included."""
    said = Correlation(key, starts=False, ends=False)
    assert [expected] == corrid(datatype).row(said, "m")


@pytest.mark.parametrize(
    ("datatype", "key", "named"),
    [
        (DataType.UINT32, 1 << 32, "4294967296 of this request does not fit into the UINT32"),
        (DataType.UINT32, (1 << 64) - 1, "does not fit"),
        (DataType.INT32, 1 << 31, "does not fit"),
        (DataType.UINT64, "a", "'a' of this request is a text, and model 'm' takes a number"),
        (DataType.BYTES, 5, "5 of this request is a number, and model 'm' takes a text"),
    ],
)
def test_an_id_that_the_model_cannot_be_told_is_refused(
    datatype: DataType, key: int | str, named: str
) -> None:
    """Cut short, it would be taken for another sequence."""
    with pytest.raises(InvalidRequest, match=named):
        corrid(datatype).row(Correlation(key, starts=False, ends=False), "m")


def test_any_id_will_do_where_the_model_is_not_told() -> None:
    """Without a CORRID control numbers and texts are names, no more."""
    controls = Controls(make_config())
    assert controls.row(Correlation(1, starts=True, ends=True), "m") == controls.row(
        Correlation("a", starts=True, ends=True), "m"
    )


def test_a_gap_is_not_ready() -> None:
    """A row without a request has zeros, empty texts and controls that are all false."""
    config = make_config(
        Control("READY", ControlKind.READY, DataType.INT32, (5, 1)),
        Control("ID", ControlKind.CORRID, DataType.UINT64),
        Control("START", ControlKind.START, DataType.FP32, (-1, 1)),
    )
    inputs = [
        (DataType.FP32, (2, 3)),
        (DataType.BYTES, (2,)),
        (DataType.INT32, (1,)),
        (DataType.UINT64, (1,)),
        (DataType.FP32, (1,)),
    ]
    assert (bytes(24), bytes(8), b"\5\0\0\0", bytes(8), struct.pack("<f", -1)) == fill(
        config, inputs
    )
    assert (bytes(4), bytes(4), b"\0") == fill(
        make_config(), [(c.datatype, (1,)) for c in CONTROLS]
    )


@given(st.lists(st.integers(0, 7), max_size=60))
def test_the_lowest_free_place_is_taken(freed: list[int]) -> None:
    """No place is taken twice, and none that is higher than need be."""
    places, taken = Places(), set[int]()
    for number in freed:
        place = places.take(6)
        free = sorted(set(range(6)) - taken)
        assert place == (free[0] if free else None)
        if place is not None:
            taken.add(place)
        if number in taken:
            places.free(number)
            taken.remove(number)
        assert len(taken) == len(places)
