"""More wrong requests: typed contents, texts, parameters, and bytes that are no request at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
from bad_requests import Case, changed, simple, texts

from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CASES"]


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
        request.outputs.add(name="OUTPUT0").parameters["classification"].int64_param = 0

    yield Case(
        "no classes",
        changed(classify),
        "requested output 'OUTPUT0': parameter 'classification' must be an int64 above 0",
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
    yield Case("half a million inputs", b"\x2a\x00" * 500_000, "the request has more than 264")
    yield Case("a hundred inputs", b"\x2a\x00" * 100, "the request has 100 inputs, at most 64")
    yield Case("millions of raw tensors", b"\x3a\x00" * 500_000, "the request has more than 264")
    yield Case("empty message", b"", "Request for unknown model: ''", grpc.StatusCode.NOT_FOUND)


CASES: Final = [
    case for group in (typed_contents, strings, parameters, messages) for case in group()
]
