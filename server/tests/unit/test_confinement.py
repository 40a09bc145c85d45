"""What a confined process can do no more, with a twin that is not confined and can."""

from __future__ import annotations

import json
import os
import platform
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jitney.errors import ConfigError
from jitney.execution.confinement import Confinement, landlock, paths, seccomp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Probe = Callable[[str], dict[str, Any]]

SCRIPT = str(Path(__file__).with_name("confined_probe.py"))
MAY = {
    "write where it may",
    "read where it may",
    "read Python's own",
    "reset its memory's peak",
    "signal itself",
    "start a thread",
    "read sealed memory",
    "speak to its server",
}
"""What a worker goes on doing."""


@pytest.fixture
def probe(tmp_path: Path) -> Iterator[Probe]:
    """Run a process in some mode; return what it could do."""
    mine, others = tmp_path / "mine", tmp_path / "others"
    mine.mkdir()

    def run(mode: str) -> dict[str, Any]:
        others.mkdir(exist_ok=True)
        (others / "secret").write_text("the secret")
        arguments = [sys.executable, SCRIPT, mode, str(mine), str(others), str(port)]
        ended = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
        assert ended.stdout, ended.stderr
        report: dict[str, Any] = json.loads(ended.stdout)
        return report

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        yield run


def all_of_it() -> bool:
    """Return whether this machine knows every step, so that each can be tested."""
    try:
        version = landlock.abi()
    except OSError:
        return False
    return version >= landlock.SCOPE_ABI and platform.machine() in seccomp.MACHINES


complete = pytest.mark.skipif(
    not all_of_it(), reason="the kernel has no Landlock, or the machine no list of system calls"
)


@complete
def test_a_confined_process_has_what_it_needs_and_nothing_else(probe: Probe) -> None:
    """It runs threads, reads its libraries and what it is given; everything else is refused."""
    report = probe("strict")

    assert ["files", "network", "privileges", "system calls"] == report["held"]
    assert {name for name, how in report["did"].items() if how == "done"} == MAY
    assert 0 == report["early"]


@complete
def test_a_process_that_is_not_confined_can_do_all_of_it(probe: Probe) -> None:
    """The negative control: it is the confinement that keeps the other one from it."""
    report = probe("off")

    assert ([], []) == (report["held"], report["missing"])
    refused = {name for name, how in report["did"].items() if how != "done"}
    # Containers keep these from everybody.
    assert refused <= {"change the machine", "be root of a namespace"}


def test_no_core_is_dumped(probe: Probe) -> None:
    """It would hold requests; and a worker that dumps one looks alive until it is written."""
    core, files, size = probe("auto")["limits"]

    assert [1, 1] == core
    assert files[0] <= 4096
    assert 0 < size[0] < 1 << 40


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@complete
def test_whoever_is_not_root_is_confined_as_well(tmp_path: Path) -> None:
    """A user without any rights gives up the same, by a namespace of his own."""
    code = (
        "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from jitney.execution.confinement import Confinement\n"
        "c = Confinement('strict', 'cpu'); c.enter(); c.close(); c.check(); print(c.summary())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    if "ModuleNotFoundError" in ended.stderr or "PermissionError" in ended.stderr:
        pytest.skip("that user cannot read this interpreter")
    assert "confined: network, privileges, files, system calls\n" == ended.stdout, ended.stderr


def test_strict_says_what_is_missing() -> None:
    """With the reasons, and what to write instead."""
    confinement = Confinement("strict", "cpu")
    confinement.missing.append("Landlock: Function not implemented")
    confinement.held.append("privileges")
    with pytest.raises(
        ConfigError, match=r"files, network \(Landlock: Function.*auto does without"
    ):
        confinement.check()


def test_auto_does_without_what_there_is_not() -> None:
    """What did not work is noted, and nothing is raised."""
    confinement = Confinement("auto", "cpu")
    confinement.check()
    assert "confined: nothing" == confinement.summary()
    assert "" == Confinement("off", "cpu").summary()


def test_secrets_are_not_among_what_may_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the working folder nor the user's own; not even if Python's path names them."""
    monkeypatch.setattr(sys, "path", ["", "/", "/home/me", "/home/me/lib"])
    found = set(paths.readable({"HOME": "/home/me", "LD_LIBRARY_PATH": ":/opt/lib"}))

    assert {Path("/home/me/lib"), Path("/opt/lib"), Path("/usr"), Path(sys.prefix)} <= found
    assert not found & {Path("/"), Path("/home/me"), Path(), Path("/etc"), Path("/tmp")}  # noqa: S108


def test_a_cuda_worker_keeps_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its cache of compiled kernels; a worker of the CPU gets neither."""
    monkeypatch.setattr(paths.glob, "glob", lambda pattern: [pattern.replace("*", "0")])
    nvidia, cache = Path("/dev/nvidia0"), Path("/home/me/.nv")
    cuda, cpu = (set(paths.device_files(d, {"HOME": "/home/me"})) for d in ("cuda:1", "cpu"))
    assert {nvidia, cache} <= cuda
    assert not {nvidia, cache} & cpu


# -- the filter of system calls --------------------------------------------------------------------

ALLOWED, NOT_PERMITTED, UNKNOWN = 0x7FFF0000, 0x00050001, 0x00050026


def judge(program: bytes, number: int, first: int = 0, arch: int = 0xC000003E) -> int:
    """Run a filter as the kernel does; return what it returns."""
    data = struct.pack("<IIQQ", number, arch, 0, first)
    code = list(struct.iter_unpack("<HBBI", program))
    at, value = 0, 0
    while True:
        operation, yes, no, operand = code[at]
        at += 1
        if operation == seccomp.LOAD:
            (value,) = struct.unpack_from("<I", data, operand)
        elif operation == seccomp.RETURN:
            return int(operand)
        else:
            holds = {
                seccomp.EQUAL: value == operand,
                seccomp.AT_LEAST: value >= operand,
                seccomp.ANY_BIT: bool(value & operand),
            }[operation]
            at += yes if holds else no


@pytest.mark.parametrize(
    ("number", "first", "expected"),
    [
        (0, 0, ALLOWED),  # read
        (47, 3, ALLOWED),  # recvmsg
        (59, 0, NOT_PERMITTED),  # execve
        (56, 0x3D0F00, ALLOWED),  # clone, as for a thread
        (56, 17, NOT_PERMITTED),  # clone, as for a process
        (435, 0, UNKNOWN),  # clone3
        (41, 1, NOT_PERMITTED),  # socket
        (53, 1, ALLOWED),  # socketpair
        (62, 77, ALLOWED),  # kill, itself
        (62, 78, NOT_PERMITTED),
        (234, 77, ALLOWED),  # tgkill, as abort does
        (302, 0, ALLOWED),  # prlimit64, itself
        (302, 78, NOT_PERMITTED),
        (0x40000000 + 59, 0, NOT_PERMITTED),  # the other numbers of x86-64
        (425, 0, NOT_PERMITTED),  # io_uring_setup
    ],
)
def test_the_filter_judges_by_number_and_first_argument(
    number: int, first: int, expected: int
) -> None:
    """As the kernel would on x86-64."""
    assert expected == judge(seccomp.program("x86_64", 77, ()), number, first)


def test_the_filter_of_another_machine() -> None:
    """On 64-bit ARM the same calls have other numbers."""
    program = seccomp.program("aarch64", 77, (1, 16))
    arm = 0xC00000B7
    assert [ALLOWED, NOT_PERMITTED, NOT_PERMITTED, ALLOWED, NOT_PERMITTED] == [
        judge(program, number, first, arm)
        for number, first in ((63, 0), (221, 0), (198, 2), (198, 1), (129, 1))
    ]
    assert NOT_PERMITTED == judge(program, 63)


def test_a_machine_without_a_list_is_said_so() -> None:
    """It is one of the things that are missing then."""
    with pytest.raises(OSError, match="no list of system calls for riscv64"):
        seccomp.program("riscv64", 1, ())
