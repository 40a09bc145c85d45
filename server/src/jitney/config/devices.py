"""What models run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003  # the fields' types are looked up while it runs
from typing import Final

from jitney.config.setting import setting
from jitney.errors import ConfigError

__all__ = ["DeviceSettings"]

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """What models run on, and the workers that drive it."""

    device: str = setting(
        "auto",
        "auto (every CUDA device, else the CPU), cpu, cuda (every CUDA device), "
        "or a list such as cuda:0,cuda:1",
        pattern=r"auto|cpu|cuda|cuda:(0|[1-9][0-9]{0,2})(,cuda:(0|[1-9][0-9]{0,2}))*",
        form="auto, cpu, cuda, or a list such as cuda:0,cuda:1",
    )
    cpu_threads: int = setting(
        0, "threads of the CPU worker; 0 shares all cores between the workers", low=0, high=4096
    )
    slots: int = setting(
        3,
        "batch buffers of each worker: one runs, one is staged, one is being answered",
        low=3,
        high=16,
    )
    slot_bytes: int = setting(
        64 * MIB,
        "size of one batch buffer, in bytes, for inputs and again for outputs",
        low=4096,
        high=1 << 34,
    )
    poll_microseconds: int = setting(
        0,
        "how long a worker looks for its next batch before it sleeps; takes up to a core per "
        "worker, and saves a lone caller a tenth of a millisecond",
        low=0,
        high=100_000,
    )
    start_timeout_seconds: float = setting(
        120.0, "how long a worker may take to start", low=0.1, high=3600
    )
    load_timeout_seconds: float = setting(
        600.0, "how long one model may take to load", low=0.1, high=36_000
    )
    batch_timeout_seconds: float = setting(
        60.0, "how long one batch may run before its worker is replaced", low=0.1, high=3600
    )
    batch_timeout_factor: float = setting(
        100.0,
        "how many times longer than planned a batch may run, if that is less; never under 2 "
        "seconds, nor under ten times the longest that ended well; 0 for no such limit",
        low=0,
        high=1_000_000,
    )
    max_restarts: int = setting(
        5,
        "restarts of one worker within a minute before its device is out; it is then tried once "
        "a minute",
        low=0,
        high=1000,
    )
    on_last_device_lost: str = setting(
        "exit",
        "what the server does when all its devices are out: exit with an error, so that whoever "
        "started it may start it elsewhere, or probe: go on, not ready, until one is back",
        choices=("exit", "probe"),
    )
    spare_workers: int = setting(
        0,
        "processes per device that are started in advance, to take over when its worker ends; "
        "each takes the memory of an idle worker",
        low=0,
        high=1,
    )
    wait_for_worker_seconds: float = setting(
        5.0,
        "how long a new worker may usually take for requests to wait for it where no other device "
        "has their model; where it takes longer, and for those with an earlier deadline, they are "
        "refused at once, which is safe to retry; 0 refuses all of them",
        low=0,
        high=600,
    )
    worker_confinement: str = setting(
        "auto",
        "what a worker gives up before it reads models (files, network, other processes): auto, "
        "as much as the machine allows; strict, all of it, or the server does not start; off",
        choices=("auto", "strict", "off"),
    )
    worker_paths: tuple[Path, ...] = setting(
        (), "folders and files that models in a confined worker may read and write"
    )

    def __post_init__(self) -> None:
        """Check that no device is listed twice.

        :raises ConfigError: when one is.
        """
        names = self.device.split(",")
        if len(set(names)) != len(names):
            msg = f"devices.device: {max(names, key=names.count)} is listed more than once"
            raise ConfigError(msg)
