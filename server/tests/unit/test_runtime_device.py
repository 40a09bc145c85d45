"""Devices, as far as a machine without CUDA can tell."""

from __future__ import annotations

import mmap

import pytest
import torch

from jitney.errors import ConfigError
from jitney.runtime.device import open_device


def test_the_cpu_runs_with_the_threads_it_is_given() -> None:
    """The description says so, and nothing can be pinned."""
    before = torch.get_num_threads()
    try:
        device = open_device("cpu", threads=1)
    finally:
        torch.set_num_threads(before)

    assert (device.name, device.description, device.pads) == ("cpu", "cpu, 1 thread", False)
    assert device.pin(mmap.mmap(-1, 4096)) is False


def test_the_cpu_tells_its_memory() -> None:
    """The resident set is some of the machine's memory."""
    memory = open_device("cpu").memory()

    assert 0 < memory["allocated"] < memory["total"]


@pytest.mark.parametrize("name", ["gpu", "cuda", "cuda:x", "CPU", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    """The text says what may be written."""
    with pytest.raises(ConfigError, match=f"expected cpu or cuda:<number>, got '{name}'"):
        open_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has CUDA")
def test_a_missing_cuda_is_told() -> None:
    """The text names the device that was asked for."""
    with pytest.raises(ConfigError, match="cuda:0 is asked for, and CUDA is not available"):
        open_device("cuda:0")
