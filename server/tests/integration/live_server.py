"""A real server process, and how tests speak to it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Final

import grpc
import psutil
from prometheus_client.parser import text_string_to_metric_families

import jitney_client
import jitney_client.tensors
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    import numpy as np

__all__ = ["LiveServer", "infer_request", "launch", "wait_until"]

UP: Final = "stop     Ctrl-C"
"""The last line that a server prints at its start."""
START_TIMEOUT: Final = 60.0
CALL_TIMEOUT: Final = 30.0
"""Seconds after which a call of a test has hung."""
UNLIMITED: Final = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    """Return once ``condition`` holds, for what happens in another process.

    :raises AssertionError: when that takes longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            msg = f"not within {seconds:g} s: {what}"
            raise AssertionError(msg)
        pause.wait(0.005)


def launch(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a ``jitney`` command with its output captured as text."""
    code = "import sys; from jitney.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=options.pop("stderr", subprocess.PIPE),
        text=True,
        **options,
    )


class LiveServer:
    """``jitney serve`` on free ports of the loopback address, up when the constructor returns.

    ``lines`` is what it printed so far; ``client`` and ``channel`` are connected to it. Leaving the
    context ends it, whatever the test did to it.

    :raises AssertionError: when it ends, or says nothing for a minute, instead of coming up.
    """

    def __init__(self, repository: Path, log: Path, *flags: str) -> None:
        self.log = log
        self.lines: list[str] = []
        self._up = threading.Event()
        with log.open("wb") as stderr:
            self.process = launch(
                "serve",
                f"--model-repository={repository}",
                "--grpc-port=0",
                "--metrics-port=0",
                "--device=cpu",
                *flags,
                stderr=stderr,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._up.wait(START_TIMEOUT) or UP not in self.lines:
            self.process.kill()
            self._reap()
            msg = f"the server did not come up:\n{self.output()}\n{log.read_text()}"
            raise AssertionError(msg)
        self.address = self._find(r"^gRPC +(\S+)")
        self.metrics_url = self._find(r"^metrics +(\S+)")
        self.channel = grpc.insecure_channel(self.address, UNLIMITED)
        # Tests see each refusal of the server: nothing is checked here first, and nothing repeated.
        self.client = jitney_client.Client(
            self.address, timeout=CALL_TIMEOUT, retries=None, check=False
        )

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process."""
        self.client.close()
        self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._reap()

    def _reap(self) -> None:
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if self.lines[-1] == UP:
                self._up.set()
        self._up.set()

    def _find(self, pattern: str) -> str:
        return next(m.group(1) for line in self.lines if (m := re.match(pattern, line)))

    def output(self) -> str:
        """Return what was printed so far."""
        return "\n".join(self.lines)

    # -- the processes --------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self.process.pid

    def workers(self) -> list[int]:
        """Return the process ids of the workers that run."""
        children = psutil.Process(self.pid).children(recursive=True)
        return [child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def terminate(self) -> None:
        """Send the stop signal."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 20.0) -> int:
        """Return the exit code.

        :raises subprocess.TimeoutExpired: when it goes on running.
        """
        code = self.process.wait(seconds)
        self._reader.join()
        return code

    def stop(self) -> int:
        """Stop it as an operator does; return the exit code."""
        self.terminate()
        return self.wait()

    def kill9(self) -> None:
        """End the server's process, and only that, at once."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    # -- calls ----------------------------------------------------------------------------------

    def infer_raw(self, message: bytes, *, timeout: float = CALL_TIMEOUT, **options: Any) -> bytes:
        """Call ModelInfer with any bytes; return those of the reply."""
        reply: bytes = self.channel.unary_unary(pb.METHODS["ModelInfer"].path)(
            message, timeout=timeout, **options
        )
        return reply

    def start_infer(
        self, request: pb.ModelInferRequest, *, timeout: float | None = CALL_TIMEOUT
    ) -> Any:
        """Call ModelInfer without waiting; return gRPC's future of the reply."""
        method = pb.METHODS["ModelInfer"]
        call = self.channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        return call.future(request, timeout=timeout)

    def call(self, name: str, request: Any) -> Any:
        """Call an RPC of the inference service; return its reply."""
        method = pb.METHODS[name]
        kind = "stream_stream" if method.client_streaming else "unary_unary"
        call = getattr(self.channel, kind)(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        if method.client_streaming:
            return list(call(iter([request]), timeout=CALL_TIMEOUT))
        return call(request, timeout=CALL_TIMEOUT)

    def figures(self, model: str) -> Any:
        """Return the statistics of a model that has one version."""
        (statistics,) = self.client.statistics(model)
        return statistics

    def in_flight(self) -> tuple[int, int]:
        """Return the requests and the bytes that the server believes to be at work on."""
        status = self.client.status()
        return status.inflight_requests, status.inflight_bytes

    def waiting(self, model: str) -> int:
        """Return how many rows wait for a device."""
        return sum(m.queued_rows for m in self.client.status(model).models)

    # -- metrics --------------------------------------------------------------------------------

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Yield every sample of the metrics page: name, labels, value."""
        with urllib.request.urlopen(self.metrics_url, timeout=CALL_TIMEOUT) as reply:  # noqa: S310
            page = reply.read().decode()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have these labels."""
        return sum(
            value
            for found, given, value in self.samples()
            if found == name and labels.items() <= given.items()
        )


def infer_request(
    model: str,
    inputs: Sequence[tuple[str, str, Sequence[int], bytes]] | None = None,
    **arrays: np.ndarray[Any, Any],
) -> pb.ModelInferRequest:
    """Return a request with raw contents.

    :param inputs: name, datatype, shape and bytes of each, not necessarily agreeing.
    :param arrays: instead of them, by name.
    """
    if inputs is None:
        tensors = {name: jitney_client.tensors.encode(array) for name, array in arrays.items()}
        inputs = [(name, *tensor) for name, tensor in tensors.items()]
    request = pb.ModelInferRequest(model_name=model)
    for name, datatype, shape, data in inputs:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(data)
    return request
