"""One request's worth of rows: asked again where that helps, and cut down to the row at fault."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jitney.datatypes import DataType
from jitney.scoring.quarantine import Quarantine
from jitney_client import (
    Bfloat16,
    InvalidRequest,
    JitneyError,
    OutOfDeviceMemory,
    OutputTooLarge,
    ServerFault,
    WorkerLost,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from jitney.scoring.model import Endpoint, Model
    from jitney.scoring.table import Array
    from jitney_client import InferOptions, InferResult

__all__ = ["Answer", "Asker", "BadReply", "Wishes"]

ROW_FAULTS: Final = (
    InvalidRequest,
    ServerFault,
    OutOfDeviceMemory,
    OutputTooLarge,
)
"""What is about the rows of a request; everything else is about the server, or about us."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts, growing, where the server gives no advice."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is said about every request.

    ``patience`` is how long, in seconds, a server may refuse or not answer before that ends the
    run: long enough for it to be restarted.
    """

    patience: float = 60.0
    priority: int = 0
    tenant: str = ""


class BadReply(Exception):
    """A reply does not have the rows or shapes that it should: the model does not score by rows."""


class Answer:
    """The outputs of some rows, in the order in which they were sent, or why they have none."""

    def __init__(self, model: Model, rows: int) -> None:
        self.outputs: dict[str, list[Array | None]] = {
            tensor.name: [None] * rows for tensor in model.outputs
        }
        self.errors: dict[int, str] = {}


class Asker:
    """Sends rows to a model.

    - A request that fails because of its rows is cut in halves until the rows at fault are alone.
    - One whose worker died is sent again with nothing beside it, row by row. Not as a whole once
      more, nor in halves: a server gives up a model, or a device, that loses it too many workers.
    - What passes (overload, a restart) is waited for, up to ``patience``.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: Model,
        wishes: Wishes,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._model = model
        self._patience = wishes.patience
        self._sleep = sleep
        self._quarantine = Quarantine()
        self._outputs = tuple(tensor.name for tensor in model.outputs)
        self._rounded = {t.name for t in model.inputs if t.datatype is DataType.BF16}
        self._options: InferOptions = {"version": model.version, "outputs": self._outputs}
        if wishes.priority:
            self._options["priority"] = wishes.priority
        if wishes.tenant:
            self._options["tenant"] = wishes.tenant

    async def ask(self, inputs: Mapping[str, Array], rows: int) -> Answer:
        """Score rows.

        :param inputs: by name, the first axis of each counts ``rows``.
        :raises jitney_client.JitneyError: when it is not the rows' fault, and does not pass.
        :raises BadReply: when the outputs are not one for each row.
        """
        answer = Answer(self._model, rows)
        await self._together(inputs, range(rows), answer)
        return answer

    async def _together(self, inputs: Mapping[str, Array], rows: range, answer: Answer) -> None:
        """Score rows beside others."""
        if not rows:
            return
        try:
            async with self._quarantine.shared():
                self._note(await self._patiently(inputs, rows), rows, answer)
        except ROW_FAULTS as error:
            if len(rows) == 1:
                answer.errors[rows[0]] = str(error)
                return
            half = (len(rows) + 1) // 2
            await self._together(inputs, rows[:half], answer)
            await self._together(inputs, rows[half:], answer)
        except WorkerLost:
            async with self._quarantine.alone():
                for place in range(len(rows)):
                    await self._alone(inputs, rows[place : place + 1], answer)

    async def _alone(self, inputs: Mapping[str, Array], row: range, answer: Answer) -> None:
        """Score a row with nothing beside it."""
        try:
            self._note(await self._patiently(inputs, row), row, answer)
        except (*ROW_FAULTS, WorkerLost) as error:
            answer.errors[row[0]] = str(error)

    def _note(self, result: InferResult, rows: range, answer: Answer) -> None:
        for name in self._outputs:
            # Copies: a view would keep the whole reply, and whatever else is in it.
            array = result[name].copy()
            for place, row in enumerate(rows):
                answer.outputs[name][row] = array[place] if self._model.batched else array

    async def _patiently(self, inputs: Mapping[str, Array], rows: range) -> InferResult:
        waited, pause = 0.0, FIRST_PAUSE
        while True:
            try:
                return self._checked(await self._send(inputs, rows), rows)
            except JitneyError as error:
                own = pause if error.retry_after is None else error.retry_after
                passes = error.safe_to_retry and not isinstance(error, WorkerLost)
                if not passes or waited + own > self._patience:
                    raise
            await self._sleep(own)
            waited += own
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _send(self, inputs: Mapping[str, Array], rows: range) -> InferResult:
        first, last = rows[0], rows[-1] + 1
        part: dict[str, Any] = {}
        for name, array in inputs.items():
            own = array[first:last] if self._model.batched else array[first, ...]
            part[name] = Bfloat16(own) if name in self._rounded else own
        return await self._endpoint.infer(self._model.name, part, **self._options)

    def _checked(self, result: InferResult, rows: range) -> InferResult:
        """Return the result if every output has its rows, and each of them its shape."""
        for tensor in self._model.outputs:
            shape = result[tensor.name].shape if tensor.name in result else None
            wanted = (len(rows), *tensor.dims) if self._model.batched else tensor.dims
            if shape is None or not _fits(shape, wanted):
                have = "no such output" if shape is None else f"the shape {list(shape)}"
                msg = f"{tensor.name}: the reply to {len(rows)} rows has {have}, not {list(wanted)}"
                raise BadReply(msg)
        return result


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        want in (-1, have) for have, want in zip(shape, wanted, strict=True)
    )
