"""simple: adds and subtracts two rows of integers; the model to try a server or a client with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

import jitney

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 16


class Simple(torch.nn.Module):
    """``INPUT0 + INPUT1`` and ``INPUT0 - INPUT1``, elementwise, on INT32 ``[N, 16]``."""

    def forward(
        self,
        INPUT0: torch.Tensor,  # noqa: N803  # names of the signature
        INPUT1: torch.Tensor,  # noqa: N803  # names of the signature
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum and the difference."""
        return INPUT0 + INPUT1, INPUT0 - INPUT1


def build(folder: Path) -> None:
    """Write the model, and the batch limit that clients of this example expect."""
    jitney.pack(
        Simple(),
        folder / "1" / "model.pt",
        inputs=[f"INPUT0:INT32[N,{SIZE}]:-100..100", f"INPUT1:INT32[N,{SIZE}]:-100..100"],
        outputs=[f"OUTPUT0:INT32[N,{SIZE}]", f"OUTPUT1:INT32[N,{SIZE}]"],
        description="Sum and difference of two rows of 16 integers.",
    )
    (folder / "model.toml").write_text("max_batch_size = 8\n")
