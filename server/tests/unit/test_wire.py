"""Control messages: what is written is read, and nothing else gets through."""

from __future__ import annotations

import json
import math
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.datatypes import DataType
from jitney.execution import wire
from jitney.execution.wire import Done, Failed, Failure, Kind, Note, Run, Tensor, WireError
from jitney.testing.mutations import mutations

U16 = st.integers(0, (1 << 16) - 1)
U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)
STAMPS = st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 4)
NOTES = st.sampled_from([k for k in Kind if k not in (Kind.RUN, Kind.DONE, Kind.FAILED)])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False).filter(math.isfinite),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Return a tensor whose length agrees with its shape."""
    datatype = draw(st.sampled_from(DataType))
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=wire.MAX_RANK)))
    elements = math.prod(shape)
    nbytes = elements * datatype.item_size if datatype.item_size else draw(U64)
    offset = draw(U64)
    return Tensor(datatype, shape, offset, nbytes, draw(st.integers(-1, (1 << 63) - 1)))


TENSORS = st.lists(tensors(), max_size=5).map(tuple)
INPUTS = st.lists(st.none() | tensors(), max_size=5).map(tuple)

ROW = Tensor(DataType.FP32, (2, 3), 64, 24)
WORDS = Tensor(DataType.BYTES, (2,), 128, 17, 256)
RUN = wire.write_run(7, 3, 2, 1, (ROW, WORDS))
DONE = wire.write_done(Done(7, 2, 1, (1.0, 2.0, 3.0, 4.0), 1 << 30, 1 << 31, (ROW, WORDS)))
FAILED = wire.write_failed(Failed(7, 1, Failure.INPUT, (1.0,) * 4, "the model raised"))
HELLO = wire.write_note(Kind.HELLO, 0, {"device": "cpu", "memory": {"total": 1}})


@given(U32, U32, U32, U16, INPUTS)
def test_a_run_is_read_as_it_was_written(
    serial: int, instance: int, rows: int, slot: int, inputs: tuple[Tensor | None, ...]
) -> None:
    """Every number and every tensor of a batch arrives, and what is left out does not."""
    message = wire.write_run(serial, instance, rows, slot, inputs)

    assert Run(serial, instance, rows, slot, inputs) == wire.read(message)


def test_outputs_are_never_absent() -> None:
    """Only inputs may be left out, and nothing but the one form of it is read as that."""
    absent = wire.pack_tensors((None,))
    almost = bytearray(absent)
    almost[8] = 1  # an offset
    done = wire.write_done(Done(7, 2, 1, (1.0, 2.0, 3.0, 4.0), 0, 0, (ROW,)))
    head = done[: -len(wire.pack_tensors((ROW,)))]

    assert wire.parse_inputs(absent, 1) == (None,)
    with pytest.raises(WireError, match="datatype 0, rank 0"):
        wire.parse_inputs(bytes(almost), 1)
    with pytest.raises(WireError, match="an output is absent"):
        wire.read(head + absent)


@given(U32, U32, U16, STAMPS, U64, U64, TENSORS)
def test_a_done_is_read_as_it_was_written(  # one per field
    serial: int,
    rows: int,
    slot: int,
    stamps: tuple[float, float, float, float],
    allocated: int,
    reserved: int,
    outputs: tuple[Tensor, ...],
) -> None:
    """Stamps, figures and outputs of a batch arrive."""
    done = Done(serial, rows, slot, stamps, allocated, reserved, outputs)

    assert done == wire.read(wire.write_done(done))


@given(U32, U16, st.sampled_from(Failure), STAMPS, st.text(max_size=100))
def test_a_failure_is_read_as_it_was_written(
    serial: int,
    slot: int,
    failure: Failure,
    stamps: tuple[float, float, float, float],
    text: str,
) -> None:
    """The kind of failure and its text arrive; a text that is no UTF-8 is mended, not refused."""
    failed = Failed(serial, slot, failure, stamps, text)

    read = wire.read(wire.write_failed(failed))

    assert failed._replace(text=text.encode("utf-8", "replace").decode()) == read


@given(NOTES, U32, st.dictionaries(st.text(), JSON, max_size=4))
def test_a_note_is_read_as_it_was_written(
    kind: Kind, serial: int, document: dict[str, object]
) -> None:
    """Any JSON object arrives with its kind and serial."""
    assert Note(kind, serial, document) == wire.read(wire.write_note(kind, serial, document))


def test_a_long_text_is_cut() -> None:
    """A failure's text keeps its first 4,096 bytes; a character that was cut through is marked."""
    failed = Failed(1, 0, Failure.INPUT, (0.0,) * 4, "a" + "ü" * 5000)

    read = wire.read(wire.write_failed(failed))

    assert isinstance(read, Failed)
    assert "a" + "ü" * 2047 + "�" == read.text


def test_a_document_that_is_too_long_is_not_sent() -> None:
    """A message longer than the channel's limit is refused where it is written."""
    room = wire.MAX_MESSAGE - wire.HEADER.size - len('{"a": ""}')
    assert wire.MAX_MESSAGE == len(wire.write_note(Kind.LOADED, 1, {"a": "x" * room}))

    with pytest.raises(WireError) as caught:
        wire.write_note(Kind.LOADED, 1, {"a": "x" * (room + 1)})

    assert "a LOADED document has 131057 bytes, at most 131056 may be sent" == str(caught.value)


def tensor(code: int, rank: int, offset: int, nbytes: int, shape: tuple[int, ...]) -> bytes:
    """Return a RUN with one tensor of any numbers."""
    return (
        wire.HEADER.pack(wire.MAGIC, wire.VERSION, Kind.RUN, 1)
        + wire.RUN.pack(1, 1, 0, 1)
        + wire.TENSOR.pack(code, rank, offset, nbytes, -1)
        + struct.pack(f"<{len(shape)}q", *shape)
    )


HOSTILE = {
    "nothing": b"",
    "half a header": RUN[:4],
    "another protocol": b"GET / HTTP/1.1\r\n",
    "another version": wire.HEADER.pack(wire.MAGIC, 2, Kind.STOP, 0),
    "no such kind": wire.HEADER.pack(wire.MAGIC, 1, 99, 0),
    "a run that ends early": RUN[:-1],
    "bytes after the last tensor": RUN + b"\0",
    "65,535 tensors": RUN[:26] + b"\xff\xff" + RUN[28:],
    "no such datatype": tensor(99, 1, 0, 4, (1,)),
    "datatype 0": tensor(0, 1, 0, 4, (1,)),
    "a rank of 255": tensor(DataType.FP32.code, 255, 0, 4, (1,) * 255),
    "a negative size": tensor(DataType.FP32.code, 1, 0, 0, (-1,)),
    "two negative sizes": tensor(DataType.FP32.code, 2, 0, 4, (-1, -1)),
    "a size of 2^63-1": tensor(DataType.FP32.code, 1, 0, 4, ((1 << 63) - 1,)),
    "a product of 2^64": tensor(DataType.FP32.code, 2, 0, 0, (1 << 32, 1 << 32)),
    "too few bytes": tensor(DataType.FP32.code, 1, 0, 3, (1,)),
    "no such failure": FAILED.replace(struct.pack("<HH", 1, 1), struct.pack("<HH", 1, 77), 1),
    "a stamp that is NaN": wire.write_failed(Failed(1, 0, Failure.INPUT, (math.nan,) * 4, "")),
    "an infinite stamp": wire.write_failed(Failed(1, 0, Failure.INPUT, (math.inf,) * 4, "")),
    "a list": wire.write_note(Kind.HELLO) + b"[]",
    "no JSON": wire.write_note(Kind.HELLO) + b"{",
    "no UTF-8": wire.write_note(Kind.HELLO) + b'{"a": "\xff"}',
    "deep JSON": wire.write_note(Kind.HELLO) + b'{"a":' + b"[" * 100_000,
    "a number of 100,000 digits": wire.write_note(Kind.HELLO) + b'{"a":' + b"9" * 100_000 + b"}",
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_message_is_refused(message: bytes) -> None:
    """What a broken or hostile other side may send raises WireError and nothing else."""
    with pytest.raises(WireError):
        wire.read(message)


def test_100_000_mutations_are_read_or_refused() -> None:
    """Wounded messages of every kind raise WireError or read as something well-formed, quickly."""
    corpus = (RUN, DONE, FAILED, HELLO, wire.write_note(Kind.STOP), RUN[:20])
    counts = {"read": 0, "refused": 0}
    before = time.process_time()
    for message in mutations(corpus, 100_000):
        try:
            read = wire.read(message)
        except WireError:
            counts["refused"] += 1
            continue
        counts["read"] += 1
        if isinstance(read, Run | Done):
            for t in read.inputs if isinstance(read, Run) else read.outputs:
                assert all(size >= 0 for size in t.shape)
                assert not t.datatype.item_size or (
                    t.nbytes == math.prod(t.shape) * t.datatype.item_size
                )
    assert 100_000 == sum(counts.values())
    assert min(counts.values()) > 1000
    assert time.process_time() - before < 10


def test_documents_are_json_and_nothing_that_could_run_code() -> None:
    """A document on the wire is plain JSON text behind the header."""
    message = wire.write_note(Kind.LOADED, 1, {"form": "plain"})

    assert {"form": "plain"} == json.loads(message[wire.HEADER.size :])


def test_serials_outlast_a_busy_server() -> None:
    """Twice 2^32 batches and loads later, messages still have their numbers."""
    serial = 1 << 33
    assert serial == wire.read(wire.write_note(Kind.LOAD, serial)).serial
    assert serial == wire.read(wire.write_run(serial, 1, 1, 0, (ROW,))).serial


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_a_document_that_json_has_no_words_for_is_not_sent(value: object) -> None:
    """It is a wire error like any other, and not a surprise in the middle of a load."""
    with pytest.raises(WireError, match="a LOAD document cannot be written"):
        wire.write_note(Kind.LOAD, 1, {"a": value})
