"""What is simulated: models, devices, latencies, SLOs and arrivals that have a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.simulation.arrivals import SAMPLE, Arrivals
from benchmarks.simulation.line import Line

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SETTINGS", "SINGLE", "Setting"]

RESNET: Final = Line(1.053e-3, 5.072e-3)
"""ResNet-50 on a GTX 1080 Ti, as the Symphony paper (arXiv 2308.07470) gives it."""
SMALL: Final = Line(0.1e-3, 2e-3)


@dataclass(frozen=True, slots=True)
class Setting:
    """``models`` of one latency on ``devices``, requests of one row and one SLO (seconds).

    ``count`` requests of each seed of ``seeds`` arrive; each is for any of the models. ``steps`` is
    how often the search for the goodput halves its interval. ``trace`` is replayed where the
    arrivals are.

    What the design published of its own policy, where it did: ``reference``, its goodput over the
    clairvoyant bound (of SINGLE: the exact optimum), and ``overload``, its answers in time over the
    staggered capacity at the offered loads of ``overload.PUBLISHED``.
    """

    name: str
    models: int
    devices: int
    line: Line
    slo: float
    arrivals: Arrivals = Arrivals.POISSON
    count: int = 20_000
    seeds: tuple[int, ...] = (1, 2)
    steps: int = 12
    reference: float | None = None
    overload: tuple[float, ...] = ()
    trace: Path = SAMPLE

    @property
    def ceiling(self) -> float:
        """Requests per second of devices that never pay for starting a batch."""
        return self.devices / self.line.alpha


SETTINGS: Final = (
    Setting(*("S1", 1, 8, RESNET, 25e-3), reference=0.883, overload=(0.91, 0.93, 1.00, 1.02, 1.02)),
    Setting(*("S2", 1, 1, RESNET, 25e-3), reference=0.729, overload=(0.93, 1.03, 1.11, 1.11, 1.10)),
    Setting(*("S3", 8, 8, RESNET, 25e-3), reference=0.895, overload=(0.97, 1.05, 1.15, 1.20, 1.25)),
    Setting(*("S4", 4, 2, SMALL, 20e-3), reference=0.953, overload=(0.99, 1.05, 1.13, 1.16, 1.18)),
    Setting(*("S5", 1, 4, SMALL, 20e-3), reference=0.926, overload=(0.96, 0.96, 1.02, 1.05, 1.13)),
    Setting(
        *("S6", 1, 4, SMALL, 40e-3, Arrivals.GAMMA),
        reference=0.948,
        overload=(1.00, 1.01, 1.05, 1.06, 0.98),
    ),
    Setting(
        *("S7", 4, 2, SMALL, 40e-3, Arrivals.MMPP),
        reference=0.585,
        overload=(0.81, 0.89, 1.03, 1.09, 1.09),
    ),
    Setting(
        *("M20N4", 20, 4, SMALL, 50e-3),
        seeds=(1,),
        reference=0.915,
        overload=(1.00, 1.07, 1.17, 1.22, 1.59),
    ),
    Setting(
        *("M1N32", 1, 32, RESNET, 25e-3),
        count=40_000,
        seeds=(1,),
        reference=0.927,
        overload=(0.88, 0.95, 1.00, 1.01, 0.98),
    ),
    Setting("R3", 3, 4, SMALL, 40e-3, Arrivals.REPLAYED),
)
"""The published ones, and the replayed trace."""
SINGLE: Final = (
    Setting("P25", 1, 1, RESNET, 25e-3, count=4000, seeds=(1,), reference=0.92),
    Setting("P20", 1, 1, SMALL, 20e-3, count=4000, seeds=(1,), reference=0.99),
    Setting("P100", 1, 1, RESNET, 100e-3, count=4000, seeds=(1,), reference=0.98),
    Setting("G25", 1, 1, RESNET, 25e-3, Arrivals.GAMMA, 4000, seeds=(1,), reference=0.47),
)
"""One device and one model; small enough for the exact optimum."""
