"""A model file's bytes, held so that they cannot change between being checked and being loaded."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from jitney.errors import ModelError
from jitney.repository.containment import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["SealedFile", "seal", "seal_bytes"]

CHUNK: Final = 1 << 20
"""Bytes copied at a time: large enough that calls cost nothing, small enough to stay in cache."""

SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class SealedFile:
    """An anonymous file in memory that nobody can change any more, its owner included.

    ``fd`` is its descriptor (close-on-exec, at offset 0; pass it to the worker explicitly),
    ``size`` its bytes, ``sha256`` their digest in lower-case hexadecimal. The memory counts
    against this process until the last descriptor and mapping, here or in a worker, is gone; so
    close it as soon as the worker has its own.

    - What was hashed is what will be loaded: the path is never opened again.
    - ``close`` may be called any number of times.
    """

    __slots__ = ("fd", "sha256", "size")

    def __init__(self, fd: int, size: int, sha256: str) -> None:
        """Own ``fd``, which is sealed already."""
        self.fd = fd
        self.size = size
        self.sha256 = sha256

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        state = "closed" if self.fd < 0 else f"fd {self.fd}"
        return f"<SealedFile {self.size} bytes sha256:{self.sha256[:12]} {state}>"

    def __enter__(self) -> Self:
        """Return itself; leaving closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def again(self) -> SealedFile:
        """Return it once more, with an offset and a life of its own; nothing is copied.

        :raises ModelError: when there are no descriptors left.
        """
        try:
            # Not dup(), whose copies share one offset.
            fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            msg = f"its file cannot be opened again ({error.strerror})"
            raise ModelError(msg) from None
        return SealedFile(fd, self.size, self.sha256)

    def close(self) -> None:
        """Give up this process's descriptor; ``fd`` is -1 afterwards."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def seal(path: Path | str) -> SealedFile:
    """Copy a regular file into a sealed file in memory, hashing what is copied.

    Takes as long as reading and hashing the file does, so it belongs on a thread, not on the event
    loop; both release the GIL. A file that is being written meanwhile gives some mixture of old and
    new bytes, and the digest of exactly that mixture.

    :param path: already resolved; a symbolic link in its place is refused, not followed.
    :raises ModelError: when it cannot be read, is no regular file, or memory does not suffice.
    """
    source = open_regular(path)
    try:
        return _sealed(Path(path).name, lambda target: _copy(source, target))
    finally:
        os.close(source)


def seal_bytes(name: str, data: bytes) -> SealedFile:
    """Put bytes that came over the network into a sealed file in memory.

    :param name: for the text of the error.
    :raises ModelError: when memory does not suffice.
    """

    def fill(target: int) -> tuple[int, str]:
        _write(target, memoryview(data))
        return len(data), hashlib.sha256(data).hexdigest()

    return _sealed(name, fill)


def _sealed(name: str, fill: Callable[[int], tuple[int, str]]) -> SealedFile:
    try:
        target = os.memfd_create("jitney-model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            size, digest = fill(target)
            os.lseek(target, 0, os.SEEK_SET)
            fcntl.fcntl(target, fcntl.F_ADD_SEALS, SEALS)
        except BaseException:
            os.close(target)
            raise
    except OSError as error:
        # ENOMEM and ENOSPC are the likely ones: the copy lives in memory.
        msg = f"{name}: cannot be held in memory ({error.strerror})"
        raise ModelError(msg) from None
    return SealedFile(target, size, digest)


def _copy(source: int, target: int) -> tuple[int, str]:
    # One pass through a small buffer. Copying inside the kernel and hashing a mapping afterwards
    # would touch every byte in memory twice, and a mapping that is writable forbids the seal.
    digest = hashlib.sha256()
    size = 0
    buffer = memoryview(bytearray(CHUNK))
    while count := os.readv(source, [buffer]):
        chunk = buffer[:count]
        digest.update(chunk)
        _write(target, chunk)
        size += count
    return size, digest.hexdigest()


def _write(target: int, data: memoryview) -> None:
    written = 0
    while written < len(data):
        written += os.write(target, data[written:])
