from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from calls import add_sub, error_of, outputs, tensor, tensors

if TYPE_CHECKING:
    import tritonclient.grpc as triton

INVALID = "StatusCode.INVALID_ARGUMENT"


def texts(array: np.ndarray) -> list[str]:  # type: ignore[type-arg]
    """Return elements as texts."""
    return [text.decode() for text in array.ravel()]


def test_the_highest_first(client: triton.InferenceServerClient) -> None:
    """Each element has value, index and nothing else where there are no labels."""
    values = np.array([[3, 1, 2]], np.int32)
    result = client.infer(
        "libtorch_int32",
        tensors(INPUT__0=values),
        outputs=outputs("OUTPUT__0", class_count=2),
    )
    assert ["9:0", "6:2"] == texts(result.as_numpy("OUTPUT__0"))


def test_floats_have_six_decimals(client: triton.InferenceServerClient) -> None:
    """As C++ prints them."""
    values = np.array([[0.5, -1.0]], np.float32)
    result = client.infer(
        "libtorch_fp32", tensors(INPUT__0=values), outputs=outputs("OUTPUT__0", class_count=2)
    )
    assert ["1.500000:0", "-3.000000:1"] == texts(result.as_numpy("OUTPUT__0"))


def test_every_row_has_its_own(client: triton.InferenceServerClient) -> None:
    """A batch has a row of classes for each of its rows."""
    values = np.array([[1, 2], [4, 3]], np.int64)
    result = client.infer(
        "libtorch_int64", tensors(INPUT__0=values), outputs=outputs("OUTPUT__0", class_count=1)
    )
    assert ((2, 1), ["6:1", "12:0"]) == (
        result.as_numpy("OUTPUT__0").shape,
        texts(result.as_numpy("OUTPUT__0")),
    )


def test_no_more_than_there_are(client: triton.InferenceServerClient) -> None:
    """Asking for more classes than elements gives all."""
    values = np.array([[1.0, 2.0]], np.float64)
    result = client.infer(
        "libtorch_fp64", tensors(INPUT__0=values), outputs=outputs("OUTPUT__0", class_count=9)
    )
    assert (1, 2) == result.as_numpy("OUTPUT__0").shape


def test_labels(client: triton.InferenceServerClient) -> None:
    """Where the model has labels, they follow the index; without batching there is one row."""
    image = np.linspace(0, 1, 3 * 224 * 224, dtype=np.float32).reshape(3, 224, 224)
    scores = client.infer("densenet_onnx", tensors(data_0=image)).as_numpy("fc6_1")
    result = client.infer(
        "densenet_onnx", tensors(data_0=image), outputs=outputs("fc6_1", class_count=3)
    )
    best = np.argsort(-scores)[:3]
    assert [f"{scores[i]:.6f}:{i}:CLASS {i}" for i in best] == texts(result.as_numpy("fc6_1"))
    assert (3,) == result.as_numpy("fc6_1").shape


def test_the_reply_says_bytes(client: triton.InferenceServerClient) -> None:
    """The output's datatype is BYTES, whatever the model's is."""
    result = client.infer(
        "simple", add_sub(), outputs=outputs("OUTPUT0", class_count=1)
    ).get_response()
    assert ("BYTES", [1, 1]) == (result.outputs[0].datatype, list(result.outputs[0].shape))


def test_one_output_classified_and_one_not(client: triton.InferenceServerClient) -> None:
    """Each output is asked for by itself."""
    asked = [*outputs("OUTPUT0", class_count=1), *outputs("OUTPUT1")]
    result = client.infer("simple", add_sub(), outputs=asked)
    assert (["16:15"], np.int32) == (
        texts(result.as_numpy("OUTPUT0")),
        result.as_numpy("OUTPUT1").dtype,
    )


@pytest.mark.parametrize("model", ["identity_bytes", "simple_identity"])
def test_texts_have_no_classes(client: triton.InferenceServerClient, model: str) -> None:
    """BYTES cannot be sorted."""
    shape = (1,) if model == "identity_bytes" else (1, 1)
    given = [tensor("INPUT0", np.full(shape, b"x", object), "BYTES")]
    status, message = error_of(
        client.infer, model, given, outputs=outputs("OUTPUT0", class_count=1)
    )
    assert INVALID == status
    assert "class result not available for output due to unsupported type 'BYTES'" in message
