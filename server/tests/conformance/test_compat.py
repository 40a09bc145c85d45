"""``--triton-compat``: their name and their codes, for programs that compare them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as triton
from calls import error_of, tensors
from live_server import LiveServer, wait_until
from public_models import write_public_models
from waiting import Pending

if TYPE_CHECKING:
    from collections.abc import Iterator

UNAVAILABLE = "StatusCode.UNAVAILABLE"


@pytest.fixture(scope="module")
def disguised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return a server that says it is Triton."""
    root = tmp_path_factory.mktemp("compat")
    names = ("custom_identity_int32", "custom_zero_1_float32", "simple_identity")
    write_public_models(root, names)
    log = tmp_path_factory.mktemp("log") / "log"
    flags = ("--triton-compat", "true", "--allow-client-shm", "true")
    with LiveServer(root, log, *flags) as live:
        yield live


@pytest.fixture
def compat(disguised: LiveServer) -> Iterator[triton.InferenceServerClient]:
    """Return a client of it."""
    with triton.InferenceServerClient(disguised.address) as client:
        yield client


def test_the_name(compat: triton.InferenceServerClient) -> None:
    """Example programs want this very name."""
    assert "triton" == compat.get_server_metadata().name


def test_queue_timeout(disguised: LiveServer, compat: triton.InferenceServerClient) -> None:
    """UNAVAILABLE, and nothing but Triton's words."""
    given = tensors(INPUT0=np.zeros((1024, 1), np.int32))
    busy = [Pending(compat, given, "custom_identity_int32") for _ in range(4)]
    # Calls of one channel may overtake each other: one runs, one is staged, the others wait.
    wait_until(lambda: disguised.waiting("custom_identity_int32") > 0, "one of them waits")
    got = error_of(compat.infer, "custom_identity_int32", given, timeout=10_000)
    assert (UNAVAILABLE, "Request timeout expired") == got
    for one in busy:
        one.result()


def test_queue_full(compat: triton.InferenceServerClient) -> None:
    """UNAVAILABLE."""
    given = tensors(INPUT0=np.zeros((1, 1), np.float32))
    pending = [Pending(compat, given, "custom_zero_1_float32") for _ in range(8)]
    errors = set()
    for one in pending:
        try:
            one.result()
        except Exception as error:  # noqa: BLE001  # the client's own
            errors.add(str(error.status()))  # type: ignore[attr-defined]
    assert {UNAVAILABLE} == errors


def test_control_switched_off(compat: triton.InferenceServerClient) -> None:
    """UNAVAILABLE."""
    assert UNAVAILABLE == error_of(compat.load_model, "simple_identity")[0]


def test_unknown_shared_memory(compat: triton.InferenceServerClient) -> None:
    """INTERNAL."""
    status, _ = error_of(compat.register_system_shared_memory, "r", "/jitney-not-there", 1)
    assert "StatusCode.INTERNAL" == status
