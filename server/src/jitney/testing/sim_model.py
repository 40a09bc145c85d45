"""Simulated models: an identity, and a formula for how long it takes."""

from __future__ import annotations

import bisect
import json
import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from jitney.datatypes import DataType
from jitney.errors import ModelError
from jitney.latency_profile import LatencyProfile
from jitney.runtime.buckets import ladder
from jitney.signature import BATCH, Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

__all__ = ["SimModel", "read_sim_model", "write_sim_model"]

FOLDER: Final = "model"
SIGNATURE_ENTRY: Final = f"{FOLDER}/extra/jitney.json"
SIMULATED_ENTRY: Final = f"{FOLDER}/extra/simulated.json"
NO_CONSTANTS: Final = b"\x80\x02)."
"""An empty tuple, as TorchScript stores it; without it a file does not look like a model."""
LEAST_FACTOR: Final = 0.1
"""Noise never makes a batch shorter than this part of what it should take."""


@dataclass(frozen=True, slots=True)
class SimModel:
    """How long a batch takes on its device, in seconds: ``alpha`` per row, and ``beta``.

    ``noise`` is the standard deviation of the time, relative to it (normal). With ``buckets``,
    ascending, a batch takes as long as the next of them that is as large, like one that is padded;
    there is none larger than the last.
    """

    alpha: float
    beta: float
    noise: float = 0.0
    buckets: tuple[int, ...] = ()

    def seconds(self, rows: int) -> float:
        """Return the mean time of a batch of ``rows``."""
        if self.buckets:
            rows = self.buckets[bisect.bisect_left(self.buckets, rows)]
        return self.alpha * rows + self.beta

    def drawn_seconds(self, rows: int, rng: Random) -> float:
        """Return the time of one batch, noise included."""
        factor = rng.gauss(1.0, self.noise) if self.noise else 1.0
        return self.seconds(rows) * max(LEAST_FACTOR, factor)

    def profile(self, max_rows: int) -> LatencyProfile:
        """Return what a perfect measurement of sizes up to ``max_rows`` would find."""
        sizes = self.buckets or ladder(max_rows)
        seconds = tuple(map(self.seconds, sizes))
        return LatencyProfile(sizes, seconds, (self.noise,) * len(sizes), bool(self.buckets))


def write_sim_model(
    repository: Path, name: str, model: SimModel, *, max_rows: int, width: int = 4
) -> Path:
    """Write version 1 of an identity over FP32 ``[N, width]`` into a repository; return its file.

    Input ``x``, output ``y``. It is an archive with just enough in it that the server takes it for
    a TorchScript model, so nothing in the server needs to know of simulations; only
    ``sim_worker`` can load it. A ``model.toml`` beside it sets ``max_rows`` as the batch limit.
    """
    x, y = (TensorSpec(name, DataType.FP32, (BATCH, width)) for name in ("x", "y"))
    file = repository / name / "1" / "model.pt"
    file.parent.mkdir(parents=True)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{FOLDER}/constants.pkl", NO_CONSTANTS)
        archive.writestr(f"{FOLDER}/code/simulated.py", "# takes its time\n")
        archive.writestr(SIGNATURE_ENTRY, json.dumps(Signature((x,), (y,)).to_json()))
        archive.writestr(SIMULATED_ENTRY, json.dumps(asdict(model)))
    (repository / name / "model.toml").write_text(f"max_batch_size = {max_rows}\n")
    return file


def read_sim_model(path: str) -> SimModel:
    """Read the formula from a file that ``write_sim_model`` wrote.

    :raises ModelError: when it is another file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            table = json.loads(archive.read(SIMULATED_ENTRY))
        return SimModel(**{**table, "buckets": tuple(table["buckets"])})
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        msg = f"not a simulated model ({error}); this worker runs no others"
        raise ModelError(msg) from None
