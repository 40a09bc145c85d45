"""The steps by which a worker gives things up, in their order, and what became of each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from jitney.errors import ConfigError
from jitney.execution.confinement import landlock, namespaces, privileges, seccomp
from jitney.execution.confinement.paths import device_files, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["MODES", "Confinement"]

MODES: Final = ("auto", "strict", "off")

FILES: Final = "files"
NETWORK: Final = "network"
SYSTEM_CALLS: Final = "system calls"
PRIVILEGES: Final = "privileges"


class Confinement:
    """What the process that makes it has given up, and what it could not.

    ``off`` does nothing. ``auto`` takes every step that the kernel, the container and the user's
    rights allow, and notes the others. ``strict`` does the same, and ``check`` then raises unless
    files, network and privileges are confined.

    Two stages, because of what comes between. ``enter`` is before torch is imported, while there is
    one thread: most of this holds for a thread and for those that it starts, and would leave out
    the threads of libraries. ``close`` is after it: libraries may start programs while they are
    imported (Python looks for libraries that way).

    It is no sandbox that anybody has proved. A model that finds a fault in torch runs native code
    with what is left: the requests of its neighbours in the same worker, and the kernel's remaining
    system calls.
    """

    def __init__(self, mode: str, device: str, paths: Sequence[Path] = ()) -> None:
        """Give up nothing yet.

        :param paths: folders and files that models may have, for reading and writing.
        """
        self._mode = mode
        self._device = device
        self._paths = list(paths)
        self._kept: list[int] = []
        self.held: list[str] = []
        self.missing: list[str] = []

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Confinement {self._mode}: {self.summary()}>"

    @property
    def is_on(self) -> bool:
        """Whether anything is to be given up at all."""
        return self._mode != "off"

    def summary(self) -> str:
        """Return a few words for the operator, empty where nothing was asked for."""
        if not self.is_on:
            return ""
        return f"confined: {', '.join(dict.fromkeys(self.held)) or 'nothing'}"

    def enter(self) -> None:
        """Take the steps that must come before any library has started a thread."""
        if not self.is_on:
            return
        self._step(NETWORK, namespaces.leave_network, "a network namespace of its own")
        self._step(PRIVILEGES, self._lower, "limits and capabilities")
        self._step(FILES, self._hide_files, "Landlock")

    def close(self) -> None:
        """Take the steps that must come before any model is read."""
        if not self.is_on:
            return
        local = self._device.startswith("cuda")  # its driver speaks to daemons of its own
        self._step(SYSTEM_CALLS, lambda: seccomp.forbid(local_sockets=local), "seccomp")
        if SYSTEM_CALLS in self.held:
            self.held.append(NETWORK)

    def check(self) -> None:
        """Do nothing if what was asked for was done.

        :raises ConfigError: in strict mode, when files, network or privileges are not confined.
        """
        lacking = [part for part in (FILES, NETWORK, PRIVILEGES) if part not in self.held]
        if self._mode == "strict" and lacking:
            msg = (
                f"devices.worker_confinement is strict, and a worker cannot be confined in: "
                f"{', '.join(lacking)} ({'; '.join(self.missing)}); auto does without"
            )
            raise ConfigError(msg)

    def _step(self, part: str, step: Callable[[], None], name: str) -> None:
        try:
            step()
        except OSError as error:
            self.missing.append(f"{name}: {error.strerror or error}")
        else:
            self.held.append(part)

    def _lower(self) -> None:
        privileges.renounce_new_privileges()  # first: Landlock and seccomp ask for it
        privileges.limit_resources()
        privileges.drop_capabilities()

    def _hide_files(self) -> None:
        writable = [*device_files(self._device, os.environ), *self._paths]
        self._kept = landlock.restrict(readable(os.environ), writable)
