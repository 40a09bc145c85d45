"""Repositories whose files are listed, and a model control that tells all that it does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fake_loader import TENSORS, FakeLoader, write_model

from jitney.config import BatchingSettings, RepositorySettings
from jitney.packing.listing import write_manifest
from jitney.repository.control import ModelControl
from jitney.repository.preparing import Preparer
from jitney.repository.repository import Repository
from jitney.repository.units import units_of

if TYPE_CHECKING:
    from pathlib import Path

    from jitney.audit.record import Fact
    from jitney.repository.signature import Signer

LABELLED = TENSORS + 'labels_file = "labels.txt"\n'


def write_listed(folder: Path, signer: Signer | None = None) -> Path:
    """Write a repository with a model of two versions and labels, all of it listed."""
    write_model(folder, "a", 1, 2, toml=LABELLED)
    (folder / "a" / "labels.txt").write_text("cat\ndog\nbird\ncow\n")
    (folder / "a" / "2" / "notes.txt").write_text("by me")
    for unit in units_of(folder):
        write_manifest(unit, signer)
    return folder


class Ear:
    """Keeps what an audit log would."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Fact]]] = []

    def record(self, event: str, *, principal: str = "", **facts: Fact) -> None:
        """Keep it."""
        self.heard.append((event, {"principal": principal, **facts}))

    def last(self, *names: str) -> tuple[Fact, ...]:
        """Return the last event, and facts of it."""
        event, facts = self.heard[-1]
        return (event, *(facts.get(name) for name in names))


class Bench:
    """A model control over a folder with the settings of a test."""

    def __init__(self, root: Path, mode: str = "poll", **settings: Any) -> None:
        self.said: list[str] = []
        self.ear = Ear()
        self.repository = Repository(self.ear)
        self.loader = FakeLoader(self.repository, "cpu")
        preparer = Preparer(BatchingSettings(), 1 << 20, ["cpu"], self.said.append, lambda: 0.0)
        self.control = ModelControl(
            self.repository,
            preparer,
            self.loader,
            RepositorySettings((root,), mode, **settings),
            self.said.append,
            audit=self.ear,
        )

    def start(self) -> dict[str, str]:
        """Load all that there is; return the state of every version with its reason."""

        async def run() -> None:
            self.control.find()
            await self.control.load_all()

        asyncio.run(run())
        return self.states()

    def poll(self) -> dict[str, str]:
        """Look again."""
        asyncio.run(self.control.poll())
        return self.states()

    def states(self) -> dict[str, str]:
        """Return the state of every version with its reason."""
        return {
            f"{entry.name}/{entry.version}": f"{entry.state.value} {entry.reason}".strip()
            for entry in self.repository.index()
        }
