"""One model: every peer is started, checked, and visited in turn."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from benchmarks.compare.entrants import (
    KINDS,
    LoopEntrant,
    ServerEntrant,
    callers_for,
    connections_for,
)
from benchmarks.compare.figures import ModelResult, Point
from benchmarks.compare.goals import add_ratios
from benchmarks.compare.turns import take_turns
from benchmarks.dialects import OIP
from benchmarks.peers import loop
from benchmarks.peers.exhibits import install
from benchmarks.peers.peer import RunningPeer
from benchmarks.process import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

    from benchmarks.compare.entrants import Entrant
    from benchmarks.comparison import Effort
    from benchmarks.peers.exhibits import Exhibit
    from benchmarks.peers.peer import Peer

__all__ = ["Contest"]


class Contest(contextlib.ExitStack):
    """The processes of one model's comparison, for as long as a ``with`` block lasts.

    - ``admit`` starts a peer; one that cannot take part is in ``result.absent`` with the reason.
    - ``run`` measures one concurrency. The first round of each does not count.
    - A wrong answer or a failed call voids the figure of that peer at that concurrency.
    """

    def __init__(self, exhibit: Exhibit, folder: Path, say: Callable[[str], None]) -> None:
        super().__init__()
        threads = f"threads of PyTorch in every peer but ours: {exhibit.torch_threads()}"
        self.result = ModelResult(exhibit.name, absent={}, notes=[threads])
        self._exhibit = exhibit
        self._folder = folder
        self._say = say
        self._show = install(exhibit, folder / "model")
        self._entrants: dict[str, Entrant] = {}
        self._kind = callers_for(self._show.workload(OIP), http=False)

    def __enter__(self) -> Self:
        """Return the contest."""
        super().__enter__()
        return self

    def admit(self, peer: Peer) -> None:
        """Start a peer and let it answer every request once."""
        reason = peer.missing()
        if not reason:
            try:
                self._start(peer)
            except BenchmarkError as error:
                reason = str(error)
        if reason:
            self.result.absent[peer.title] = reason
            self._say(f"{self._exhibit.name}: {peer.title} takes no part: {reason}")
        else:
            self._say(f"{self._exhibit.name}: {peer.title} answers")

    def admit_loop(self) -> None:
        """Start the loop, a process for each form, and find their best batch sizes."""
        for form in loop.FORMS:
            folder = self._folder / f"{loop.NAME}-{form}"
            folder.mkdir()
            process = self.enter_context(loop.LoopProcess(self._show, folder))
            try:
                entrant = LoopEntrant(process, form, self._exhibit.max_batch)
            except BenchmarkError as error:
                self.result.absent[f"PyTorch loop, {form}"] = str(error)
                continue
            self._entrants[entrant.title] = entrant
            note = f"{entrant.title}: batches of {entrant.batch}, its best"
            self.result.notes.append(note)
            self._say(f"{self._exhibit.name}: {note}")

    def run(self, concurrency: int, effort: Effort) -> Point:
        """Measure every entrant at one concurrency."""
        connections = connections_for(self._kind, concurrency)
        name = self._exhibit.name
        places = take_turns(
            self._entrants,
            concurrency,
            effort,
            lambda text: self._say(f"{name}, {concurrency} in flight: {text}"),
        )
        point = Point(name, concurrency, connections, KINDS[self._kind], places)
        add_ratios(point)
        self.result.points.append(point)
        for title, entrant in self._entrants.items():
            self.result.memory[title] = entrant.memory()
        return point

    def _start(self, peer: Peer) -> None:
        folder = self._folder / peer.name
        folder.mkdir()
        launch = peer.launch(self._show, folder)
        workload = self._show.workload(peer.dialect)
        if peer.echoes:
            workload = workload.echoed(self._show.reply())
        with contextlib.ExitStack() as until_admitted:
            running = until_admitted.enter_context(RunningPeer(peer, launch, folder / "log"))
            running.wait_until_ready(workload.requests[0])
            checker = workload.checker()
            for which, request in enumerate(workload.requests):
                reply = running.ask(request)
                if not checker.is_right(which, reply):
                    msg = f"it answered request {which} wrongly: {reply[:80]!r}"
                    raise BenchmarkError(msg)
            entrant = ServerEntrant(running, workload, folder)
            self.push(until_admitted.pop_all().__exit__)
        self.callback(entrant.close)
        self._entrants[entrant.title] = entrant
