"""From messages to requests and from batches to replies."""

from __future__ import annotations

import math
import random
import struct
from typing import TYPE_CHECKING, Any

import pytest

from jitney.datatypes import DataType
from jitney.errors import InvalidRequest, NotSupported
from jitney.testing.mutations import mutations
from jitney.transport import codec as codec_module
from jitney.transport import contents, heads
from jitney.transport.codec import Codec
from jitney.types import (
    BatchOutputs,
    ModelRef,
    OutputTensor,
    Placed,
    Request,
    TensorHeader,
    Timing,
)
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = ModelRef("m", 3)
TIMING = Timing(0.5, 0.25, 0.125, 0.0625, 1.0)


def message(**fields: Any) -> Any:
    """Return a ModelInferRequest of one FP32 input with two rows; ``fields`` override."""
    given: dict[str, Any] = {
        "model_name": "m",
        "id": "7",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 1]}],
        "raw_input_contents": [b"aaaabbbb"],
    }
    return pb.ModelInferRequest(**(given | fields))


def decode(request: Any, codec: Codec | None = None) -> Request:
    """Decode a message."""
    return (codec or Codec()).decode(request.SerializeToString(), math.inf)


def refusal(request: Any, kind: type[Exception] = InvalidRequest) -> str:
    """Return the text with which a message is refused."""
    with pytest.raises(kind) as caught:
        decode(request)
    return str(caught.value)


def texts(*elements: bytes) -> bytes:
    """Return a BYTES tensor."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


# -- in -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", DataType)
def test_a_request_is_decoded(datatype: DataType) -> None:
    """Names, datatypes, shapes, outputs, id, deadline, tenant and bytes are as they were sent."""
    codec = Codec()
    encoded = message(
        model_version="3",
        inputs=[
            {"name": "x", "datatype": datatype.value, "shape": [2, 1]},
            {"name": "y", "datatype": "BOOL", "shape": []},
        ],
        outputs=[{"name": "a"}, {"name": "b"}],
        raw_input_contents=[b"0123456789", b"\1"],
    ).SerializeToString()

    request = codec.decode(encoded, 12.5, "a tenant")

    header = request.header
    assert ("m", "3", ("a", "b"), None) == (
        header.model_name,
        header.model_version,
        header.outputs,
        header.parameters,
    )
    assert (
        TensorHeader("x", datatype, (2, 1)),
        TensorHeader("y", DataType.BOOL, ()),
    ) == header.inputs
    assert [b"0123456789", b"\1"] == [bytes(data) for data in request.data]
    assert ("7", 12.5, "a tenant", codec) == (
        request.id,
        request.deadline,
        request.tenant,
        request.carrier,
    )


def test_heads_are_remembered() -> None:
    """Requests that differ in id and bytes only share one header object."""
    codec = Codec()
    first = decode(message(), codec)

    second = decode(message(id="8", raw_input_contents=[b"ccccdddd"]), codec)
    other = decode(message(model_version="1"), codec)

    assert first.header is second.header
    assert first.header is not other.header
    assert (b"ccccdddd", "8") == (bytes(second.data[0]), second.id)


def test_what_is_remembered_is_bounded() -> None:
    """Many different heads, and long ones, do not stay."""
    codec = Codec()
    for i in range(codec_module.REMEMBERED + 100):
        decode(message(model_version=str(i)), codec)
    long = message(parameters={"note": pb.InferParameter(string_param="x" * 5000)})

    assert decode(long, codec).header is not decode(long, codec).header
    assert len(codec._headers) <= codec_module.REMEMBERED


@pytest.mark.parametrize("typed", [False, True])
def test_long_texts_are_kept_whole_and_not_remembered(*, typed: bool) -> None:
    """A model that shows parameters shows all of them; a megabyte does not stay in memory."""
    codec = Codec()
    fields = {"parameters": {"note": pb.InferParameter(string_param="x" * 100_000)}}
    request = decode(typed_request([1.0, 2.0], **fields) if typed else message(**fields), codec)

    assert {"note": "x" * 100_000} == request.header.parameters
    assert not request.header.recurs
    assert (0, 0) == (len(codec._headers), len(codec._typed))


def test_typed_requests_share_their_header_too() -> None:
    """Values in the head do not keep equal declarations from being recognised."""
    codec = Codec()
    requests = [decode(typed_request([1.0, float(i)]), codec) for i in range(2)]

    assert requests[0].header is requests[1].header
    assert struct.pack("<2f", 1.0, 1.0) == requests[1].data[0]


def typed_request(values: list[float], **fields: Any) -> Any:
    """Return a request with typed contents."""
    x = {
        "name": "x",
        "datatype": "FP32",
        "shape": [2, 1],
        "contents": {"fp32_contents": values},
    }
    return message(inputs=[x], raw_input_contents=[], **fields)


def test_parameters_that_are_equal_as_numbers_are_not_the_same() -> None:
    """jitney_timing = 1 is not jitney_timing = true, although Python finds them equal."""
    codec = Codec()
    number, flag, floating = (
        decode(typed_request([1.0, 2.0], parameters={"jitney_timing": value}), codec)
        for value in (
            pb.InferParameter(int64_param=1),
            pb.InferParameter(bool_param=True),
            pb.InferParameter(double_param=1.0),
        )
    )

    kinds = [type((r.header.parameters or {})["jitney_timing"]) for r in (number, flag, floating)]
    assert [int, bool, float] == kinds


def test_typed_contents_of_several_inputs_keep_their_places() -> None:
    """Contents stand under the input they came with, also beside one that needs none."""
    inputs = [
        {"name": "a", "datatype": "INT32", "shape": [0]},
        {"name": "b", "datatype": "INT32", "shape": [1], "contents": {"int_contents": [5]}},
    ]

    request = decode(message(inputs=inputs, raw_input_contents=[]))

    assert [b"", struct.pack("<i", 5)] == list(request.data)


@pytest.mark.parametrize(
    ("datatype", "shape", "field", "values", "raw"),
    [
        ("BYTES", [30_000], "bytes_contents", [b"a"] * 30_000, texts(b"a") * 30_000),
        ("FP32", [20_000], "fp32_contents", [0.5] * 20_000, struct.pack("<f", 0.5) * 20_000),
        ("INT8", [70_000], "int_contents", [5] * 70_000, b"\5" * 70_000),
    ],
)
def test_large_typed_contents_are_not_parsed(
    datatype: str, shape: list[int], field: str, values: list[Any], raw: bytes
) -> None:
    """They are cut out of the head; what else is in it counts as always."""
    x = {"name": "x", "datatype": datatype, "shape": shape, "contents": {field: values}}
    empty = {"name": "y", "datatype": "FP32", "shape": [0]}
    parameters = {"p": pb.InferParameter(int64_param=1)}
    codec = Codec()

    requests = [
        decode(message(inputs=[empty, x], raw_input_contents=[], parameters=parameters), codec)
        for _ in range(2)
    ]

    assert [b"", raw] == [bytes(data) for data in requests[0].data]
    assert requests[0].header is requests[1].header
    assert (["y", "x"], {"p": 1}) == (
        [tensor.name for tensor in requests[0].header.inputs],
        requests[0].header.parameters,
    )


@pytest.mark.parametrize(
    ("datatype", "fields", "text"),
    [
        (
            "INT32",
            {"int_contents": [1] * (contents.MAX_CONTENTS * 2 // 3)},
            (
                "the contents of the inputs up to 'y' for model 'm' have more than 1048576 bytes; "
                "send them as raw_input_contents"
            ),
        ),
        (
            "BYTES",
            {"bytes_contents": [b"a", b"bc"] * (contents.MAX_SINGLES // 3)},
            (
                "the inputs up to 'y' for model 'm' have more than 262144 strings of different "
                "lengths; send them as raw_input_contents"
            ),
        ),
    ],
)
def test_what_costs_time_is_limited_for_all_inputs_together(
    datatype: str, fields: dict[str, Any], text: str
) -> None:
    """One such input is served, of two the second is too much: nobody is served meanwhile."""
    inputs = [
        {"name": name, "datatype": datatype, "shape": [1], "contents": fields} for name in "xy"
    ]

    decode(message(inputs=inputs[:1], raw_input_contents=[]))

    assert text == refusal(message(inputs=inputs, raw_input_contents=[]))


def test_a_long_typed_header_is_not_remembered() -> None:
    """Its names may come to kilobytes, and there may be thousands of such headers."""
    codec = Codec()
    inputs = [
        {"name": f"{i:0128}", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1]}}
        for i in range(64)
    ]

    request = decode(message(inputs=inputs, raw_input_contents=[]), codec)

    assert ({}, False) == (codec._typed, request.header.recurs)


def test_parameters_are_kept() -> None:
    """Custom parameters of every kind arrive; priority may be unsigned."""
    request = decode(
        message(
            parameters={
                "b": pb.InferParameter(bool_param=True),
                "i": pb.InferParameter(int64_param=-1),
                "s": pb.InferParameter(string_param="text"),
                "d": pb.InferParameter(double_param=0.5),
                "priority": pb.InferParameter(uint64_param=1),
                "triton_enable_empty_final_response": pb.InferParameter(bool_param=True),
            }
        )
    )

    assert {
        "b": True,
        "i": -1,
        "s": "text",
        "d": 0.5,
        "priority": 1,
        "triton_enable_empty_final_response": True,
    } == request.header.parameters


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, 0),
        (pb.InferParameter(uint64_param=0), 0),
        (pb.InferParameter(int64_param=2), 2),
        (pb.InferParameter(uint64_param=(1 << 64) - 1), (1 << 64) - 1),
    ],
)
def test_a_priority_is_read(value: Any, expected: int) -> None:
    """Signed or not; 0, the model's default, where there is none."""
    request = decode(message(parameters={"priority": value} if value else {}))

    assert expected == request.header.priority


def timed(micros: int, **fields: Any) -> Any:
    """Return a request with a timeout."""
    return message(parameters={"timeout": pb.InferParameter(int64_param=micros)}, **fields)


def test_timeouts_differ_and_headers_do_not() -> None:
    """A timeout arrives in seconds, 0 as none, and requests with other ones share their header."""
    codec = Codec()
    requests = [decode(timed(micros), codec) for micros in (150_000, 1, 0)]

    assert [0.15, 1e-6, math.inf] == [request.timeout for request in requests]
    assert 1 == len({id(request.header) for request in requests})


def test_ten_thousand_timeouts_do_not_fill_the_memory() -> None:
    """Distinct timeouts leave one head, with raw and with typed contents."""
    codec = Codec()
    x = X | {"contents": {"fp32_contents": [1.0, 2.0]}}
    for i in range(10_000):
        decode(timed(100_000 + i), codec)
    for i in range(100):
        decode(timed(100_000 + i, inputs=[x], raw_input_contents=[]), codec)

    assert (1, 1) == (len(codec._headers), len(codec._typed))


def test_a_timeout_in_unusual_bytes_counts_as_well() -> None:
    """An encoder that writes the value before the key is read as protobuf reads it."""
    unusual = b"\x22\x0e" + b"\x12\x03\x10\xe8\x07" + b"\x0a\x07timeout"
    codec = Codec()

    requests = [codec.decode(unusual + message().SerializeToString(), math.inf) for _ in range(2)]

    assert [0.001, 0.001] == [request.timeout for request in requests]


X = {"name": "x", "datatype": "FP32", "shape": [2, 1]}
ZERO = pb.InferParameter(int64_param=0)
REFUSED: dict[str, tuple[Any, str]] = {
    "typed beside raw": (
        message(inputs=[X | {"contents": {"fp32_contents": [1.0]}}]),
        "contents field must not be specified when using raw_input_contents for 'x' for model 'm'",
    ),
    "empty contents beside raw": (
        message(inputs=[X | {"contents": {}}]),
        "contents field must not be specified when using raw_input_contents for 'x' for model 'm'",
    ),
    "typed contents for one of two": (
        message(inputs=[X, X | {"contents": {"fp32_contents": [1.0]}}], raw_input_contents=[]),
        "unable to find data for input tensor 'x' for model 'm' in request.",
    ),
    "large contents beside raw": (
        message(inputs=[X | {"contents": {"fp32_contents": [1.0] * 20_000}}]),
        "contents field must not be specified when using raw_input_contents for 'x' for model 'm'",
    ),
    "a long head": (
        message(model_version="1" * (1 << 20)),
        "the request has more than 1048576 bytes beside its tensors",
    ),
    "a sequence that is true": (
        message(parameters={"sequence_id": pb.InferParameter(bool_param=True)}),
        "parameter 'sequence_id' must be an int64, a uint64 or a string of at most 128 characters",
    ),
    "a long name of a sequence": (
        message(parameters={"sequence_id": pb.InferParameter(string_param="x" * 129)}),
        "parameter 'sequence_id' must be an int64, a uint64 or a string of at most 128 characters",
    ),
    "a start that is a number": (
        message(parameters={"sequence_start": pb.InferParameter(int64_param=1)}),
        "parameter 'sequence_start' must be a bool",
    ),
    "an end without a value": (
        message(parameters={"sequence_end": pb.InferParameter()}),
        "parameter 'sequence_end' must be a bool",
    ),
    "no classes": (
        message(outputs=[{"name": "y", "parameters": {"classification": ZERO}}]),
        "requested output 'y': parameter 'classification' must be an int64 above 0",
    ),
    "empty contents beside raw for another": (
        message(inputs=[X, X | {"name": "y", "contents": {}}]),
        "contents field must not be specified when using raw_input_contents for 'y' for model 'm'",
    ),
    "too few tensors": (
        message(inputs=[X, X | {"name": "y"}]),
        "unable to find data for input tensor 'y' for model 'm' in request.",
    ),
    "no tensors": (
        message(raw_input_contents=[]),
        "unable to find data for input tensor 'x' for model 'm' in request.",
    ),
    "too many tensors": (
        message(raw_input_contents=[b"", b""]),
        "raw_input_contents has 2 entries for the 1 inputs of a request for model 'm'",
    ),
    "no such datatype": (
        message(inputs=[X | {"datatype": "FLOAT"}]),
        "input 'x' for model 'm' has the datatype 'FLOAT'; known are "
        + ", ".join(d.value for d in DataType),
    ),
    "65 inputs": (
        message(inputs=[X] * 65),
        "the request has 65 inputs, at most 64 are allowed",
    ),
    "65 outputs": (
        message(outputs=[{"name": "y"}] * 65),
        "the request has 65 requested outputs, at most 64 are allowed",
    ),
    "65 parameters": (
        message(parameters={str(i): pb.InferParameter(bool_param=True) for i in range(65)}),
        "the request has 65 parameters, at most 64 are allowed",
    ),
    "a long model name": (
        message(model_name="m" * 129),
        "the request has 129 characters in the model's name, at most 128 are allowed",
    ),
    "a long version": (
        message(model_version="1" * 129),
        "the request has 129 characters in the model's version, at most 128 are allowed",
    ),
    "a long input name": (
        message(inputs=[X | {"name": "x" * 1000}]),
        (
            f"input '{'x' * 128}' for model 'm': at most 16 dimensions and 128 characters of name "
            "are allowed"
        ),
    ),
    "a rank of 17": (
        message(inputs=[X | {"shape": [1] * 17}]),
        "input 'x' for model 'm': at most 16 dimensions and 128 characters of name are allowed",
    ),
    "a long output name": (
        message(outputs=[{"name": "y" * 129}]),
        f"requested output '{'y' * 128}': at most 128 characters of name are allowed",
    ),
    "a long parameter name": (
        message(parameters={"p" * 129: pb.InferParameter(bool_param=True)}),
        f"parameter '{'p' * 128}': at most 128 characters are allowed",
    ),
    "a parameter without a value": (
        message(parameters={"p": pb.InferParameter()}),
        "parameter 'p' must be a bool, an int64, a double or a string",
    ),
    "an unsigned parameter": (
        message(parameters={"p": pb.InferParameter(uint64_param=1)}),
        "parameter 'p' must be a bool, an int64, a double or a string",
    ),
    "a negative timeout": (
        timed(-1),
        "parameter 'timeout' must be an int64, 0 or more",
    ),
    "an unsigned timeout": (
        message(parameters={"timeout": pb.InferParameter(uint64_param=1)}),
        "parameter 'timeout' must be an int64, 0 or more",
    ),
    "a timeout in seconds": (
        message(parameters={"timeout": pb.InferParameter(double_param=0.5)}),
        "parameter 'timeout' must be an int64, 0 or more",
    ),
    "a timeout without a value": (
        message(parameters={"timeout": pb.InferParameter()}),
        "parameter 'timeout' must be an int64, 0 or more",
    ),
    "a negative priority": (
        message(parameters={"priority": pb.InferParameter(int64_param=-1)}),
        "parameter 'priority' must be an int64 or uint64, 0 or more",
    ),
    "a priority in words": (
        message(parameters={"priority": pb.InferParameter(string_param="high")}),
        "parameter 'priority' must be an int64 or uint64, 0 or more",
    ),
    "a priority that is true": (
        message(parameters={"priority": pb.InferParameter(bool_param=True)}),
        "parameter 'priority' must be an int64 or uint64, 0 or more",
    ),
    "a reserved parameter": (
        message(parameters={"triton_grpc_error": pb.InferParameter(bool_param=True)}),
        "parameter 'triton_grpc_error' is reserved",
    ),
}


@pytest.mark.parametrize(("request_", "text"), REFUSED.values(), ids=REFUSED)
def test_a_request_that_breaks_a_rule_is_refused(request_: Any, text: str) -> None:
    """Every rule and cap of the protocol has its text."""
    assert text == refusal(request_)


@pytest.mark.parametrize(
    "value",
    [
        pb.InferParameter(int64_param=7),
        pb.InferParameter(uint64_param=(1 << 64) - 1),
        pb.InferParameter(string_param="seven"),
    ],
)
def test_a_sequence_has_a_number_or_a_name(value: Any) -> None:
    """All three kinds that clients send are kept as they are."""
    start = pb.InferParameter(bool_param=True)
    request = decode(message(parameters={"sequence_id": value, "sequence_start": start}))

    kind = value.WhichOneof("parameter_choice")
    assert {
        "sequence_id": getattr(value, kind),
        "sequence_start": True,
    } == request.header.parameters


def test_what_is_reserved_for_http_is_accepted() -> None:
    """Its clients send it over both protocols."""
    parameters = {
        "binary_data_output": pb.InferParameter(bool_param=True),
        "headers": pb.InferParameter(string_param="a: b"),
    }

    assert {"binary_data_output": True, "headers": "a: b"} == decode(
        message(parameters=parameters)
    ).header.parameters


@pytest.mark.parametrize("head", [b"\x0a\x01\xff", b"\x2a\x02\x08\x01", b"\x05", b"\x00\x00"])
def test_what_protobuf_refuses_is_refused(head: bytes) -> None:
    """A name that is no UTF-8, or no message at all, is InvalidRequest."""
    with pytest.raises(InvalidRequest):
        Codec().decode(head + message().SerializeToString(), math.inf)


def test_an_id_must_be_text() -> None:
    """An id that is not UTF-8 is refused, as protobuf would."""
    with pytest.raises(InvalidRequest) as caught:
        Codec().decode(b"\x1a\x01\xff" + message(id="").SerializeToString(), math.inf)

    assert "the request's id is not UTF-8" == str(caught.value)


def test_20_000_mutations_are_decoded_or_refused() -> None:
    """Wounded requests raise InvalidRequest or NotSupported and nothing else."""
    plain = message(outputs=[{"name": "y"}])
    plain.parameters["jitney_timing"].bool_param = True
    corpus = (plain.SerializeToString(), typed_request([1.0, 2.0]).SerializeToString())
    codec = Codec()
    decoded = 0
    for wounded in mutations(corpus, 20_000):
        try:
            codec.decode(wounded, math.inf)
        except (InvalidRequest, NotSupported):
            continue
        decoded += 1
    assert 100 < decoded < 19_900


def test_20_000_mutations_of_typed_requests_are_read_as_protobuf_reads_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is cut out of the head, as large contents are, has the values that protobuf finds."""
    x = {"name": "x", "datatype": "FP32", "shape": [2], "contents": {"fp32_contents": [1.0, 2.0]}}
    many = [b"ab"] * 70 + [b"", b"c" * 200, b"de"]
    y = {"name": "y", "datatype": "BYTES", "shape": [73], "contents": {"bytes_contents": many}}
    z = {"name": "z", "datatype": "INT16", "shape": [2], "contents": {"int_contents": [-1, 300]}}
    corpus = [
        message(inputs=inputs, raw_input_contents=[]).SerializeToString()
        for inputs in ([x], [y], [z], [x, y, z])
    ]
    equal = 0
    for wounded in (*corpus, *mutations(corpus, 20_000)):
        found: list[Any] = []
        for longest in (1 << 20, 0):
            monkeypatch.setattr(heads, "LONGEST_WHOLE", longest)
            try:
                request = Codec().decode(wounded, math.inf)
            except (InvalidRequest, NotSupported):
                continue
            found.append((request.header.inputs, [bytes(data) for data in request.data]))
        if len(found) > 1:
            assert found[0] == found[1]
            equal += 1
    assert 2000 < equal


# -- the bytes of a batch -----------------------------------------------------------------------


def place(requests: Sequence[Request], rows: Sequence[int], **fields: Any) -> list[Placed]:
    """Place requests one after the other."""
    placed, first = [], 0
    for request, count in zip(requests, rows, strict=True):
        given: dict[str, Any] = {"order": (0,), "outputs": (0,)} | fields
        placed.append(Placed(request, MODEL, first, count, **given))
        first += count
    return placed


@pytest.mark.parametrize("row_bytes", [1, 4, 100_000])
def test_rows_are_gathered_in_order(row_bytes: int) -> None:
    """Small batches are joined and large ones copied piece by piece, to the same bytes."""
    chance = random.Random(0)  # noqa: S311  # data, not a secret
    rows = (1, 3, 2)
    parts = [chance.randbytes(row_bytes * count) for count in rows]
    codec = Codec()
    requests = [decode(message(raw_input_contents=[part]), codec) for part in parts]
    region = bytearray(6 * row_bytes)

    codec.gather(place(requests, rows), [memoryview(region)])

    assert b"".join(parts) == region


def test_inputs_are_gathered_in_the_models_order() -> None:
    """A caller may send its inputs in any order."""
    inputs = [X | {"name": "b"}, X | {"name": "a"}]
    request = decode(message(inputs=inputs, raw_input_contents=[b"b" * 8, b"a" * 8]))
    regions = [bytearray(8), bytearray(8)]

    Codec().gather(place([request], [2], order=(1, 0)), [memoryview(r) for r in regions])

    assert [b"a" * 8, b"b" * 8] == regions


def replies(
    requests: Sequence[Request],
    rows: Sequence[int],
    outputs: Sequence[OutputTensor],
    codec: Codec | None = None,
    *,
    batched: bool = True,
    wanted: tuple[int, ...] = (0,),
) -> list[Any]:
    """Return the decoded replies of a batch."""
    encoded = (codec or Codec()).reply(
        place(requests, rows, outputs=wanted),
        BatchOutputs(outputs, sum(rows), batched),
        [TIMING] * len(requests),
    )
    return [pb.ModelInferResponse.FromString(reply) for reply in encoded]


@pytest.mark.parametrize("datatype", [d for d in DataType if d.item_size])
def test_every_caller_gets_its_rows(datatype: DataType) -> None:
    """Outputs are cut by rows, with the shape, the model's version and the id of each request."""
    codec = Codec()
    requests = [
        decode(message(id=name, inputs=[X | {"shape": [rows, 1]}]), codec)
        for name, rows in (("a", 1), ("", 3), ("ü", 2))
    ]
    size = 3 * datatype.item_size
    data = bytes(i % 251 for i in range(6 * size))
    output = OutputTensor("y", datatype, (6, 3), memoryview(data), None)

    got = replies(requests, (1, 3, 2), [output], codec)

    first = 0
    for reply, name, rows in zip(got, ("a", "", "ü"), (1, 3, 2), strict=True):
        expected = pb.ModelInferResponse(
            model_name="m",
            model_version="3",
            id=name,
            raw_output_contents=[data[first * size : (first + rows) * size]],
        )
        expected.outputs.add(name="y", datatype=datatype.value, shape=[rows, 3])
        assert expected == reply
        first += rows


def test_texts_are_cut_at_their_row_offsets() -> None:
    """Rows of BYTES differ in length; each caller gets its own elements."""
    rows = [texts(b"one"), texts(b""), texts(b"three", b"four")]
    offsets = [0, 7, 11, 28]
    data = memoryview(b"".join(rows))
    requests = [
        decode(message(id=name, inputs=[X | {"shape": [count, 1]}]))
        for name, count in (("a", 1), ("b", 2))
    ]

    got = replies(requests, (1, 2), [OutputTensor("t", DataType.BYTES, (3,), data, offsets)])

    assert [[rows[0]], [rows[1] + rows[2]]] == [list(r.raw_output_contents) for r in got]
    assert [[1], [2]] == [list(r.outputs[0].shape) for r in got]


def test_without_batch_dimension_an_output_is_whole() -> None:
    """The only request of such a batch gets all of it, with its shape as it is."""
    output = OutputTensor("y", DataType.FP32, (2,), memoryview(b"12345678"), None)

    [reply] = replies([decode(message())], (1,), [output], batched=False)

    assert ([2], [b"12345678"]) == (
        list(reply.outputs[0].shape),
        list(reply.raw_output_contents),
    )


def test_only_the_outputs_asked_for_are_sent() -> None:
    """Outputs and their bytes stand at the same index, and the others are left out."""
    outputs = [
        OutputTensor(name, DataType.UINT8, (2, 1), memoryview(data), None)
        for name, data in (("a", b"aA"), ("b", b"bB"), ("c", b"cC"))
    ]

    [reply] = replies([decode(message())], (2,), outputs, wanted=(0, 2))

    assert (["a", "c"], [b"aA", b"cC"]) == (
        [output.name for output in reply.outputs],
        list(reply.raw_output_contents),
    )


def test_reply_heads_are_remembered_by_what_they_say() -> None:
    """The same header with another output shape or version gets another head."""
    codec = Codec()
    request = decode(message(), codec)
    shapes = []
    for width in (1, 2, 1):
        output = OutputTensor("y", DataType.UINT8, (2, width), memoryview(bytes(2 * width)), None)
        [reply] = replies([request], (2,), [output], codec)
        shapes.append(list(reply.outputs[0].shape))

    assert [[2, 1], [2, 2], [2, 1]] == shapes
    assert 2 == len(codec._reply_heads)


def classes(count: int) -> dict[str, Any]:
    """Return the parameters of an output of which classes are wanted."""
    return {"classification": pb.InferParameter(int64_param=count)}


@pytest.mark.parametrize("batched", [False, True])
def test_classes_take_the_place_of_their_output(*, batched: bool) -> None:
    """They are texts; other outputs of the request, and other requests, get their tensors."""
    codec = Codec()
    outputs = [
        OutputTensor("y", DataType.UINT8, (2, 3), memoryview(b"\1\2\3\6\5\4"), None, ("a", "b")),
        OutputTensor("z", DataType.UINT8, (2,), memoryview(b"zZ"), None),
    ]
    wanted = [{"name": "z"}, {"name": "y", "parameters": classes(2)}]
    request = decode(message(outputs=wanted), codec)
    rows = (1, 1) if batched else (1,)
    requests = [decode(message(), codec), request][-len(rows) :]

    got = replies(requests, rows, outputs, codec, batched=batched, wanted=(0, 1))[-1]

    assert (0, 2) == request.header.classes
    shape, found = ([1, 2], (b"6:0:a", b"5:1:b")) if batched else ([2], (b"6:3", b"5:4"))
    assert ("7", "BYTES", shape) == (got.id, got.outputs[0].datatype, list(got.outputs[0].shape))
    assert [texts(*found), b"Z" if batched else b"zZ"] == list(got.raw_output_contents)


def test_what_cannot_be_classified_is_an_error_of_its_request() -> None:
    """Others of the batch get their replies."""
    codec = Codec()
    request = decode(message(outputs=[{"name": "y", "parameters": classes(1)}]), codec)
    output = OutputTensor("y", DataType.BOOL, (2, 1), memoryview(b"\0\1"), None)

    error, fine = codec.reply(
        place([request, decode(message(), codec)], (1, 1)),
        BatchOutputs([output], 2, batched=True),
        [TIMING] * 2,
    )

    assert "class result not available for output due to unsupported type 'BOOL'" == str(error)
    assert isinstance(fine, bytes)


def test_timings_are_sent_on_request() -> None:
    """jitney_timing = true adds the stages in seconds; anything else adds nothing."""
    output = OutputTensor("y", DataType.UINT8, (2, 1), memoryview(b"ab"), None)
    timed, not_timed, plain = (
        decode(message(parameters=parameters))
        for parameters in (
            {"jitney_timing": pb.InferParameter(bool_param=True)},
            {"jitney_timing": pb.InferParameter(int64_param=1)},
            {},
        )
    )

    got = [replies([request], (2,), [output])[0] for request in (timed, not_timed, plain)]

    assert {
        "jitney_queue_seconds": 0.5,
        "jitney_compute_input_seconds": 0.25,
        "jitney_compute_infer_seconds": 0.125,
        "jitney_compute_output_seconds": 0.0625,
        "jitney_total_seconds": 1.0,
    } == {key: value.double_param for key, value in got[0].parameters.items()}
    assert [0, 0] == [len(reply.parameters) for reply in got[1:]]
    assert [b"ab"] == list(got[0].raw_output_contents)
