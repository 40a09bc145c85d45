"""A wall clock for one server, which jumps when it is told to."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["WallClock"]

SOURCE: Final = Path(__file__).with_name("clock_shim.c")
OFFSET: Final = struct.Struct("<q")
COMPILE_TIMEOUT: Final = 60.0


class WallClock:
    """``environment`` makes a process see the true time plus what ``jump`` says.

    It is a library put before the C library's functions, made here, because neither Python's
    ``time`` nor what gRPC's C code reads could otherwise be changed together.
    """

    def __init__(self, folder: Path) -> None:
        """Make the library in an empty folder.

        :raises OSError: where there is no C compiler, or it fails.
        """
        compiler = shutil.which("cc")
        if compiler is None:
            msg = "no C compiler"
            raise OSError(msg)
        folder.mkdir()
        library = folder / "clock.so"
        done = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)],
            capture_output=True,
            text=True,
            timeout=COMPILE_TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise OSError(done.stderr)
        self._file = folder / "offset"
        self.jump(0)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._file)}

    def jump(self, seconds: float) -> None:
        """Let the clock be wrong by so many seconds from now on."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(OFFSET.pack(int(seconds * 1e9)))
