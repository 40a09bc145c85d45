"""Servers that the tests share, and the models in them."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

# pytest imports test files by their path, so that their names may recur; helpers are looked up.
sys.path.insert(0, str(Path(__file__).parent))

from live_server import LiveServer, infer_request, wait_until
from tiny_models import Gate, write_repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

SMALL_SLOTS = 1 << 20
"""Bytes of a slot of the shared server, and with 1 MiB more of its largest message: reaching the
limits shall not take 64 MiB."""


def held_flags(gate: Gate) -> list[str]:
    """Return what lets the model ``held`` reach its gate, a file: no other model may."""
    return ["--model-scan=warn", f"--worker-paths={gate.path.parent}"]


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """Return what lets batches of the model ``held`` go."""
    return Gate(tmp_path_factory.mktemp("gate") / "gate")


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> Path:
    """Return a folder with every model that is right."""
    root = tmp_path_factory.mktemp("models")
    write_repository(root, gate)
    return root


@pytest.fixture(scope="session")
def few(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository that loads fast."""
    root = tmp_path_factory.mktemp("few")
    for name in ("crash", "held", "same_fp32"):
        shutil.copytree(repository / name, root / name)
    return root


@pytest.fixture(scope="session")
def server(
    repository: Path, gate: Gate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """Return a server of all of them, shared by every test that does not end it."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with LiveServer(repository, log, f"--slot-bytes={SMALL_SLOTS}", *held_flags(gate)) as live:
        yield live


@pytest.fixture
def start(tmp_path: Path, gate: Gate) -> Iterator[Callable[..., LiveServer]]:
    """Start servers of one's own: ``start(repository, *flags)``; they end with the test."""
    with ExitStack() as stack:

        def start_one(root: Path, *flags: str) -> LiveServer:
            log = tmp_path / f"server{len(list(tmp_path.iterdir()))}.log"
            return stack.enter_context(LiveServer(root, log, *held_flags(gate), *flags))

        stack.callback(gate.open)
        yield start_one
        gate.open()


@pytest.fixture
def busy(gate: Gate) -> Callable[[LiveServer], AbstractContextManager[None]]:
    """Keep a server's device busy with a batch of ``held`` for the length of a with block."""

    @contextmanager
    def keep_busy(live: LiveServer) -> Iterator[None]:
        before = live.metric("jitney_batches_total", model="held")
        gate.shut()
        call = live.start_infer(infer_request("held", x=np.ones((1, 4), np.float32)))
        try:
            wait_until(
                lambda: live.metric("jitney_batches_total", model="held") > before,
                "the device takes up a batch of held",
            )
            yield
        finally:
            gate.open()
        call.result()

    return keep_busy
