"""Serving on CUDA devices: the same promises as on the CPU, on the real thing.

Run by ``make gpu-check`` on a machine that has one, with that machine's own Python and torch.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from live_server import LiveServer, wait_until

import jitney

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

MAX_ROWS = 32
RNG = np.random.default_rng(7)


class Net(nn.Module):
    """A small convolutional network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.head(torch.relu(self.norm(self.conv(image))).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """Return the network, as the CPU runs it."""
    torch.manual_seed(3)
    return Net().eval()


@pytest.fixture(scope="module")
def server(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return a server of the network on every CUDA device."""
    root = tmp_path_factory.mktemp("models")
    (root / "net" / "1").mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        jitney.pack(
            torch.jit.script(net),
            root / "net" / "1" / "model.pt",
            inputs=["image:FP32[N,3,16,16]"],
            outputs=["logits:FP32[N,10]"],
        )
    log = tmp_path_factory.mktemp("log") / "server.log"
    with LiveServer(root, log, "--device=auto", f"--max-batch-size={MAX_ROWS}") as live:
        yield live


def expected(net: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return the plain network's answer on the CPU."""
    with torch.inference_mode():
        answer: np.ndarray = net(torch.from_numpy(images)).numpy()
    return answer


def test_auto_takes_every_cuda_device(server: LiveServer) -> None:
    """Each device has a worker that is up, with its name and its memory in the status."""
    devices = {device.name: device for device in server.client.status().devices}

    assert {f"cuda:{i}" for i in range(torch.cuda.device_count())} == set(devices)
    for device in devices.values():
        assert "up" == device.state
        assert device.memory_bytes["total"] > 1 << 30


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 11, 13, 31, 32])
def test_padding_never_shows(server: LiveServer, net: nn.Module, rows: int) -> None:
    """Whatever the rows, the answer has as many, each as the network gives it alone."""
    images = RNG.standard_normal((rows, 3, 16, 16), dtype=np.float32)

    answer = server.client.infer("net", {"image": images})["logits"]

    assert (rows, 10) == answer.shape
    np.testing.assert_allclose(answer, expected(net, images), rtol=1e-3, atol=1e-4)


def test_callers_share_batches_and_get_their_own_rows(server: LiveServer, net: nn.Module) -> None:
    """Of 400 concurrent requests each gets its own answer, in fewer batches."""
    images = RNG.standard_normal((400, 1, 3, 16, 16), dtype=np.float32)
    before = server.figures("net").execution_count

    with ThreadPoolExecutor(32) as callers:
        answers = list(
            callers.map(lambda x: server.client.infer("net", {"image": x})["logits"], images)
        )

    np.testing.assert_allclose(
        np.concatenate(answers), expected(net, images[:, 0]), rtol=1e-3, atol=1e-4
    )
    assert server.figures("net").execution_count - before < 400


def test_a_killed_worker_comes_back(server: LiveServer, net: nn.Module) -> None:
    """After its worker was killed, a device serves again."""
    images = RNG.standard_normal((2, 3, 16, 16), dtype=np.float32)
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)

    wait_until(lambda: not server.client.model_ready("net"), "the version is gone")
    wait_until(lambda: server.client.model_ready("net"), "the version is back", 120)

    answer = server.client.infer("net", {"image": images})["logits"]
    np.testing.assert_allclose(answer, expected(net, images), rtol=1e-3, atol=1e-4)
