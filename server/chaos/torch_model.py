"""The model ``faulty`` as a TorchScript program, for real devices: it obeys no commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chaos.faulty_model import ODD, WORD

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_torch_model"]

HIGHEST: Final = 1 << 63
SIGNED_ODD: Final = ODD - (WORD + 1) if ODD >= HIGHEST else ODD
STAMP: Final = 0


def write_torch_model(repository: Path, name: str = "faulty") -> Path:
    """Write it over the version that is there; return its file. Imports torch."""
    import torch  # noqa: PLC0415  # whoever needs it only

    import jitney  # noqa: PLC0415  # likewise

    class Mix(torch.nn.Module):
        """``chaos.faulty_model.mix``, in tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.odd = SIGNED_ODD
            self.mask = HIGHEST - 1

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Return the number, its mix, and the stamp of each row."""
            number = x[:, 0]
            mixed = (number * self.odd >> 1) & self.mask
            return torch.stack([number, mixed, torch.zeros_like(number)], 1)

    file = repository / name / "1" / "model.pt"
    jitney.pack(Mix(), file, inputs=["x:INT64[N,2]"], outputs=["y:INT64[N,3]"])
    return file
