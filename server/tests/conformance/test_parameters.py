from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from calls import add_sub, error_of, tensors
from live_server import wait_until
from tritonclient.grpc import service_pb2, service_pb2_grpc
from waiting import Pending

if TYPE_CHECKING:
    import tritonclient.grpc as triton
    from live_server import LiveServer

INVALID = "StatusCode.INVALID_ARGUMENT"


def echo(client: triton.InferenceServerClient, **options: object) -> dict[str, str]:
    """Return what the built-in echo was given."""
    result = client.infer("parameter", tensors(INPUT0=np.zeros(1, np.float32)), **options)
    keys, values = (result.as_numpy(name).ravel() for name in ("key", "value"))
    return {k.decode(): v.decode() for k, v in zip(keys, values, strict=True)}


def test_custom_parameters_reach_the_model(client: triton.InferenceServerClient) -> None:
    """Texts, numbers and flags that the client adds are seen by the model."""
    got = echo(client, parameters={"text": "yes", "number": 7, "flag": True})
    assert ("yes", "7") == (got["text"], got["number"])
    assert got["flag"].lower() == "true"


def test_no_parameters(client: triton.InferenceServerClient) -> None:
    """Without any there is nothing to echo."""
    assert {} == echo(client)


def test_forwarded_headers(client: triton.InferenceServerClient) -> None:
    """Headers that the operator lets through are seen by the model, others are not."""
    got = echo(client, headers={"x-jitney-tag": "blue", "x-other": "red"})
    assert {"x-jitney-tag": "blue"} == got


@pytest.mark.parametrize("priority", [0, 1, 2, 3, 9])
def test_priority(client: triton.InferenceServerClient, priority: int) -> None:
    """Every priority is taken; those that we do not have count as the lowest."""
    result = client.infer("simple", add_sub(), priority=priority)
    assert (1, 16) == result.as_numpy("OUTPUT0").shape


def test_timeout_of_a_free_server(client: triton.InferenceServerClient) -> None:
    """A request that starts in time is not touched by its timeout."""
    assert client.infer("simple", add_sub(), timeout=5_000_000).as_numpy("OUTPUT0") is not None


def test_timeout_of_a_busy_server(server: LiveServer, client: triton.InferenceServerClient) -> None:
    """A request that waited longer than its timeout is refused in Triton's words."""
    given = tensors(INPUT0=np.zeros((1024, 1), np.int32))
    busy = [Pending(client, given, "custom_identity_int32") for _ in range(4)]
    # Calls of one channel may overtake each other: one runs, one is staged, the others wait.
    wait_until(lambda: server.waiting("custom_identity_int32") > 0, "one of them waits")
    status, message = error_of(client.infer, "custom_identity_int32", given, timeout=10_000)
    assert ("StatusCode.DEADLINE_EXCEEDED", "Request timeout expired") == (status, message)
    for one in busy:
        one.result()


def test_queue_full(client: triton.InferenceServerClient) -> None:
    """A full queue says so, with our code."""
    given = tensors(INPUT0=np.zeros((1, 1), np.float32))
    pending = [Pending(client, given, "custom_zero_1_float32") for _ in range(8)]
    errors = []
    for one in pending:
        try:
            one.result()
        except Exception as error:  # noqa: BLE001  # the client's own
            errors.append((str(error.status()), str(error.message())))  # type: ignore[attr-defined]
    assert errors
    assert {"StatusCode.RESOURCE_EXHAUSTED"} == {status for status, _ in errors}
    assert all("Exceeds maximum queue size" in message for _, message in errors)


def raw(server: LiveServer, **parameters: object) -> object:
    """Call ModelInfer of ``simple`` through the public stubs, with any parameters."""
    request = service_pb2.ModelInferRequest(model_name="simple")
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        request.raw_input_contents.append(bytes(64))
    for key, (kind, value) in parameters.items():
        setattr(request.parameters[key], kind, value)
    return service_pb2_grpc.GRPCInferenceServiceStub(server.channel).ModelInfer(request, timeout=20)


def refusal(server: LiveServer, **parameters: object) -> tuple[str, str]:
    """Return code and text of the error of such a call."""
    with pytest.raises(grpc.RpcError) as caught:
        raw(server, **parameters)
    return caught.value.code().name, caught.value.details()


def test_reserved_parameters(server: LiveServer) -> None:
    """Parameters that begin with triton_ are the protocol's."""
    code, text = refusal(server, triton_mine=("string_param", "x"))
    assert ("INVALID_ARGUMENT", True) == (code, "triton_mine" in text)


def test_the_final_flag_may_be_sent_always(server: LiveServer) -> None:
    """The C++ client sends it with every request."""
    reply = raw(server, triton_enable_empty_final_response=("bool_param", True))
    assert "simple" == reply.model_name  # type: ignore[attr-defined]


def test_negative_priority(server: LiveServer) -> None:
    """A priority is 0 or more."""
    assert "INVALID_ARGUMENT" == refusal(server, priority=("int64_param", -1))[0]


def test_priority_as_int64(server: LiveServer) -> None:
    """Older clients send a signed number."""
    assert "simple" == raw(server, priority=("int64_param", 1)).model_name  # type: ignore[attr-defined]


def test_sequence_parameters_of_a_plain_model(server: LiveServer) -> None:
    """A model without sequences ignores what is said of them."""
    reply = raw(server, sequence_id=("int64_param", 7), sequence_start=("bool_param", True))
    assert "simple" == reply.model_name  # type: ignore[attr-defined]
