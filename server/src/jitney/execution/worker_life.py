"""One worker process of a device, from its start to its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from jitney.execution import wire
from jitney.execution.ending import Cause, Ending
from jitney.execution.link import WorkerLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.clock import Clock
    from jitney.execution.link import WorkerCommand

    Message = wire.Done | wire.Failed | wire.Note

__all__ = ["Hello", "WorkerLife"]


class Hello(NamedTuple):
    """What a worker says of itself when it is up, or cannot be.

    ``unable`` is why it cannot, empty when it can; it is ``final`` where trying again as it was
    cannot help. ``unconfined`` are the steps of its confinement that did not work.
    """

    description: str = ""
    pinned: bool = False
    memory: dict[str, int] = {}  # noqa: RUF012  # never changed
    unconfined: tuple[str, ...] = ()
    unable: str = ""
    final: bool = False

    @classmethod
    def read(cls, note: wire.Note) -> Hello:
        """Read a HELLO; what is not as it should be is left out, as nothing depends on it."""
        document = note.document
        memory, unconfined = document.get("memory"), document.get("unconfined")
        return cls(
            str(document.get("description", ""))[:200],
            document.get("pinned") is True,
            {
                str(kind)[:20]: size
                for kind, size in (memory if isinstance(memory, dict) else {}).items()
                if isinstance(size, int) and 0 <= size < 1 << 63
            },
            tuple(str(step)[:200] for step in unconfined) if isinstance(unconfined, list) else (),
            str(document.get("unable", ""))[:1000],
            document.get("final") is True,
        )


class WorkerLife:
    """A process that starts, says hello, and ends at some time.

    Messages but the first one go to whoever took the process over (``take``); until then there may
    be none. ``gone`` is done when it has ended.

    :raises OSError: by the constructor, when it cannot be started.
    """

    def __init__(
        self,
        command: WorkerCommand,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        on_ended: Callable[[WorkerLife, Ending], None],
    ) -> None:
        self._clock = clock
        self._on_ended = on_ended
        self.born = self.heard = clock.now()
        self.hello: asyncio.Future[Hello] = loop.create_future()
        self.gone: asyncio.Future[Ending] = loop.create_future()
        self.worked = False
        """Whether it has answered a batch."""
        self.link = WorkerLink(command, loop, self._message, self._ended)

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        state = "gone" if self.gone.done() else "up" if self.is_up else "starting"
        return f"<WorkerLife of {self.link.device}, {state}>"

    @property
    def is_up(self) -> bool:
        """Whether it said hello, and has not ended."""
        return self.hello.done() and not self.gone.done()

    @property
    def begun(self) -> int | None:
        """The serial of the batch that it began last; None from one that leaves no signs."""
        signs = self.link.slots.memory.signs
        return signs.serial if signs.beat > 0.0 else None

    def last_sign(self) -> float:
        """Return when it last showed that it lives: by its hello, or in its shared memory."""
        beat = self.link.slots.memory.signs.beat
        # Not from the future, and not something that is no number: a worker may write anything.
        return beat if self.heard < beat <= self._clock.now() else self.heard

    def take(self, on_message: Callable[[WorkerLink, Message], None]) -> None:
        """Give its messages to somebody from now on, directly: they are the hot path."""
        self.link.tell(on_message)

    async def until_up(self, timeout: float) -> Ending | None:  # noqa: ASYNC109  # a bound
        """Wait until it is up; return why it never will be, None when it is.

        :param timeout: seconds from its birth, after which it is killed.
        """
        left = max(0.0, self.born + timeout - self._clock.now())
        done, _ = await asyncio.wait(
            (self.hello, self.gone), timeout=left, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            self.link.kill(f"not up within {timeout:g} s", Cause.HUNG)
        return self.gone.result() if self.gone.done() else None

    def _message(self, _: WorkerLink, message: Message) -> None:
        self.heard = self._clock.now()
        if not (isinstance(message, wire.Note) and message.kind is wire.Kind.HELLO):
            msg = f"a {type(message).__name__} before it was asked anything"
            raise wire.WireError(msg)
        if not self.hello.done():
            self._greeted(Hello.read(message))

    def _greeted(self, hello: Hello) -> None:
        self.hello.set_result(hello)
        if hello.unable:
            self.link.kill(hello.unable, Cause.CRASH)

    def _ended(self, _: WorkerLink, ending: Ending) -> None:
        self._on_ended(self, ending)
        self.gone.set_result(ending)
