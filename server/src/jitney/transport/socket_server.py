"""A gRPC server on a socket of the file system, whose permissions say who may call."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.errors import ConfigError
from jitney.transport.server import GrpcServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from jitney.transport.server import Options

__all__ = ["SocketServer"]

OWNER_ONLY: Final = 0o600


class SocketServer(GrpcServer):
    """Binds, serves and stops at a path.

    - The socket has mode 0600 from the first moment on, and is removed at the end.
    - One on which another server answers is never taken; what a server left behind is.
    """

    def __init__(
        self,
        handlers: Sequence[grpc.GenericRpcHandler],
        path: str,
        options: Options,
        *,
        flag: str,
        max_calls: int | None = None,
    ) -> None:
        """Bind nothing yet.

        :param path: absolute, in a folder that there is.
        :param flag: the setting that has the path, for texts.
        """
        super().__init__(handlers, f"unix:{path}", options, flag=flag, max_calls=max_calls)
        self._path = path
        self._flag = flag
        self._made: tuple[int, int] | None = None
        """Which file it is, once it was made."""

    def bind(self) -> None:
        """Make the socket.

        :raises ConfigError: when that cannot be done.
        """
        _ensure_free(self._path, self._flag)
        # gRPC makes it, and nothing but this keeps others from opening it before it is changed.
        before = os.umask(~OWNER_ONLY & 0o777)
        try:
            super().bind()
        except ConfigError:
            msg = f"{self._flag}: cannot make the socket {self._path}; is there such a folder?"
            raise ConfigError(msg) from None
        finally:
            os.umask(before)
        about = Path(self._path).lstat()
        self._made = about.st_dev, about.st_ino
        if not stat.S_ISSOCK(about.st_mode) or stat.S_IMODE(about.st_mode) & ~OWNER_ONLY:
            msg = f"{self._flag}: {self._path}: others may open it; its file system has no modes"
            raise ConfigError(msg)

    async def stop(self, grace: float) -> None:
        """Stop, and remove the socket, unless another one has taken its place."""
        await super().stop(grace)
        if self._made is not None:
            _remove(self._path, self._made)


def _remove(path: str, made: tuple[int, int]) -> None:
    with contextlib.suppress(OSError):
        about = Path(path).lstat()
        if (about.st_dev, about.st_ino) == made:
            Path(path).unlink()


def _ensure_free(path: str, flag: str) -> None:
    """Do nothing where no server listens on a path: gRPC takes any socket over without a word.

    :raises ConfigError: when one does, or when there is a file that is no socket.
    """
    try:
        about = Path(path).lstat()
    except OSError:
        return
    if not stat.S_ISSOCK(about.st_mode):
        msg = f"{flag}: {path} is there, and no socket"
        raise ConfigError(msg)
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except OSError:
            return
    msg = f"{flag}: another server listens on {path}"
    raise ConfigError(msg)
