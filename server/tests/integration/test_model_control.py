"""Models change while they are in use, and nobody who uses them notices more than the change."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Self

import grpc
import numpy as np
import pytest
from live_server import LiveServer, infer_request, wait_until
from tiny_models import MAX_ROWS, Plus, Same, Tensor, write_model

from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Start = Callable[..., LiveServer]

EXPLICIT = "--model-control-mode=explicit"
ROW = '["N", 4]'
CALLERS = 6


def write_plus(root: Path, number: int, *, version: int = 1, name: str = "plus") -> None:
    """Write the model that adds a number; in one step, as whoever deploys one should."""
    staging = root.parent / "staging"
    file = write_model(
        staging, name, Plus(number), [Tensor("x", "FP32", ROW)], [Tensor("y", "FP32", ROW)]
    )
    folder = root / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (staging / name / "model.toml").rename(root / name / "model.toml")
    file.rename(folder / "model.pt")


def load(server: LiveServer, name: str, **texts: str) -> None:
    """Ask for a load."""
    request = pb.RepositoryModelLoadRequest(model_name=name)
    for key, text in texts.items():
        request.parameters[key].string_param = text
    server.call("RepositoryModelLoad", request)


def unload(server: LiveServer, name: str) -> None:
    """Ask for an unload."""
    server.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=name))


def states(server: LiveServer, name: str) -> dict[str, tuple[str, str]]:
    """Return state and reason of each version of a model."""
    index = server.call("RepositoryIndex", pb.RepositoryIndexRequest())
    return {m.version: (m.state, m.reason) for m in index.models if m.name == name}


class Traffic:
    """Callers that never rest, and what came of their requests: added numbers and status codes.

    Every other request is larger than a batch, so it is served in parts.
    """

    def __init__(self, server: LiveServer, name: str = "plus") -> None:
        self.added: list[float] = []
        self.codes: list[grpc.StatusCode] = []
        self.mixed = 0
        self._server = server
        self._name = name
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(i,), daemon=True) for i in range(CALLERS)
        ]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, and wait for what is in flight."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int = 30) -> None:
        """Wait until that many more requests have ended."""
        wanted = len(self.added) + len(self.codes) + count
        wait_until(
            lambda: len(self.added) + len(self.codes) >= wanted, "requests go on being answered"
        )

    def _call(self, number: int) -> None:
        rows = 1 if number % 2 else 3 * MAX_ROWS
        x = np.full((rows, 4), number, np.float32)
        message = infer_request(self._name, x=x)
        while not self._ended.is_set():
            try:
                reply = self._server.start_infer(message).result()
            except grpc.RpcError as error:
                self.codes.append(error.code())
                continue
            added = np.frombuffer(reply.raw_output_contents[0], np.float32) - number
            self.mixed += len(set(added.tolist())) > 1
            self.added.append(float(added[0]))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository with a model that adds 1, and one that is just there."""
    folder = tmp_path / "models"
    write_plus(folder, 1)
    write_model(folder, "same", Same(), [Tensor("x", "FP32", ROW)], [Tensor("y", "FP32", ROW)])
    return folder


@pytest.fixture
def server(root: Path, start: Start) -> LiveServer:
    """Return a server that serves ``plus`` and lets callers decide."""
    return start(root, EXPLICIT, "--load-model=plus")


def test_a_reload_under_load_loses_no_request_and_mixes_nothing(
    server: LiveServer, root: Path
) -> None:
    """Whatever is in flight is answered by the one before, whatever comes later by the new one."""
    with Traffic(server) as traffic:
        traffic.more()
        for number in (2, 3):
            write_plus(root, number)
            load(server, "plus")
            seen = len(traffic.added)
            traffic.more(2 * CALLERS)  # those that were in flight may still be of the one before
            traffic.more()
            assert {float(number)} == set(traffic.added[seen + 2 * CALLERS :])
    assert ([], 0) == (traffic.codes, traffic.mixed)
    assert {1.0, 2.0, 3.0} == set(traffic.added)
    assert {"1": ("READY", "")} == states(server, "plus")
    figures = server.figures("plus")
    assert len(traffic.added) == figures.inference_stats.success.count
    assert (0, 0) == server.in_flight()


def test_a_new_version_takes_over_under_load(server: LiveServer, root: Path) -> None:
    """Callers without a version move to it, and the one before is unloaded."""
    with Traffic(server) as traffic:
        traffic.more()
        write_plus(root, 5, version=2)
        load(server, "plus")
        traffic.more()
    assert ([], 0) == (traffic.codes, traffic.mixed)
    assert {1.0, 5.0} == set(traffic.added)
    wait_until(
        lambda: {"1": ("UNAVAILABLE", "unloaded"), "2": ("READY", "")} == states(server, "plus"),
        "the version before is unloaded",
    )


def test_an_unload_under_load_answers_what_it_accepted(server: LiveServer) -> None:
    """Then nobody finds the model, the server is ready, and its memory is free for a load."""
    with Traffic(server) as traffic:
        traffic.more()
        unload(server, "plus")
        traffic.more()
    assert {grpc.StatusCode.NOT_FOUND} == set(traffic.codes)
    assert ({1.0}, 0) == (set(traffic.added), traffic.mixed)
    wait_until(
        lambda: {"1": ("UNAVAILABLE", "unloaded")} == states(server, "plus"), "it is unloaded"
    )
    assert server.client.server_ready()
    assert (0, 0) == server.in_flight()
    load(server, "plus")
    assert {"1": ("READY", "")} == states(server, "plus")


def test_a_reload_that_fails_is_not_noticed(server: LiveServer, root: Path) -> None:
    """Only by who asked for it."""
    with Traffic(server) as traffic:
        traffic.more()
        broken = root / "broken.pt"
        broken.write_bytes(b"no archive")
        broken.rename(root / "plus" / "1" / "model.pt")
        with pytest.raises(grpc.RpcError) as caught:
            load(server, "plus")
        traffic.more()
    assert grpc.StatusCode.FAILED_PRECONDITION == caught.value.code()
    assert caught.value.details().startswith("failed to load 'plus', version 1 is at UNAVAILABLE")
    assert ([], {1.0}) == (traffic.codes, set(traffic.added))


def test_a_model_may_be_put_there_later(server: LiveServer, root: Path) -> None:
    """It is listed at once, and served when somebody asks for it."""
    write_plus(root, 7, name="later")
    assert {"": ("", "")} == states(server, "later")
    load(server, "later", config=json.dumps({"max_batch_size": 2}))
    config = server.call("ModelConfig", pb.ModelConfigRequest(name="later")).config
    assert 2 == config.max_batch_size
    with Traffic(server, "later") as traffic:
        traffic.more()
    assert ([], {7.0}, 0) == (traffic.codes, set(traffic.added), traffic.mixed)
