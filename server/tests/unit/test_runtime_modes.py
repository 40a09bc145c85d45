"""The switches of torch around a model's runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from runtime_models import X4, PuppetDevice, Twice
from slot_bench import Bench

from jitney.runtime.modes import without_cudnn

if TYPE_CHECKING:
    from pathlib import Path


class Witness(PuppetDevice):
    """Notes the switches whenever outputs are copied back: inference mode, gradients, cuDNN."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[bool, bool, bool]] = set()

    def fetch(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Note them."""
        super().fetch(target, source)
        self.seen.add(
            (
                torch.is_inference_mode_enabled(),
                torch.is_grad_enabled(),
                torch.backends.cudnn.enabled,
            )
        )


@pytest.mark.parametrize(
    ("settings", "switches"),
    [
        ({}, (True, False, True)),
        ({"inference_mode": False}, (False, False, True)),
        ({"cudnn": False}, (True, False, False)),
        ({"inference_mode": False, "cudnn": False}, (False, False, False)),
    ],
    ids=["default", "no_grad", "no cuDNN", "neither"],
)
def test_a_model_runs_under_the_switches_that_its_settings_ask_for(
    tmp_path: Path, settings: dict[str, bool], switches: tuple[bool, bool, bool]
) -> None:
    """While it is warmed up and in every batch; afterwards they are as before."""
    device = Witness()

    bench = Bench(Twice(), X4, device, tmp_path / "m.pt", optimise="auto", **settings)
    warm, device.seen = device.seen, set()
    bench.run(torch.ones(1, 4))

    assert (warm, device.seen) == ({switches}, {switches})
    assert (torch.is_inference_mode_enabled(), torch.backends.cudnn.enabled) == (False, True)


def test_cudnn_is_back_after_an_error() -> None:
    """The switch is the process's: the next model would go without."""
    with pytest.raises(ZeroDivisionError), without_cudnn():
        1 / bool(torch.backends.cudnn.enabled)

    assert torch.backends.cudnn.enabled
