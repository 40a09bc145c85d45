"""Cutting requests apart agrees with protobuf's own parser, whatever the bytes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.errors import InvalidRequest
from jitney.testing.mutations import mutations
from jitney.transport.framing import LONGEST_ID, Pieces, bytes_field, cut, varint
from jitney_client.protocol import inference as pb
from jitney_client.protocol.message import DecodeError

NAMES = st.text(max_size=12)
RAW = st.one_of(st.binary(max_size=40), st.integers(120, 140).map(bytes), st.just(bytes(20_000)))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return a serialised request with any of its fields."""
    message = pb.ModelInferRequest(
        model_name=draw(NAMES),
        model_version=draw(NAMES),
        id=draw(NAMES),
        raw_input_contents=draw(st.lists(RAW, max_size=3)),
    )
    for name in draw(st.lists(NAMES, max_size=3)):
        tensor = message.inputs.add(
            name=name, datatype="FP32", shape=draw(st.lists(st.integers(-1, 1 << 40), max_size=3))
        )
        if draw(st.booleans()):
            tensor.contents.fp32_contents.extend([0.5] * draw(st.integers(0, 40)))
    for name in draw(st.lists(NAMES, max_size=2)):
        message.outputs.add(name=name).parameters["classification"].int64_param = 1
    for name in draw(st.lists(NAMES, max_size=2)):
        message.parameters[name].string_param = draw(NAMES)
    if draw(st.booleans()):
        message.parameters["timeout"].int64_param = draw(st.integers(-(1 << 63), (1 << 63) - 1))
    return message.SerializeToString()


UNKNOWN = st.one_of(
    st.builds(
        lambda n, v: varint(n << 3) + varint(v), st.integers(8, 4000), st.integers(0, 1 << 40)
    ),
    st.builds(lambda n: varint(n << 3 | 1) + bytes(8), st.integers(8, 4000)),
    st.builds(lambda n: varint(n << 3 | 5) + bytes(4), st.integers(8, 4000)),
    st.builds(lambda n, b: bytes_field(n, len(b)) + b, st.integers(8, 4000), st.binary(max_size=9)),
    # A length that takes more bytes than it must is unusual and right.
    st.builds(lambda b: b"\x3a" + bytes([len(b) | 0x80, 0x80, 0]) + b, st.binary(max_size=9)),
)
MESSAGES = st.lists(st.one_of(requests(), UNKNOWN), max_size=5).map(b"".join)


def reassembled(pieces: Pieces) -> bytes:
    """Return a request of the pieces, as protobuf writes it."""
    message = pb.ModelInferRequest.FromString(pieces.head)
    assert ([], "") == (list(message.raw_input_contents), message.id)
    message.raw_input_contents.extend(map(bytes, pieces.raw))
    message.id = pieces.id.decode()
    if pieces.timeout is not None:
        message.parameters["timeout"].int64_param = pieces.timeout
    return message.SerializeToString(deterministic=True)


@given(MESSAGES)
def test_cut_agrees_with_protobuf(message: bytes) -> None:
    """Requests, several of them joined, fields in any order, unknown ones: the same is read."""
    expected = pb.ModelInferRequest.FromString(message).SerializeToString(deterministic=True)

    assert expected == reassembled(cut(message))


def test_tensors_are_views_of_the_message() -> None:
    """Raw tensors are cut out without a copy."""
    message = pb.ModelInferRequest(raw_input_contents=[bytes(1000)]).SerializeToString()

    [raw] = cut(message).raw

    assert message is raw.obj


def test_equal_requests_with_other_bytes_and_ids_have_equal_heads() -> None:
    """What differs between the calls of one client is not in the head: heads can be remembered."""
    first, second = (
        pb.ModelInferRequest(
            model_name="m", id=name, inputs=[{"name": "x", "shape": [1]}], raw_input_contents=[raw]
        ).SerializeToString()
        for name, raw in (("1", b"aaaa"), ("2", b"bbbbbbbb"))
    )

    assert cut(first).head == cut(second).head


def test_the_last_id_counts() -> None:
    """As with protobuf, a field that comes twice has its last value."""
    message = b"".join(pb.ModelInferRequest(id=name).SerializeToString() for name in ("one", "two"))

    assert (b"", b"two", [], None) == tuple(cut(message))


def with_timeout(number: int) -> bytes:
    """Return a request with a parameter before the timeout, one behind it, and an id."""
    message = pb.ModelInferRequest(model_name="m", id="1")
    for key, value in (("a", 1), ("timeout", number), ("z", 2)):
        message.parameters[key].int64_param = value
    return message.SerializeToString()


@pytest.mark.parametrize("number", [0, 1, 127, 128, 150_000, (1 << 63) - 1, -1, -(1 << 63)])
def test_a_timeout_is_no_part_of_the_head(number: int) -> None:
    """Requests that differ in nothing but their timeout have equal heads, and the number is out."""
    pieces = cut(with_timeout(number))

    assert number == pieces.timeout
    head = pb.ModelInferRequest.FromString(pieces.head)
    assert {"a": 1, "z": 2} == {key: p.int64_param for key, p in head.parameters.items()}
    assert b"timeout" not in pieces.head


def test_the_last_timeout_counts() -> None:
    """As with protobuf, an entry of the map that comes twice has its last value."""
    assert 2 == cut(with_timeout(1) + with_timeout(2)).timeout


UNUSUAL = {
    "text": pb.ModelInferRequest(
        parameters={"timeout": pb.InferParameter(string_param="1")}
    ).SerializeToString(),
    "nothing": pb.ModelInferRequest(
        parameters={"timeout": pb.InferParameter()}
    ).SerializeToString(),
    "value before key": b"\x22\x0d" + b"\x12\x02\x10\x01" + b"\x0a\x07timeout",
    "a value with two numbers": b"\x22\x0f" + b"\x0a\x07timeout" + b"\x12\x04\x10\x01\x10\x02",
    "an entry with two values": b"\x22\x11" + b"\x0a\x07timeout" + b"\x12\x02\x10\x01" * 2,
    "a long length": b"\x22\x8d\x00" + b"\x0a\x07timeout" + b"\x12\x02\x10\x01",
}


@pytest.mark.parametrize("message", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_timeout_is_left_to_protobuf(message: bytes) -> None:
    """What is not written as every encoder writes it stays in the head, whole."""
    assert (message, None) == (cut(message).head, cut(message).timeout)
    assert "timeout" in pb.ModelInferRequest.FromString(message).parameters


REFUSED = {
    "ends in a length": b"\x3a",
    "ends in a long length": b"\x3a\xff\xff",
    "ends in a tensor": b"\x3a\x05abcd",
    "ends in a name": b"\x0a\x05abcd",
    "ends in a tag": b"\xff",
    "ends in a fixed64": b"\x41\0\0\0",
    "ends in a fixed32": b"\x45\0\0\0",
    "a length of 2^63": b"\x3a" + varint(1 << 63) + b"abc",
    "a length of eleven bytes": b"\x3a" + b"\x80" * 10 + b"\0",
    "a tag of eleven bytes": b"\x80" * 10 + b"\0",
    "a group": b"\x43\x44",
    "the end of a group": b"\x44",
    "a wire type that is none": b"\x46",
    "raw_input_contents as a number": b"\x38\x01",
    "id as a number": b"\x18\x01",
    "id with a padded tag": b"\x9a\x00\x01a",
    "ends in a timeout": b"\x22\x0d\x0a\x07timeout\x12\x02\x10",
    "ends before a timeout's value": b"\x22\x0d\x0a\x07timeout\x12",
    "a timeout of eleven bytes": b"\x22\x17\x0a\x07timeout\x12\x0c\x10" + b"\x80" * 10 + b"\0",
}


@pytest.mark.parametrize("message", REFUSED.values(), ids=REFUSED)
def test_a_malformed_message_is_refused(message: bytes) -> None:
    """Bytes that are no ModelInferRequest raise InvalidRequest with a text that says so."""
    with pytest.raises(InvalidRequest) as caught:
        cut(message)

    assert str(caught.value).startswith("the message is not a ModelInferRequest: ")


def protobuf_says(message: bytes) -> bytes | None:
    """Return what protobuf reads, None if it refuses."""
    try:
        return pb.ModelInferRequest.FromString(message).SerializeToString(deterministic=True)
    except DecodeError:
        return None


def test_100_000_mutations_are_cut_as_protobuf_would_or_refused() -> None:
    """Wounded requests raise InvalidRequest, or are read as protobuf reads them, quickly."""
    plain = pb.ModelInferRequest(
        model_name="digits",
        model_version="1",
        id="abc",
        raw_input_contents=[bytes(range(256)), b""],
    )
    plain.inputs.add(name="image", datatype="FP32", shape=[1, 1, 8, 8])
    plain.outputs.add(name="scores")
    plain.parameters["jitney_timing"].bool_param = True
    typed = pb.ModelInferRequest(model_name="simple")
    typed.inputs.add(name="x", datatype="INT32", shape=[4]).contents.int_contents.extend(
        [1, -1, 1 << 30, 0]
    )
    corpus = (
        plain.SerializeToString(),
        typed.SerializeToString(),
        b"\x40\x01\x49" + bytes(8) + b"\x55" + bytes(4) + plain.SerializeToString(),
        with_timeout(150_000),
    )
    agreed = refused = 0
    before = time.process_time()
    for message in mutations(corpus, 100_000):
        try:
            pieces = cut(message)
        except InvalidRequest:
            refused += 1
            continue
        try:
            ours = reassembled(pieces)
        except (DecodeError, UnicodeDecodeError):
            continue  # the codec refuses both
        assert protobuf_says(message) == ours
        agreed += 1
    assert min(agreed, refused) > 1000
    assert time.process_time() - before < 15


@given(st.integers(0, (1 << 64) - 1))
def test_varints_are_protobufs(value: int) -> None:
    """Any length is encoded as protobuf encodes it."""
    parameter = pb.InferParameter(uint64_param=value).SerializeToString()

    assert parameter[1:] == varint(value)


@given(st.integers(1, (1 << 29) - 1), st.binary(max_size=300))
def test_fields_are_protobufs(number: int, data: bytes) -> None:
    """A tag and a length before any bytes are a field that protobuf keeps as it is."""
    known = {field.number for field in pb.InferStatistics.DESCRIPTOR.fields}
    field = bytes_field(number, len(data)) + data
    if number not in known:
        assert field == pb.InferStatistics.FromString(field).SerializeToString()


def test_an_id_has_four_kibibytes_at_most() -> None:
    """It is held until the reply, and nobody counts its bytes."""
    longest = pb.ModelInferRequest(id="x" * LONGEST_ID)
    assert longest.id.encode() == cut(longest.SerializeToString()).id
    with pytest.raises(InvalidRequest) as caught:
        cut(pb.ModelInferRequest(id="x" * (LONGEST_ID + 1)).SerializeToString())

    assert "the request's id has 4097 bytes, at most 4096 are allowed" == str(caught.value)
