"""Bad input ends one call with a clear text, and nothing else."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np
import pytest
from live_server import CALL_TIMEOUT, LiveServer, infer_request

from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Input = tuple[str, str, list[int], bytes]

ZEROS = bytes(64)
"""One row of an input of ``simple``."""
HUGE = (1 << 63) - 1
"""The largest size that the protocol can write."""
INVALID = grpc.StatusCode.INVALID_ARGUMENT


class Case(NamedTuple):
    """A request, or the bytes of one, and how its call has to end."""

    id: str
    request: pb.ModelInferRequest | bytes
    text: str
    code: grpc.StatusCode = INVALID


def simple(*inputs: Input, outputs: Sequence[str] = (), version: str = "") -> pb.ModelInferRequest:
    """Return a request to ``simple``; without inputs, one that is right."""
    if not inputs:
        inputs = (("INPUT0", "INT32", [1, 16], ZEROS), ("INPUT1", "INT32", [1, 16], ZEROS))
    request = infer_request("simple", inputs)
    request.model_version = version
    for name in outputs:
        request.outputs.add(name=name)
    return request


def first(datatype: str, shape: list[int], data: bytes) -> pb.ModelInferRequest:
    """Return a request to ``simple`` of which only the first input is as given."""
    return simple(("INPUT0", datatype, shape, data), ("INPUT1", "INT32", [1, 16], ZEROS))


def same(model: str, datatype: str, shape: list[int], data: bytes) -> pb.ModelInferRequest:
    """Return a request to a model whose only input is ``x``."""
    return infer_request(model, [("x", datatype, shape, data)])


def typed(
    model: str, name: str, datatype: str, shape: list[int], **fields: Any
) -> pb.ModelInferRequest:
    """Return a request with one input and typed contents."""
    request = pb.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    tensor.contents.SetInParent()
    for field, values in fields.items():
        getattr(tensor.contents, field).extend(values)
    return request


def changed(change: Callable[[pb.ModelInferRequest], object]) -> pb.ModelInferRequest:
    """Return a right request to ``simple`` after a change to it."""
    request = simple()
    change(request)
    return request


def texts(shape: list[int], *values: bytes, tail: bytes = b"") -> pb.ModelInferRequest:
    """Return a request to ``same_bytes``."""
    data = b"".join(struct.pack("<I", len(value)) + value for value in values)
    return same("same_bytes", "BYTES", shape, data + tail)


def names_and_versions() -> Iterator[Case]:
    """Yield what is wrong about whom a request is for."""
    missing = grpc.StatusCode.NOT_FOUND
    for name in ("nobody", "", "../simple", "simple/1", "simple\0", "🚌" * 100):
        text = f"Request for unknown model: '{name}' is not found"
        yield Case(f"model {name[:12]!a}", infer_request(name, []), text, missing)
    yield Case(
        "version 99",
        simple(version="99"),
        "Request for unknown model: 'simple' version 99 is not found; known versions: 1",
        missing,
    )
    for version in ("x", "-1", "1.0", " 1", "²", "1" * 20):
        text = f"failed to get model version from specified version string {version!r}"
        yield Case(f"version {version!a}", simple(version=version), text)
    yield Case(
        "long model name",
        infer_request("m" * 129, []),
        "the request has 129 characters in the model's name, at most 128 are allowed",
    )


def sets_of_tensors() -> Iterator[Case]:
    """Yield what is wrong about which inputs and outputs there are."""
    one: Input = ("INPUT0", "INT32", [1, 16], ZEROS)
    two: Input = ("INPUT1", "INT32", [1, 16], ZEROS)
    other: Input = ("INPUT2", "INT32", [1, 16], ZEROS)
    yield Case(
        "missing input",
        simple(one),
        "expected 2 inputs but got 1 inputs for model 'simple'. Got input(s) ['INPUT0'], but "
        "missing required input(s) ['INPUT1']. Please provide all required input(s).",
    )
    yield Case(
        "no inputs",
        infer_request("simple", []),
        "expected 2 inputs but got 0 inputs for model 'simple'. Got input(s) [], but missing "
        "required input(s) ['INPUT0','INPUT1']. Please provide all required input(s).",
    )
    yield Case(
        "extra input",
        simple(one, two, other),
        "unexpected inference input 'INPUT2' for model 'simple'",
    )
    yield Case("duplicate input", simple(one, two, one), "input 'INPUT0' already exists in request")
    yield Case(
        "unknown output",
        simple(outputs=["OUTPUT9"]),
        "unexpected inference output 'OUTPUT9' for model 'simple'",
    )
    yield Case(
        "duplicate output",
        simple(outputs=["OUTPUT0", "OUTPUT0"]),
        "output 'OUTPUT0' already exists in request",
    )
    yield Case(
        "too many inputs",
        infer_request("simple", [("x", "INT32", [1], b"")] * 65),
        "the request has 65 inputs, at most 64 are allowed",
    )
    yield Case(
        "too many outputs",
        simple(outputs=["OUTPUT0"] * 65),
        "the request has 65 requested outputs, at most 64 are allowed",
    )


def tensors() -> Iterator[Case]:
    """Yield what is wrong about the datatype, shape or bytes of a tensor."""
    yield Case(
        "wrong datatype",
        first("FP32", [1, 16], ZEROS),
        "inference input 'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32'",
    )
    for name in ("FP8", "", "int32"):
        text = f"input 'INPUT0' for model 'simple' has the datatype '{name}'; known are BOOL, "
        yield Case(f"datatype {name!r}", first(name, [1, 16], ZEROS), text)
    for shape in ([1, 17], [1, 15], [16], [1, 16, 1], [], [1, -16], [-1, 16], [1, HUGE]):
        joined = ",".join(map(str, shape))
        text = (
            "unexpected shape for input 'INPUT0' for model 'simple'. "
            f"Expected [-1,16], got [{joined}]."
        )
        yield Case(f"shape [{joined}]", first("INT32", shape, ZEROS), text)
    yield Case(
        "too many dimensions",
        first("INT32", [1] * 17, b""),
        "input 'INPUT0' for model 'simple': at most 16 dimensions and 128 characters of name",
    )
    yield Case(
        "extra dimension without batching",
        same("unbatched", "FP32", [1, 2, 4], bytes(32)),
        "unexpected shape for input 'x' for model 'unbatched'. Expected [2,-1], got [1,2,4].",
    )
    yield Case(
        "different lengths",
        infer_request(
            "joined", [("a", "FP32", [1, 2], bytes(8)), ("b", "FP32", [1, 3], bytes(12))]
        ),
        "unexpected shape for input 'b' for model 'joined'. "
        "Its dimension L is 3, but that of input 'a' is 2.",
    )
    for count in (0, 60, 63, 65, 68):
        yield Case(
            f"{count} bytes for 64",
            first("INT32", [1, 16], bytes(count)),
            f"input byte size mismatch for input 'INPUT0' for model 'simple'. "
            f"Expected 64, got {count}",
        )
    yield Case(
        "too few raw entries",
        changed(lambda r: r.raw_input_contents.pop()),
        "unable to find data for input tensor 'INPUT1' for model 'simple' in request.",
    )
    yield Case(
        "too many raw entries",
        changed(lambda r: r.raw_input_contents.append(ZEROS)),
        "raw_input_contents has 3 entries for the 2 inputs of a request for model 'simple'",
    )
    # 64-bit arithmetic would make 0 of both products, and agree with the empty bytes.
    for shape in ([8, 1 << 61], [4, 1 << 60]):
        nbytes = shape[0] * shape[1] * 4
        yield Case(
            f"overflow {shape}",
            same("same_fp32", "FP32", shape, b""),
            f"the inputs of this request to 'same_fp32' have {nbytes} bytes",
        )
    yield Case(
        "largest shape",
        same("planes", "FP32", [8, HUGE, HUGE], bytes(4)),
        f"the inputs of this request to 'planes' have {8 * HUGE * HUGE * 4} bytes",
    )


def rows() -> Iterator[Case]:
    """Yield what is wrong about the number of rows."""
    yield Case(
        "too many rows",
        same("same_fp32", "FP32", [9, 1], bytes(36)),
        "inference request batch-size must be <= 8 for 'same_fp32'",
    )
    yield Case(
        "far too many rows",
        same("same_fp32", "FP32", [HUGE, 1], b""),
        "inference request batch-size must be <= 8 for 'same_fp32'",
    )
    yield Case(
        "zero rows",
        same("same_fp32", "FP32", [0, 1], b""),
        "inference request batch-size must be >= 1 for 'same_fp32', got 0",
    )
    yield Case(
        "different rows",
        simple(("INPUT0", "INT32", [1, 16], ZEROS), ("INPUT1", "INT32", [2, 16], bytes(128))),
        "input 'INPUT1' batch-size does not match other inputs for 'simple': "
        "2 rows, the others have 1",
    )
    yield Case(
        "more rows than a model without batching takes",
        same("centred", "FP32", [2, 4], bytes(32)),
        "inference request batch-size must be <= 1 for 'centred'",
    )
    yield Case(
        "more bytes than a batch",
        same("same_fp32", "FP32", [8, 40_000], bytes(8 * 40_000 * 4)),
        "the inputs of this request to 'same_fp32' have 1280000 bytes, and one batch may have ",
    )
    yield Case(
        "more bytes of texts than a batch",
        texts([1, 1], b"x" * (1 << 20)),
        "the inputs of this request to 'same_bytes' have 1048580 bytes, and one batch may have ",
    )


def typed_contents() -> Iterator[Case]:
    """Yield what is wrong about typed contents."""
    yield Case(
        "typed and raw",
        changed(lambda r: r.inputs[0].contents.int_contents.extend([0] * 16)),
        "contents field must not be specified when using raw_input_contents for 'INPUT0' for "
        "model 'simple'",
    )
    yield Case(
        "empty typed and raw",
        changed(lambda r: r.inputs[1].contents.SetInParent()),
        "contents field must not be specified when using raw_input_contents for 'INPUT1' for "
        "model 'simple'",
    )
    text = (
        "unexpected explicit tensor data for input tensor 'x' for model 'same_int32' of type "
        "'FP32', expected datatype 'INT32'"
    )
    yield Case(
        "wrong typed field", typed("same_int32", "x", "INT32", [1, 1], fp32_contents=[1]), text
    )
    yield Case(
        "two typed fields",
        typed("same_int32", "x", "INT32", [1, 1], int_contents=[1], fp32_contents=[1]),
        text,
    )
    for datatype, value in (("INT8", 128), ("INT16", -32769)):
        model = f"same_{datatype.lower()}"
        yield Case(
            f"{value} as {datatype}",
            typed(model, "x", datatype, [1, 1], int_contents=[value]),
            f"a value of input 'x' for model '{model}' is outside the range of {datatype}",
        )
    yield Case(
        "256 as UINT8",
        typed("same_uint8", "x", "UINT8", [1, 1], uint_contents=[256]),
        "a value of input 'x' for model 'same_uint8' is outside the range of UINT8",
    )
    for count in (0, 1, 3):
        yield Case(
            f"{count} values for 2",
            typed("same_int32", "x", "INT32", [1, 2], int_contents=[1] * count),
            f"input byte size mismatch for input 'x' for model 'same_int32'. "
            f"Expected 8, got {4 * count}",
        )
    yield Case(
        "typed FP16",
        typed("same_fp16", "x", "FP16", [1, 1], fp32_contents=[1]),
        "unexpected explicit tensor data for input tensor 'x' for model 'same_fp16' of type "
        "'FP32', expected datatype 'FP16'",
    )
    yield Case(
        "too few typed texts",
        typed("same_bytes", "x", "BYTES", [1, 2], bytes_contents=[b"a"]),
        "expected 2 string elements for inference input 'x' for model 'same_bytes', got 1",
    )
    yield Case(
        "no data at all",
        changed(lambda r: r.ClearField("raw_input_contents")),
        "unable to find data for input tensor 'INPUT0' for model 'simple' in request.",
    )


def strings() -> Iterator[Case]:
    """Yield what is wrong about BYTES."""
    yield Case(
        "too few texts",
        texts([1, 3], b"a", b"b"),
        "expected 3 string elements for inference input 'x' for model 'same_bytes', got 2",
    )
    yield Case(
        "too many texts",
        texts([1, 1], b"a", b"b", b"c"),
        "unexpected number of string elements 2 for inference input 'x' for model 'same_bytes', "
        "expecting 1",
    )
    for name, tail in (("prefix", b"\1\0"), ("text", b"\5\0\0\0abc"), ("4 GiB", b"\xff" * 4)):
        text = "incomplete string element 1 of inference input 'x' for model 'same_bytes'"
        yield Case(f"cut {name}", texts([1, 2], b"a", tail=tail), text)
    yield Case(
        "not UTF-8",
        texts([1, 2], b"a", b"\xff"),
        "string element 1 of input 'x' for model 'same_bytes' is not UTF-8",
    )
    yield Case(
        "more texts than memory",
        texts([8, 1 << 60]),
        f"expected {1 << 63} string elements for inference input 'x' for model 'same_bytes', got 0",
    )


def parameters() -> Iterator[Case]:
    """Yield what is wrong about parameters, or asks for what is not offered."""
    yield Case(
        "reserved parameter",
        changed(lambda r: setattr(r.parameters["triton_secret"], "bool_param", True)),
        "parameter 'triton_secret' is reserved",
    )
    wanted = "parameter 'mine' must be a bool, an int64, a double or a string"
    yield Case("unset parameter", changed(lambda r: r.parameters["mine"].SetInParent()), wanted)
    yield Case(
        "unsigned parameter",
        changed(lambda r: setattr(r.parameters["mine"], "uint64_param", 1)),
        wanted,
    )

    def fill(request: pb.ModelInferRequest) -> None:
        for number in range(65):
            request.parameters[f"p{number}"].bool_param = True

    yield Case(
        "too many parameters",
        changed(fill),
        "the request has 65 parameters, at most 64 are allowed",
    )
    unimplemented = grpc.StatusCode.UNIMPLEMENTED
    for side in ("inputs", "outputs"):

        def share(request: pb.ModelInferRequest, side: str = side) -> None:
            if side == "outputs":
                request.outputs.add(name="OUTPUT0")
            getattr(request, side)[0].parameters["shared_memory_region"].string_param = "r"

        yield Case(
            f"shared memory of {side}",
            changed(share),
            "Client shared memory is disabled",
            unimplemented,
        )

    def classify(request: pb.ModelInferRequest) -> None:
        request.outputs.add(name="OUTPUT0").parameters["classification"].int64_param = 2

    yield Case(
        "classification",
        changed(classify),
        "the classification extension is not supported",
        unimplemented,
    )


def messages() -> Iterator[Case]:
    """Yield what is no ModelInferRequest."""
    good = simple().SerializeToString()
    text = "the message is not a ModelInferRequest"
    yield Case("cut message", good[:-1], f"{text}: it ends inside a field")
    yield Case("garbage", b"\xff" * 100, text)
    yield Case("groups", b"\x0b\x0c" + good, f"{text}: it uses groups")
    yield Case("raw as a number", b"\x38\x01" + good, f"{text}: a field has an unexpected type")
    yield Case("length of 2^63", b"\x3a" + b"\xff" * 9 + b"\x01" + good, text)
    yield Case("wrong UTF-8 in a name", b"\x0a\x01\xff", text)
    yield Case("wrong UTF-8 in the id", b"\x1a\x01\xff" + good, "the request's id is not UTF-8")
    yield Case("half a million inputs", b"\x2a\x00" * 500_000, "the request has 500000 inputs")
    yield Case("empty message", b"", "Request for unknown model: ''", grpc.StatusCode.NOT_FOUND)


CASES = [
    case
    for group in (
        names_and_versions,
        sets_of_tensors,
        tensors,
        rows,
        typed_contents,
        strings,
        parameters,
        messages,
    )
    for case in group()
]


def ending(server: LiveServer, request: pb.ModelInferRequest | bytes) -> grpc.RpcError:
    """Return how a call fails."""
    message = request if isinstance(request, bytes) else request.SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        server.infer_raw(message)
    return caught.value


def assert_unharmed(server: LiveServer) -> None:
    """Check that nothing is left behind, and that the next request is answered."""
    assert (0, 0) == server.in_flight()
    ones = np.ones((1, 16), np.int32)
    sums = server.client.infer("simple", {"INPUT0": ones, "INPUT1": ones})["OUTPUT0"]
    assert [2] * 16 == sums[0].tolist()


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_bad_input(server: LiveServer, case: Case) -> None:
    """The call ends at once with the protocol's status and text; no batch runs for it."""
    before = server.metric("jitney_batches_total")
    error = ending(server, case.request)
    assert (case.code, case.text) == (error.code(), error.details()[: len(case.text)])
    assert before == server.metric("jitney_batches_total")
    assert_unharmed(server)


def test_every_refusal_is_counted(server: LiveServer) -> None:
    """A refused request counts once each: as a call, as rejected, as the model's failure."""

    def figures() -> tuple[float, float, int]:
        return (
            server.metric("jitney_requests_total", method="ModelInfer", code="INVALID_ARGUMENT"),
            server.metric("jitney_rejected_total", model="simple", reason="BAD_INPUT"),
            server.figures("simple").inference_stats.fail.count,
        )

    before = figures()
    ending(server, first("FP32", [1, 16], ZEROS))
    assert tuple(figure + 1 for figure in before) == figures()


def test_gauges_are_back_at_zero(server: LiveServer) -> None:
    """After refusals of every kind, the gauges of what is in flight show nothing."""
    for request in (simple(version="9"), first("FP32", [1, 16], ZEROS), b"\xff"):
        ending(server, request)
    gauges = ("jitney_inflight_requests", "jitney_inflight_bytes", "jitney_queue_depth")
    assert (0, 0, 0) == tuple(server.metric(gauge) for gauge in gauges)


def test_the_largest_message_is_refused_by_its_size(server: LiveServer) -> None:
    """A message over the limit is RESOURCE_EXHAUSTED, before any of it is looked at."""
    error = ending(server, bytes(3 << 20))
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == error.code()
    assert "larger than max (3145728 vs. 2097152)" in error.details()
    assert_unharmed(server)


def test_compressed_requests_are_refused(server: LiveServer) -> None:
    """Nothing is inflated: a compressed request is UNIMPLEMENTED."""
    with pytest.raises(grpc.RpcError) as caught:
        server.infer_raw(
            same("same_fp32", "FP32", [1, 8], bytes(32)).SerializeToString(),
            compression=grpc.Compression.Gzip,
        )
    assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()
    assert_unharmed(server)


@pytest.mark.parametrize("shape", [[1, 0, 1 << 62], [2, HUGE, 0], [8, 0, 0]])
def test_empty_tensors_of_any_shape_are_answered(server: LiveServer, shape: list[int]) -> None:
    """A tensor without elements is a tensor, whatever its other sizes are."""
    reply = server.infer_raw(same("planes", "FP32", shape, b"").SerializeToString())
    response = pb.ModelInferResponse.FromString(reply)
    assert (shape, [b""]) == (
        list(response.outputs[0].shape),
        list(response.raw_output_contents),
    )


@pytest.mark.parametrize(
    ("rpc", "request_type", "field"),
    [
        ("ModelMetadata", pb.ModelMetadataRequest, "name"),
        ("ModelConfig", pb.ModelConfigRequest, "name"),
        ("ModelStatistics", pb.ModelStatisticsRequest, "name"),
        ("ModelMetadata", pb.ModelMetadataRequest, "version"),
    ],
)
def test_long_names_come_back_short(
    server: LiveServer, rpc: str, request_type: Any, field: str
) -> None:
    """A name of 100 kB is refused as what it is, and does not fill the reply's trailers."""
    request = request_type(**{"name": "simple", field: "é" * 100_000})
    with pytest.raises(grpc.RpcError) as caught:
        server.call(rpc, request)
    expected = (
        INVALID if field == "version" or rpc == "ModelStatistics" else grpc.StatusCode.NOT_FOUND
    )
    assert expected == caught.value.code()
    assert_unharmed(server)


@pytest.mark.parametrize(
    "request_",
    [
        simple(outputs=["é" * 100_000]),
        simple(version="9" * 100_000),
        simple(version="é" * 100_000),
        first("é" * 100_000, [1, 16], ZEROS),
        changed(lambda r: r.parameters["é" * 100_000].SetInParent()),
    ],
    ids=["output", "digits", "version", "datatype", "parameter"],
)
def test_long_texts_in_a_request_come_back_short(
    server: LiveServer, request_: pb.ModelInferRequest
) -> None:
    """Whatever a request is wrong about, its status arrives, however long the wrong text is."""
    assert INVALID == ending(server, request_).code()
    assert_unharmed(server)


def test_a_known_head_is_checked_again_with_other_bytes(server: LiveServer) -> None:
    """A request whose like was accepted before is still refused for its own bytes."""
    right = same("same_fp32", "FP32", [1, 2], bytes(8)).SerializeToString()
    server.infer_raw(right)
    error = ending(server, same("same_fp32", "FP32", [1, 2], bytes(4)))
    assert (
        "input byte size mismatch for input 'x' for model 'same_fp32'. Expected 8, got 4"
        == error.details()
    )
    server.infer_raw(right, timeout=CALL_TIMEOUT)
