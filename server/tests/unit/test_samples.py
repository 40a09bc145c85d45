"""Golden samples: the bytes come back as they were written, and nothing else is read."""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.datatypes import DataType
from jitney.errors import ModelError
from jitney.samples import MAX_SAMPLES, Sample, SampleTensor, read_samples, write_samples

IMAGE = SampleTensor("image", DataType.FP32, (1, 2), b"12345678")
TEXTS = SampleTensor("texts", DataType.BYTES, (2,), b"\1\0\0\0a\0\0\0\0")
SAMPLE = Sample([IMAGE, TEXTS], [SampleTensor("score", DataType.INT8, (1,), b"\7")])


@st.composite
def tensors(draw: st.DrawFn) -> SampleTensor:
    """Any tensor that a sample may hold."""
    name = draw(st.text(min_size=1, max_size=8))
    datatype = draw(st.sampled_from(DataType))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    if datatype is not DataType.BYTES:
        nbytes = math.prod(shape) * datatype.item_size
        return SampleTensor(
            name, datatype, shape, draw(st.binary(min_size=nbytes, max_size=nbytes))
        )
    count = math.prod(shape)
    elements = draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count))
    data = b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    return SampleTensor(name, datatype, shape, data)


@st.composite
def sample_lists(draw: st.DrawFn) -> list[Sample]:
    """Up to three samples."""
    some = st.lists(tensors(), max_size=3)
    return draw(st.lists(st.builds(Sample, some, some), max_size=3))


def with_header(table: object, data: bytes = b"") -> bytes:
    """Put a header of any content before data."""
    header = json.dumps(table).encode()
    return len(header).to_bytes(8, "little") + header + data


def one_tensor(**changes: object) -> dict[str, object]:
    """Return a header with one input, which is right until changed."""
    table = {"name": "x", "datatype": "INT8", "shape": [2], "nbytes": 2} | changes
    return {"format": 1, "samples": [{"inputs": [table], "outputs": []}]}


@given(samples=sample_lists())
def test_what_is_written_is_read(samples: list[Sample]) -> None:
    """Reading returns the samples that were written, whatever datatypes and shapes they have."""
    assert samples == read_samples(write_samples(samples))


def test_no_bytes_are_no_samples() -> None:
    """An extra file that is absent comes back empty from torch, and means no samples."""
    assert [] == read_samples(b"")


@given(end=st.integers(1, len(write_samples([SAMPLE])) - 1))
def test_a_file_cut_short_is_refused(end: int) -> None:
    """However many bytes are missing at the end, the samples are refused."""
    with pytest.raises(ModelError):
        read_samples(write_samples([SAMPLE])[:end])


@given(data=st.binary(max_size=200), position=st.integers(0, 150), value=st.integers(0, 255))
def test_damage_raises_nothing_but_model_error(data: bytes, position: int, value: int) -> None:
    """Random bytes and a changed byte either still read or raise ModelError."""
    changed = bytearray(write_samples([SAMPLE]))
    changed[position % len(changed)] = value
    for damaged in (data, bytes(changed), (8).to_bytes(8, "little") + data):
        with contextlib.suppress(ModelError):
            read_samples(damaged)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"abc", "cut short"),
        ((1 << 63).to_bytes(8, "little"), "cut short"),
        (b"\2" + b"\0" * 7 + b"{]", "no JSON"),
        (b"\xa0\x86\1\0\0\0\0\0" + b"[" * 100_000, "no JSON"),
        (with_header([]), "format 1"),
        (with_header({"format": 2}), "format 1"),
        (with_header({"format": 1}), "list of at most"),
        (with_header({"format": 1, "samples": [{}] * (MAX_SAMPLES + 1)}), "list of at most"),
        (with_header({"format": 1, "samples": [7]}), "list of at most"),
        (with_header({"format": 1, "samples": [{"inputs": 1}]}), "list of at most"),
        (with_header(one_tensor(), b"1"), "past the end"),
        (with_header(one_tensor(), b"123"), "1 bytes are left over"),
        (with_header(one_tensor(nbytes=-1), b"12"), "past the end"),
        (with_header(one_tensor(nbytes=True), b"12"), "past the end"),
        (with_header(one_tensor(nbytes=1, shape=[1]), b"12"), "1 bytes are left over"),
        (with_header(one_tensor(shape=[3]), b"12"), "takes 3 bytes, got 2"),
        (with_header(one_tensor(shape=[-2]), b"12"), "-2 is no size"),
        (with_header(one_tensor(shape=[10**300]), b"12"), "no size"),
        (with_header(one_tensor(shape="2"), b"12"), "a shape is a list"),
        (with_header(one_tensor(shape=[1] * 17), b"12"), "17 dimensions"),
        (with_header(one_tensor(name=""), b"12"), "1 to 128 characters"),
        (with_header(one_tensor(name=7), b"12"), "1 to 128 characters"),
        (with_header(one_tensor(datatype="FP8"), b"12"), "unknown datatype 'FP8'"),
        (with_header(one_tensor(datatype=[]), b"12"), "unknown datatype []"),
        (with_header(one_tensor(datatype="BYTES"), b"12"), "takes 2 elements"),
    ],
)
def test_what_does_not_fit_is_refused(data: bytes, text: str) -> None:
    """Each thing that a header may claim wrongly is refused, with a text that names it."""
    with pytest.raises(ModelError, match=re.escape(text)):
        read_samples(data)


def test_a_tensor_checks_its_bytes() -> None:
    """A tensor whose bytes do not fit its shape cannot be made."""
    with pytest.raises(ModelError, match=re.escape("FP32 [2] takes 8 bytes, got 3")):
        SampleTensor("x", DataType.FP32, (2,), b"abc")


def test_too_many_samples_are_not_written() -> None:
    """Writing refuses what reading would refuse."""
    with pytest.raises(ModelError, match="65 given, a model file holds at most 64"):
        write_samples([Sample([], [])] * 65)


def test_importing_jitney_imports_nothing_heavy() -> None:
    """``import jitney`` leaves torch, grpc and numpy alone; its version is there all the same."""
    code = (
        "import sys, jitney; heavy = {'torch', 'grpc', 'numpy'} & set(sys.modules); "
        "print(sorted(heavy), bool(jitney.__version__))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )  # our own words
    assert "[] True\n" == done.stdout
