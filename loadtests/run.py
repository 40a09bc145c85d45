"""Serve the sample models on a free port, let locust's users at them, and stop.

    python loadtests/run.py LOCUST [FLAG …]

LOCUST is its command; flags are passed on to it. With ``--host`` among them nothing is served: that
server is called. The exit code is locust's: 1 when a call failed or was answered wrongly.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = ROOT / "models" / "repository"
SERVE = "from jitney.cli import main; raise SystemExit(main())"
UP = "stop     Ctrl-C"
STOP_TIMEOUT = 20.0


def main(arguments: list[str]) -> int:
    """Run locust; return its exit code."""
    command, *flags = arguments
    locust = [command, "-f", str(ROOT / "loadtests" / "locustfile.py"), *flags]
    if any(flag == "--host" or flag.startswith(("-H", "--host=")) for flag in flags):
        return subprocess.run(locust, check=False).returncode  # noqa: S603  # as it was given
    with served() as address:
        locust += ["--host", address]
        return subprocess.run(locust, check=False).returncode  # noqa: S603  # as it was given


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Serve the sample models; give the address.

    :raises SystemExit: when the server does not come up, with what it said.
    """
    ports = ("--grpc-port", "0", "--metrics-port", "0")
    command = [sys.executable, "-c", SERVE, "serve", "--model-repository", str(REPOSITORY), *ports]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(  # noqa: S603  # our own command
            [*command, "--log-level", "warning"], stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            address = ""
            for line in process.stdout or ():
                print(line, end="", flush=True)
                if found := re.match(r"gRPC +(\S+)", line):
                    address = found.group(1)
                if line.rstrip("\n") == UP:
                    break
            else:
                log.seek(0)
                raise SystemExit(log.read() or "the server did not come up")
            # What it still says must not fill the pipe and stop it.
            threading.Thread(target=(process.stdout or log).read, daemon=True).start()
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
