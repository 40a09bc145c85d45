"""A device, as the policy sees it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from jitney.scheduling.drift import Drift
from jitney.scheduling.latency import LatencyModel
from jitney.scheduling.model_latency import ModelLatency

if TYPE_CHECKING:
    from jitney.latency_profile import LatencyProfile
    from jitney.scheduling.batch import Batch, BatchKey
    from jitney.types import ModelRef

__all__ = ["DeviceState"]

REMEMBERED: Final = 4096
"""Shapes whose latencies are remembered; shapes come from the wire."""


class DeviceState:
    """What a device may run, what it has been given, and when it will be done with it.

    ``models`` has for each what its sweep measured, and the drift of the device at that time.
    ``free_at`` is when what it has been given is expected to end. While it is ``loading`` a model
    it runs nothing. Until ``rests_until`` it is given nothing unless some queue has a full batch,
    or something would be late.

    What was learnt is kept by model and shape, not by key: keys are made anew when their makers
    forget them.
    """

    __slots__ = (
        "_by_key",
        "_by_shape",
        "drift",
        "free_at",
        "loading",
        "models",
        "name",
        "rests_until",
        "running",
        "staged",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.models: dict[ModelRef, tuple[LatencyProfile, float] | None] = {}
        self.running: Batch | None = None
        self.staged: Batch | None = None
        self.free_at = 0.0
        self.loading = False
        self.rests_until = 0.0
        self.drift = Drift()
        self._by_key: dict[BatchKey, LatencyModel] = {}
        self._by_shape: dict[tuple[ModelRef, object], LatencyModel] = {}

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<DeviceState {self.name} running {self.running}, staged {self.staged}>"

    @property
    def is_idle(self) -> bool:
        """Whether it could run a batch now."""
        return self.running is None and not self.loading

    # -- models ---------------------------------------------------------------------------------

    def add(self, model: ModelRef, profile: LatencyProfile | None) -> None:
        """Let it run a model; what was learnt of an earlier copy is forgotten."""
        self.discard(model)
        self.models[model] = None if profile is None else (profile, self.drift.g)

    def discard(self, model: ModelRef) -> None:
        """Give it a model's batches no more."""
        self.models.pop(model, None)
        self._by_key.clear()
        self._by_shape = {k: v for k, v in self._by_shape.items() if k[0] != model}

    def latency(self, key: BatchKey, least_spread: float) -> LatencyModel:
        """Return how long batches of a key take here, as far as that is known."""
        latency = self._by_key.get(key)
        if latency is None:
            if len(self._by_key) >= REMEMBERED:
                self._by_key.clear()
            latency = self._by_key[key] = self._latency_of(key, least_spread)
        return latency

    def _latency_of(self, key: BatchKey, least_spread: float) -> LatencyModel:
        shape = (key.model, key.inputs)
        latency = self._by_shape.get(shape)
        if latency is not None and latency.max_rows == key.max_rows:
            return latency
        measured = self.models.get(key.model)
        if measured is None:
            latency = LatencyModel.unknown(key.max_rows, self.drift)
        else:
            # The sweep ran one shape of a row; where others are possible it is but a guess.
            make = LatencyModel.prior if key.varies else LatencyModel
            profile, drift = measured
            latency = make(
                profile,
                key.max_rows,
                self.drift,
                least_spread=least_spread,
                measured_at=drift,
            )
        if len(self._by_shape) >= REMEMBERED:
            self._forget_some()
        self._by_shape[shape] = latency
        return latency

    def _forget_some(self) -> None:
        """Forget the older half of the shapes of the model that has most: it is to blame."""
        counts = Counter(model for model, _ in self._by_shape)
        most = max(counts, key=counts.__getitem__)
        shapes = [shape for shape in self._by_shape if shape[0] == most]
        for shape in shapes[: (len(shapes) + 1) // 2]:
            del self._by_shape[shape]

    def latencies(self, least_spread: float) -> list[ModelLatency]:
        """Return what is known, by model; on any thread."""
        found: dict[ModelRef, list[LatencyModel]] = {}
        for (model, _), latency in list(self._by_shape.items()):
            found.setdefault(model, []).append(latency)
        known = [
            ModelLatency(self.name, model, len(shapes), max(shapes, key=lambda one: one.batches))
            for model, shapes in found.items()
        ]
        for model, measured in list(self.models.items()):
            if model not in found and measured is not None:
                profile, drift = measured
                swept = LatencyModel(
                    profile,
                    profile.sizes[-1],
                    self.drift,
                    least_spread=least_spread,
                    measured_at=drift,
                )
                known.append(ModelLatency(self.name, model, 0, swept))
        return known

    # -- batches --------------------------------------------------------------------------------

    def start(self, batch: Batch, now: float) -> None:
        """Take up a batch; there is none."""
        self.running = batch
        self.free_at = now + batch.planned

    def stage(self, batch: Batch) -> None:
        """Take a batch to go on with."""
        self.staged = batch
        self.free_at += batch.planned

    def end(self, batch: Batch, now: float) -> None:
        """Be done with a batch; what is staged runs."""
        if self.running is batch:
            self.running, self.staged = self.staged, None
            self.free_at = now + self.running.planned if self.running else now
        elif self.staged is batch:
            self.staged = None
            self.free_at -= batch.planned
