"""Waiting for what the public clients tell by callbacks."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

import tritonclient.grpc as triton

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

__all__ = ["Pending", "Stream"]

PATIENCE = 30.0
"""Seconds after which a call of a test has hung."""


class Pending:
    """An asynchronous call."""

    def __init__(
        self, client: Any, inputs: Sequence[Any], model: str = "simple", **options: Any
    ) -> None:
        self._done = threading.Event()
        self._result: Any = None
        self._error: Any = None
        self.call = client.async_infer(model, inputs, self._ended, **options)

    def _ended(self, result: Any, error: Any) -> None:
        self._result, self._error = result, error
        self._done.set()

    def result(self) -> Any:
        """Wait, and return the result or raise the error."""
        assert self._done.wait(PATIENCE)
        if self._error is not None:
            raise self._error
        return self._result


class Stream:
    """A stream of the public client, open within the context."""

    def __init__(self, address: str, **options: Any) -> None:
        self.client = triton.InferenceServerClient(address)
        self._told: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self._options = options

    def __enter__(self) -> Self:
        """Open it."""
        self.client.start_stream(self._ended, **self._options)
        return self

    def __exit__(self, *_: object) -> None:
        """Finish what runs, and close."""
        self.client.stop_stream()
        self.client.close()

    def _ended(self, result: Any, error: Any) -> None:
        self._told.put((result, error))

    def send(self, model: str, inputs: Sequence[Any], **options: Any) -> None:
        """Send a request."""
        self.client.async_stream_infer(model, inputs, **options)

    def reply(self) -> Any:
        """Wait for the next reply; return it, or raise the error that came in its place."""
        result, error = self._told.get(timeout=PATIENCE)
        if error is not None:
            raise error
        return result

    def error(self) -> Any:
        """Wait for the next reply, which must be an error, and return it."""
        result, error = self._told.get(timeout=PATIENCE)
        assert error is not None, result
        return error

    def nothing_came(self) -> bool:
        """Whether no reply is waiting."""
        return self._told.empty()
