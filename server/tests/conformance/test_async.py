from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as triton
from calls import add_sub, error_of, tensors
from live_server import wait_until
from tritonclient.grpc import aio
from waiting import Pending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from live_server import LiveServer

SLOW = {"INPUT0": np.zeros((1024, 1), np.int32)}


def test_callbacks_have_their_own_results(client: triton.InferenceServerClient) -> None:
    """A hundred calls at once each get their own answer."""
    pending = []
    for i in range(100):
        values = np.full((1, 16), i, np.int32)
        pending.append(Pending(client, tensors(INPUT0=values, INPUT1=values)))
    got = [int(one.result().as_numpy("OUTPUT0")[0, 0]) for one in pending]
    assert [2 * i for i in range(100)] == got


def test_callbacks_are_told_errors(client: triton.InferenceServerClient) -> None:
    """An error comes in place of a result."""
    with pytest.raises(Exception, match="unknown model") as caught:
        Pending(client, add_sub(), "nobody").result()
    assert "StatusCode.NOT_FOUND" == caught.value.status()  # type: ignore[attr-defined]


def test_a_cancelled_call(client: triton.InferenceServerClient) -> None:
    """cancel() ends the call at once, and the server lets go of the request."""
    pending = [Pending(client, tensors(**SLOW), "custom_identity_int32") for _ in range(3)]
    if not hasattr(pending[-1].call, "cancel"):
        pytest.skip("this version of the client cannot cancel")
    pending[-1].call.cancel()
    with pytest.raises(Exception, match=r"(?i)cancel"):
        pending[-1].result()
    for one in pending[:-1]:
        one.result()


def test_the_server_hears_of_a_cancelled_call(server: LiveServer) -> None:
    """Nothing stays in flight of a call that was cancelled."""
    with triton.InferenceServerClient(server.address) as client:
        pending = [Pending(client, tensors(**SLOW), "custom_identity_int32") for _ in range(4)]
        for one in pending:
            if not hasattr(one.call, "cancel"):
                pytest.skip("this version of the client cannot cancel")
            one.call.cancel()
    wait_until(lambda: server.in_flight() == (0, 0), "in_flight is 0")


def test_client_timeout(client: triton.InferenceServerClient) -> None:
    """client_timeout is the deadline of the call; the text is gRPC's or contains it."""
    status, message = error_of(
        client.infer, "custom_identity_int32", tensors(**SLOW), client_timeout=0.1
    )
    assert "StatusCode.DEADLINE_EXCEEDED" == status
    assert "Deadline Exceeded" in message


def test_client_timeout_that_is_long_enough(client: triton.InferenceServerClient) -> None:
    """A deadline that can be kept changes nothing."""
    result = client.infer("simple", add_sub(), client_timeout=20.0)
    assert (1, 16) == result.as_numpy("OUTPUT0").shape


def run(server: LiveServer, body: Callable[[aio.InferenceServerClient], Awaitable[None]]) -> None:
    """Run a coroutine with the public client of asyncio."""

    async def main() -> None:
        async with aio.InferenceServerClient(server.address) as client:
            await body(client)

    asyncio.run(main())


def test_aio_infer(server: LiveServer) -> None:
    """The client of asyncio gets the same answers."""

    async def body(client: aio.InferenceServerClient) -> None:
        results = await asyncio.gather(*(client.infer("simple", add_sub(i)) for i in range(1, 9)))
        assert list(range(1, 9)) == [r.as_numpy("OUTPUT1").shape[0] for r in results]

    run(server, body)


def test_aio_health_and_metadata(server: LiveServer) -> None:
    """Its other calls work as well."""

    async def body(client: aio.InferenceServerClient) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("simple")
        assert not await client.is_model_ready("nobody")
        assert "simple" == (await client.get_model_metadata("simple")).name
        assert 8 == (await client.get_model_config("simple")).config.max_batch_size
        assert 1 == len((await client.get_inference_statistics("simple")).model_stats)
        assert "simple" in {m.name for m in (await client.get_model_repository_index()).models}

    run(server, body)


def test_aio_errors(server: LiveServer) -> None:
    """Errors have status and message."""

    async def body(client: aio.InferenceServerClient) -> None:
        with pytest.raises(Exception, match="unknown model") as caught:
            await client.infer("nobody", add_sub())
        assert "StatusCode.NOT_FOUND" == caught.value.status()  # type: ignore[attr-defined]

    run(server, body)


def test_aio_stream(server: LiveServer) -> None:
    """A stream yields a result for each request, in order."""

    async def requests():  # type: ignore[no-untyped-def]  # noqa: ANN202
        for i in range(20):
            values = np.full((1, 16), i, np.int32)
            yield {
                "model_name": "simple",
                "inputs": tensors(INPUT0=values, INPUT1=values),
                "request_id": str(i),
            }

    async def body(client: aio.InferenceServerClient) -> None:
        got = []
        async for result, error in client.stream_infer(requests()):
            assert error is None
            got.append((result.get_response().id, int(result.as_numpy("OUTPUT0")[0, 0])))
        assert [(str(i), 2 * i) for i in range(20)] == got

    run(server, body)


def test_aio_cancel(server: LiveServer) -> None:
    """A cancelled task ends the call, and the server lets go of the request."""

    async def body(client: aio.InferenceServerClient) -> None:
        task = asyncio.ensure_future(client.infer("custom_identity_int32", tensors(**SLOW)))
        await asyncio.wait((task,), timeout=0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(server, body)
    wait_until(lambda: server.in_flight() == (0, 0), "in_flight is 0")
