"""Sealed files: the bytes that were hashed are the bytes that are there, whatever happens."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
from typing import TYPE_CHECKING

import pytest

from jitney.errors import ModelError
from jitney.repository.sealed import CHUNK, seal, seal_bytes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 5])
def test_bytes_size_and_digest_are_the_files(tmp_path: Path, size: int) -> None:
    """The copy is exact at every boundary of the buffer."""
    data = os.urandom(size)
    (tmp_path / "model.pt").write_bytes(data)
    with seal(tmp_path / "model.pt") as sealed:
        assert (size, hashlib.sha256(data).hexdigest()) == (sealed.size, sealed.sha256)
        assert os.lseek(sealed.fd, 0, os.SEEK_CUR) == 0
        assert data == os.pread(sealed.fd, size + 1, 0)


def test_nobody_can_change_it(tmp_path: Path) -> None:
    """Writing, cutting, growing, mapping for writing and unsealing are all refused."""
    (tmp_path / "model.pt").write_bytes(b"right")
    with seal(tmp_path / "model.pt") as sealed:
        with pytest.raises(PermissionError):
            os.pwrite(sealed.fd, b"wrong", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(sealed.fd, 1)
        with pytest.raises(PermissionError):
            os.ftruncate(sealed.fd, 100)
        with pytest.raises(PermissionError):
            mmap.mmap(sealed.fd, 5, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        with pytest.raises(PermissionError):
            fcntl.fcntl(sealed.fd, fcntl.F_ADD_SEALS, 0)
        again = os.open(f"/proc/self/fd/{sealed.fd}", os.O_RDWR)
        with pytest.raises(PermissionError):
            os.write(again, b"wrong")
        os.close(again)
        assert os.pread(sealed.fd, 9, 0) == b"right"


def test_a_swap_after_the_check_changes_nothing(tmp_path: Path) -> None:
    """Replacing or overwriting the file leaves the old bytes in place."""
    file = tmp_path / "model.pt"
    file.write_bytes(b"checked")
    with seal(file) as sealed:
        file.write_bytes(b"swapped")
        (tmp_path / "other").write_bytes(b"replaced")
        os.replace(tmp_path / "other", file)  # noqa: PTH105  # the same call, and atomic
        assert os.pread(sealed.fd, 9, 0) == b"checked"


def test_it_is_not_inherited_by_chance(tmp_path: Path) -> None:
    """A worker gets the descriptor only when it is passed to it."""
    (tmp_path / "model.pt").write_bytes(b"x")
    with seal(tmp_path / "model.pt") as sealed:
        assert not os.get_inheritable(sealed.fd)


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    """After the first close the descriptor's number may already be somebody else's."""
    (tmp_path / "model.pt").write_bytes(b"x")
    sealed = seal(tmp_path / "model.pt")
    sealed.close()
    other = os.open(tmp_path, os.O_RDONLY)
    sealed.close()
    os.close(other)
    assert repr(sealed).endswith("closed>")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """Links, folders, pipes and missing files are refused without being followed or waited for."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    for name, expected in {
        "link": "link: a symbolic link, or a loop of them",
        ".": f"{tmp_path.name}: not a regular file",
        "pipe": "pipe: not a regular file",
        "none": "none: there is no such file",
    }.items():
        with pytest.raises(ModelError) as caught:
            seal(tmp_path / name)
        assert expected == str(caught.value)


def test_a_failure_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    """Refusing many files does not use up the process's descriptors."""
    os.mkfifo(tmp_path / "pipe")
    before = os.open(tmp_path, os.O_RDONLY)
    os.close(before)
    for _ in range(10):
        with pytest.raises(ModelError):
            seal(tmp_path / "pipe")
    after = os.open(tmp_path, os.O_RDONLY)
    os.close(after)
    assert before == after


def test_bytes_are_held_like_a_file() -> None:
    """The digest is theirs, and they cannot change any more."""
    with seal_bytes("model.pt", b"12345") as sealed:
        assert (5, hashlib.sha256(b"12345").hexdigest()) == (sealed.size, sealed.sha256)
        assert b"12345" == os.read(sealed.fd, 10)
        with pytest.raises(OSError, match="not permitted"):
            os.pwrite(sealed.fd, b"x", 0)


def test_a_file_that_is_opened_again_is_read_from_its_beginning() -> None:
    """Each has an offset of its own, outlives the others, and cannot be written either."""
    first = seal_bytes("model.pt", b"12345")
    os.read(first.fd, 3)
    second, third = first.again(), first.again()
    first.close()
    os.read(second.fd, 2)
    assert (b"345", b"12345") == (os.read(second.fd, 10), os.read(third.fd, 10))
    assert (5, first.sha256) == (third.size, third.sha256)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(third.fd, b"x", 0)
    second.close()
    third.close()
