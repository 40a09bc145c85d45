from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as triton
from calls import add_sub, error_of, outputs, tensor, tensors
from public_models import DTYPES
from waiting import Pending

if TYPE_CHECKING:
    from live_server import LiveServer

INVALID = "StatusCode.INVALID_ARGUMENT"
ARGUMENTS = np.arange(16, dtype=np.int32)[None]


def test_infer(client: triton.InferenceServerClient) -> None:
    """The sum and the difference come back."""
    result = client.infer("simple", add_sub())
    np.testing.assert_array_equal(ARGUMENTS + 1, result.as_numpy("OUTPUT0"))
    np.testing.assert_array_equal(ARGUMENTS - 1, result.as_numpy("OUTPUT1"))


def test_inputs_in_any_order(client: triton.InferenceServerClient) -> None:
    """Inputs go by name, not by place."""
    result = client.infer("simple", add_sub()[::-1])
    np.testing.assert_array_equal(ARGUMENTS - 1, result.as_numpy("OUTPUT1"))


def test_id_and_version_are_told(client: triton.InferenceServerClient) -> None:
    """The reply has the request's id, and the version that ran."""
    response = client.infer("simple", add_sub(), request_id="my id").get_response()
    assert ("simple", "1", "my id") == (
        response.model_name,
        response.model_version,
        response.id,
    )


def test_asked_for_by_version(client: triton.InferenceServerClient) -> None:
    """A version may be named."""
    result = client.infer("simple", add_sub(), model_version="1")
    assert (1, 16) == result.as_numpy("OUTPUT0").shape


def test_only_requested_outputs_come(client: triton.InferenceServerClient) -> None:
    """What was not asked for is not sent."""
    result = client.infer("simple", add_sub(), outputs=outputs("OUTPUT1"))
    assert result.as_numpy("OUTPUT0") is None
    np.testing.assert_array_equal(ARGUMENTS - 1, result.as_numpy("OUTPUT1"))


def test_outputs_come_in_the_models_order(client: triton.InferenceServerClient) -> None:
    """Asking for OUTPUT1, OUTPUT0 returns OUTPUT0, OUTPUT1, as Triton does."""
    result = client.infer("simple", add_sub(), outputs=outputs("OUTPUT1", "OUTPUT0"))
    assert ["OUTPUT0", "OUTPUT1"] == [output.name for output in result.get_response().outputs]


def test_a_reply_has_raw_contents_only(client: triton.InferenceServerClient) -> None:
    """The client reads nothing but raw contents: one entry for each output."""
    response = client.infer("simple", add_sub()).get_response()
    assert 2 == len(response.raw_output_contents)
    assert not any(output.HasField("contents") for output in response.outputs)


def test_a_reply_has_no_parameters(client: triton.InferenceServerClient) -> None:
    """Nothing is added that was not asked for."""
    assert {} == dict(client.infer("simple", add_sub()).get_response().parameters)


@pytest.mark.parametrize("rows", [1, 2, 7, 8])
def test_requests_of_several_rows(client: triton.InferenceServerClient, rows: int) -> None:
    """A request may have as many rows as a batch."""
    assert (rows, 16) == client.infer("simple", add_sub(rows)).as_numpy("OUTPUT0").shape


def test_requests_of_unlike_rows_share_batches(server: LiveServer) -> None:
    """Concurrent requests of one to five rows each get their own rows back."""
    with triton.InferenceServerClient(server.address) as client:
        pending = []
        for i in range(60):
            values = np.full((i % 5 + 1, 16), i, np.int32)
            inputs = tensors(INPUT0=values, INPUT1=values)
            pending.append(Pending(client, inputs))
        for i, one in enumerate(pending):
            got = one.result().as_numpy("OUTPUT0")
            np.testing.assert_array_equal(np.full((i % 5 + 1, 16), 2 * i, np.int32), got)


def test_ragged_rows(client: triton.InferenceServerClient) -> None:
    """Concurrent requests whose rows differ in length are all answered."""
    pending = [
        Pending(client, tensors(INPUT__0=np.full((2, n), n, np.float32)), "rows")
        for n in (1, 3, 5, 3, 1, 9, 64)
    ]
    sums = [one.result().as_numpy("OUTPUT__0").ravel().tolist() for one in pending]
    assert [[n * n] * 2 for n in (1, 3, 5, 3, 1, 9, 64)] == sums


@pytest.mark.parametrize("name", sorted(set(DTYPES) - {"BF16"}))
def test_every_datatype(client: triton.InferenceServerClient, name: str) -> None:
    """Every datatype with which TorchScript computes goes in and comes out."""
    from tritonclient.utils import triton_to_np_dtype  # noqa: PLC0415

    dtype = np.dtype(triton_to_np_dtype(name))
    values = np.array([[1, 0, 2]]).astype(dtype)
    want = ~values if name == "BOOL" else values * dtype.type(3)
    result = client.infer(f"libtorch_{name.lower()}", tensors(INPUT__0=values))
    got = result.as_numpy("OUTPUT__0")
    assert (dtype, want.tolist()) == (got.dtype, got.tolist())


def test_bfloat16(client: triton.InferenceServerClient) -> None:
    """BF16 goes as the upper halves of floats, whatever the client makes them from."""
    given = triton.InferInput("INPUT__0", [1, 2], "BF16")
    raw = (np.array([[1.5, -2.0]], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    given._raw_content = raw.tobytes()  # the two generations take different arrays
    response = client.infer("libtorch_bf16", [given]).get_response()
    got = np.frombuffer(response.raw_output_contents[0], np.uint16).astype(np.uint32) << 16
    assert [4.5, -6.0] == got.view(np.float32).tolist()


def test_texts_in_and_out(client: triton.InferenceServerClient) -> None:
    """BYTES of a TorchScript model are texts: decimal numbers are added."""
    values = np.array([[str(i).encode() for i in range(16)]], object)
    ones = np.array([[b"1"] * 16], object)
    result = client.infer(
        "simple_string",
        [tensor("INPUT0", values, "BYTES"), tensor("INPUT1", ones, "BYTES")],
    )
    got = [int(text) for text in result.as_numpy("OUTPUT0").ravel()]
    assert [i + 1 for i in range(16)] == got


@pytest.mark.parametrize(
    "elements",
    [[b"plain"], [b""], [b"\x00\xff\xfe", "ümläut".encode(), b""], [b"x" * 100_000] * 3],
    ids=["one", "empty", "any bytes", "long"],
)
def test_bytes_of_a_built_in_model_are_any_bytes(
    client: triton.InferenceServerClient, elements: list[bytes]
) -> None:
    """The built-in identity hands on bytes that are no text."""
    values = np.array([elements], object)
    result = client.infer("simple_identity", [tensor("INPUT0", values, "BYTES")])
    assert elements == result.as_numpy("OUTPUT0").ravel().tolist()


def test_texts_must_be_text(client: triton.InferenceServerClient) -> None:
    """A TorchScript text is UTF-8; what is not is the caller's mistake."""
    values = np.array([[b"\xff"] * 16], object)
    inputs = [tensor("INPUT0", values, "BYTES"), tensor("INPUT1", values, "BYTES")]
    status, message = error_of(client.infer, "simple_string", inputs)
    assert (INVALID, True) == (status, "is not UTF-8" in message)


@pytest.mark.parametrize("model", ["identity_fp32", "libtorch_fp32", "large"])
def test_tensors_without_elements(client: triton.InferenceServerClient, model: str) -> None:
    """A zero in the shape is an empty tensor, which comes back as one."""
    name = "INPUT__0" if model.startswith("libtorch") else "INPUT0"
    out = "OUTPUT__0" if model.startswith("libtorch") else "OUTPUT0"
    shape = (0,) if model == "large" else (1, 0)
    result = client.infer(model, tensors(**{name: np.zeros(shape, np.float32)}))
    assert shape == result.as_numpy(out).shape


def test_bytes_without_elements(client: triton.InferenceServerClient) -> None:
    """The same of BYTES."""
    values = np.array([], object)
    result = client.infer("identity_bytes", [tensor("INPUT0", values, "BYTES")])
    assert (0,) == result.as_numpy("OUTPUT0").shape


def test_scalars(client: triton.InferenceServerClient) -> None:
    """A tensor without dimensions has one element."""
    result = client.infer("scalar", tensors(x=np.array(21, np.float32)))
    assert ((), 42.0) == (result.as_numpy("y").shape, float(result.as_numpy("y")))


def test_a_model_without_batch_dimension(client: triton.InferenceServerClient) -> None:
    """max_batch_size 0 takes shapes as they are, and reshapes for the model."""
    image = np.ones((3, 224, 224), np.float32)
    assert (1000,) == client.infer("densenet_onnx", tensors(data_0=image)).as_numpy("fc6_1").shape


def test_names_that_no_program_could_have(client: triton.InferenceServerClient) -> None:
    """Names with colons and slashes go by the order of the config."""
    image = np.ones((299, 299, 3), np.float32)
    result = client.infer("inception_onnx", [tensor("input:0", image)])
    assert (1001,) == result.as_numpy("InceptionV3/Predictions/Softmax:0").shape


def test_optional_inputs_may_be_left_out(client: triton.InferenceServerClient) -> None:
    """An input that is left out takes the model's default."""
    a, b = np.zeros((1, 4), np.float32), np.full((1, 4), 5, np.float32)
    without = client.infer("optional", tensors(a=a)).as_numpy("sum")
    given = client.infer("optional", tensors(a=a, b=b)).as_numpy("sum")
    assert ([2.0] * 4, [5.0] * 4) == (without[0].tolist(), given[0].tolist())


def test_optional_and_given_inputs_share_no_batch(client: triton.InferenceServerClient) -> None:
    """Concurrent requests with and without it each get their own answer."""
    a, b = np.zeros((1, 4), np.float32), np.full((1, 4), 5, np.float32)
    pending = [
        Pending(client, tensors(a=a, b=b) if i % 2 else tensors(a=a), "optional") for i in range(40)
    ]
    firsts = [float(one.result().as_numpy("sum")[0, 0]) for one in pending]
    assert [5.0 if i % 2 else 2.0 for i in range(40)] == firsts


def test_required_inputs_beside_optional_ones(client: triton.InferenceServerClient) -> None:
    """The message says how few and how many inputs there may be."""
    b = np.zeros((1, 4), np.float32)
    status, message = error_of(client.infer, "optional", tensors(b=b))
    assert INVALID == status
    assert message.startswith("expected number of inputs between 1 and 2 but got 1")


# -- mistakes, in Triton's words ---------------------------------------------------------------


def test_unknown_model(client: triton.InferenceServerClient) -> None:
    """The name is told."""
    status, message = error_of(client.infer, "nobody", add_sub())
    assert "StatusCode.NOT_FOUND" == status
    assert message.startswith("Request for unknown model: 'nobody' is not found")


def test_unknown_version(client: triton.InferenceServerClient) -> None:
    """The version is told."""
    status, message = error_of(client.infer, "simple", add_sub(), model_version="99")
    assert "StatusCode.NOT_FOUND" == status
    assert message.startswith("Request for unknown model: 'simple' version 99 is not found")


def test_missing_inputs(client: triton.InferenceServerClient) -> None:
    """What came and what is missing are told, without blanks."""
    status, message = error_of(client.infer, "simple", add_sub()[:1])
    assert INVALID == status
    assert (
        "expected 2 inputs but got 1 inputs for model 'simple'. Got input(s) ['INPUT0'], "
        "but missing required input(s) ['INPUT1']. Please provide all required input(s)."
    ) in message


def test_no_inputs(client: triton.InferenceServerClient) -> None:
    """Nothing is an empty list."""
    message = error_of(client.infer, "simple", [])[1]
    assert "Got input(s) [], but missing required input(s) ['INPUT0','INPUT1']" in message


def test_too_many_rows(client: triton.InferenceServerClient) -> None:
    """A model that is not batched across requests says how many rows one may have."""
    status, message = error_of(
        client.infer, "simple_sequence", tensors(INPUT=np.zeros((9, 1), np.int32)), sequence_id=1
    )
    assert INVALID == status
    assert "inference request batch-size must be <= 8 for 'simple_sequence'" in message


def test_unlike_numbers_of_rows(client: triton.InferenceServerClient) -> None:
    """All inputs must have as many rows."""
    inputs = [add_sub(1)[0], add_sub(2)[1]]
    status, message = error_of(client.infer, "simple", inputs)
    assert (INVALID, True) == (status, "INPUT1" in message)


def test_wrong_shape(client: triton.InferenceServerClient) -> None:
    """What was expected and what came are told."""
    inputs = tensors(INPUT0=np.zeros((1, 17), np.int32), INPUT1=np.zeros((1, 16), np.int32))
    status, message = error_of(client.infer, "simple", inputs)
    assert INVALID == status
    assert (
        "unexpected shape for input 'INPUT0' for model 'simple'. Expected [-1,16], got [1,17]."
    ) in message


def test_wrong_datatype(client: triton.InferenceServerClient) -> None:
    """Both datatypes are told."""
    inputs = tensors(INPUT0=np.zeros((1, 16), np.float32), INPUT1=np.zeros((1, 16), np.int32))
    status, message = error_of(client.infer, "simple", inputs)
    assert INVALID == status
    assert (
        "inference input 'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32'"
    ) in message


def test_unknown_input(client: triton.InferenceServerClient) -> None:
    """Its name is told."""
    inputs = [*add_sub(), tensor("INPUT2", np.zeros((1, 16), np.int32))]
    message = error_of(client.infer, "simple", inputs)[1]
    assert "unexpected inference input 'INPUT2' for model 'simple'" in message


def test_unknown_output(client: triton.InferenceServerClient) -> None:
    """Its name is told."""
    message = error_of(client.infer, "simple", add_sub(), outputs=outputs("OUTPUT9"))[1]
    assert "unexpected inference output 'OUTPUT9' for model 'simple'" in message


def test_repeated_input(client: triton.InferenceServerClient) -> None:
    """Its name is told."""
    message = error_of(client.infer, "simple", [*add_sub(), add_sub()[0]])[1]
    assert "input 'INPUT0' already exists in request" in message


def test_repeated_output(client: triton.InferenceServerClient) -> None:
    """Its name is told."""
    message = error_of(client.infer, "simple", add_sub(), outputs=outputs("OUTPUT0", "OUTPUT0"))[1]
    assert "output 'OUTPUT0' already exists in request" in message


def test_too_few_bytes(client: triton.InferenceServerClient) -> None:
    """The length expected and the length that came are told."""
    inputs = add_sub()
    inputs[0]._raw_content = inputs[0]._raw_content[:-4]
    message = error_of(client.infer, "simple", inputs)[1]
    assert (
        "input byte size mismatch for input 'INPUT0' for model 'simple'. Expected 64, got 60"
    ) in message


def test_too_few_texts(client: triton.InferenceServerClient) -> None:
    """The number of elements expected and the number that came are told."""
    values = np.array([[b"1"] * 14], object)
    inputs = [tensor("INPUT0", values, "BYTES"), tensor("INPUT1", values, "BYTES")]
    for given in inputs:
        given._input.shape[1] = 16
    message = error_of(client.infer, "simple_string", inputs)[1]
    assert (
        "expected 16 string elements for inference input 'INPUT0' for model 'simple_string', got 14"
    ) in message


def test_too_many_texts(client: triton.InferenceServerClient) -> None:
    """The first element too many is told."""
    values = np.array([[b"1"] * 18], object)
    inputs = [tensor("INPUT0", values, "BYTES"), tensor("INPUT1", values, "BYTES")]
    for given in inputs:
        given._input.shape[1] = 16
    message = error_of(client.infer, "simple_string", inputs)[1]
    assert (
        "unexpected number of string elements 17 for inference input 'INPUT0' for model "
        "'simple_string', expecting 16"
    ) in message


def test_a_model_that_raises(client: triton.InferenceServerClient) -> None:
    """What the model raised is the caller's to mend, and the neighbours' answers are right."""
    good, bad = np.ones((1, 4), np.float32), np.full((1, 4), 2000, np.float32)
    pending = [Pending(client, tensors(x=bad if i == 3 else good), "picky") for i in range(8)]
    failed = []
    for i, one in enumerate(pending):
        try:
            np.testing.assert_array_equal(good, one.result().as_numpy("y"))
        except Exception as error:  # noqa: BLE001  # the client's own
            failed.append((i, str(error.status())))  # type: ignore[attr-defined]
    assert [(3, INVALID)] == failed


def test_decoupled_models_refuse_model_infer(client: triton.InferenceServerClient) -> None:
    """Several replies do not fit into one."""
    inputs = tensors(
        IN=np.zeros(1, np.int32), DELAY=np.zeros(1, np.uint32), WAIT=np.zeros(1, np.uint32)
    )
    status, message = error_of(client.infer, "repeat_int32", inputs)
    assert "StatusCode.UNIMPLEMENTED" == status
    assert "ModelInfer RPC doesn't support models with decoupled transaction policy" in message
