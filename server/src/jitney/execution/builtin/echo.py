"""What a request says besides its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jitney.datatypes import DataType
from jitney.types import BatchOutputs, OutputTensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jitney.execution.builtin.course import Course

__all__ = ["Echo"]

SERVERS: Final = frozenset({"sequence_id", "sequence_start", "sequence_end", "priority", "timeout"})
SERVERS_PREFIXES: Final = ("triton_", "jitney_")
"""Parameters that are addressed to the server; a model is not told of them."""


class Echo:
    """Gives back the request's parameters as two lists of texts, sorted by key.

    A text is itself, and any other value what Python's ``str`` makes of it: ``7``, ``0.5``,
    ``True``. That is the form which Triton's own model of this kind has. Metadata that is forwarded
    to models is among the parameters.
    """

    description = "echo: gives back the parameters of the request"
    delay = 0.0

    def begin(self, course: Course) -> None:
        """End at once: there is no batch dimension, so there is one request."""
        batch = course.batch
        [entry] = batch.entries
        given = entry.request.header.parameters or {}
        pairs = sorted(
            (key, str(value))
            for key, value in given.items()
            if key not in SERVERS and not key.startswith(SERVERS_PREFIXES)
        )
        texts = {"key": [key for key, _ in pairs], "value": [value for _, value in pairs]}
        tensors = []
        for spec in batch.key.outputs:
            data = memoryview(_written(texts[spec.name]))
            shape = (len(pairs),)
            tensors.append(OutputTensor(spec.name, DataType.BYTES, shape, data, (0, len(data))))
        course.end(BatchOutputs(tensors, batch.rows, batched=False))


def _written(texts: Iterable[str]) -> bytes:
    encoded = [text.encode("utf-8", "replace") for text in texts]
    return b"".join(len(text).to_bytes(4, "little") + text for text in encoded)
