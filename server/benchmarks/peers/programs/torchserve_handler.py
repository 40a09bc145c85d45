"""The model as a handler of TorchServe: what it is called with is a batch already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torchscript

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Handler"]


class Handler:
    """What TorchServe finds in the file."""

    def __init__(self) -> None:
        self._program: torchscript.Program | None = None

    def initialize(self, context: Any) -> None:  # noqa: ANN401, ARG002  # TorchServe's interface
        """Load the program."""
        self._program = torchscript.Program.of_environment()

    def handle(self, data: Sequence[dict[str, Any]], context: Any) -> list[bytes]:  # noqa: ANN401, ARG002  # TorchServe's interface
        """Run the bodies of a batch."""
        assert self._program is not None  # initialize comes first
        return self._program.run_bodies([bytes(row["body"]) for row in data])
