"""Requests that are wrong, each with the status and the text that its call has to end with."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc
from live_server import infer_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jitney_client.protocol import inference as pb

__all__ = [
    "CASES",
    "INVALID",
    "ZEROS",
    "Case",
    "changed",
    "first",
    "same",
    "simple",
    "texts",
]

Input = tuple[str, str, list[int], bytes]

ZEROS: Final = bytes(64)
"""One row of an input of ``simple``."""
HUGE: Final = (1 << 63) - 1
"""The largest size that the protocol can write."""
INVALID: Final = grpc.StatusCode.INVALID_ARGUMENT


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
    # No elements, so no bytes are missing; but torch counts strides in 64 bits.
    for shape in ([1, 0, 1 << 62], [2, HUGE, 0]):
        yield Case(
            f"strides of {shape}",
            same("planes", "FP32", shape, b""),
            "input 'x' for model 'planes' has the shape "
            f"[{','.join(map(str, shape))}], whose strides are too large",
        )


def rows() -> Iterator[Case]:
    """Yield what is wrong about the number of rows."""
    yield Case(
        "too many rows",
        same("whole", "FP32", [9, 4], bytes(144)),
        "inference request batch-size must be <= 8 for 'whole', got 9",
    )
    yield Case(
        "more rows than may wait",
        same("same_fp32", "FP32", [4097, 1], bytes(4 * 4097)),
        "inference request batch-size must be <= 4096 for 'same_fp32', got 4097",
    )
    yield Case(
        "far too many rows",
        same("same_fp32", "FP32", [HUGE, 1], b""),
        "inference request batch-size must be <= 4096 for 'same_fp32'",
    )
    yield Case(
        "fewer bytes than rows in parts have",
        same("same_fp32", "FP32", [100, 1], bytes(399)),
        "input byte size mismatch for input 'x' for model 'same_fp32'. Expected 400, got 399",
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
        same("centred", "FP32", [9, 4], bytes(144)),
        "inference request batch-size must be <= 8 for 'centred'",
    )
    yield Case(
        "more bytes than a batch",
        same("same_fp32", "FP32", [1, 320_000], bytes(320_000 * 4)),
        "the inputs of this request to 'same_fp32' have 1280000 bytes, and one batch may have ",
    )
    yield Case(
        "more bytes of texts than a batch",
        texts([1, 1], b"x" * (1 << 20)),
        "the inputs of this request to 'same_bytes' have 1048580 bytes, and one batch may have ",
    )
    yield Case(
        "a row of texts that no batch holds",
        texts([3, 1], b"a", b"x" * (1 << 20), b"b"),
        "row 1 of this request to 'same_bytes' has 1048580 bytes, and one batch may have ",
    )


def parameters() -> Iterator[Case]:
    """Yield what is wrong about the parameters that the server acts on."""
    for key, field, value, kinds in (
        ("timeout", "int64_param", -1, "int64"),
        ("timeout", "string_param", "1s", "int64"),
        ("timeout", "double_param", 1.5, "int64"),
        ("timeout", "uint64_param", 1, "int64"),
        ("priority", "int64_param", -1, "int64 or uint64"),
        ("priority", "bool_param", True, "int64 or uint64"),
        ("priority", "string_param", "high", "int64 or uint64"),
    ):
        request = simple()
        setattr(request.parameters[key], field, value)
        text = f"parameter '{key}' must be an {kinds}, 0 or more"
        yield Case(f"{key} {value}", request, text)


CASES: Final = [
    case
    for group in (names_and_versions, sets_of_tensors, tensors, rows, parameters)
    for case in group()
]
