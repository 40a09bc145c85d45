"""Which devices there are, found out without importing torch into this process."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["choose_devices", "count_cuda_devices"]

log = logging.getLogger(__name__)

SIGNS: Final = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/proc/driver/nvidia/gpus")
"""Where one of these exists there may be a CUDA device; only torch can tell if it is usable."""
ASK: Final = "import json, torch; print(json.dumps(torch.cuda.device_count()))"
ASK_TIMEOUT: Final = 120


def choose_devices(setting: str, count_cuda: Callable[[], int]) -> list[str]:
    """Return the names of the devices to use, such as ``["cuda:0", "cuda:1"]`` or ``["cpu"]``.

    :param setting: ``auto``, ``cpu``, ``cuda`` or a comma-separated list.
    :raises ConfigError: when CUDA devices are asked for that are not there.
    """
    if setting == "cpu":
        return ["cpu"]
    count = count_cuda()
    if setting == "auto":
        return [f"cuda:{i}" for i in range(count)] or ["cpu"]
    if setting == "cuda":
        if not count:
            msg = "--device cuda: no CUDA device was found; --device auto falls back to the CPU"
            raise ConfigError(msg)
        return [f"cuda:{i}" for i in range(count)]
    names = setting.split(",")
    for name in names:
        if int(name.removeprefix("cuda:")) >= count:
            msg = f"--device {setting}: there is no {name}, {count} CUDA devices were found"
            raise ConfigError(msg)
    return names


def count_cuda_devices(environment: Mapping[str, str]) -> int:
    """Ask a short-lived process how many CUDA devices torch can use.

    It takes seconds, so nobody is asked where nothing looks like an NVIDIA driver.
    """
    if not any(Path(sign).exists() for sign in SIGNS):
        return 0
    try:
        asked = subprocess.run(  # noqa: S603  # our own interpreter, a constant program
            [sys.executable, "-c", ASK],
            env=dict(environment),
            capture_output=True,
            check=True,
            timeout=ASK_TIMEOUT,
        )
        count = json.loads(asked.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.warning("CUDA devices could not be counted: %s", error)
        return 0
    return count if isinstance(count, int) else 0


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
