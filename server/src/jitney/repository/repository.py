"""The models that are served, looked up by the names that callers use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.audit import NO_AUDIT
from jitney.errors import DeviceFailed, InvalidRequest, ModelLoadFailed, ModelNotFound
from jitney.repository.handle import ModelVersion, VersionState
from jitney.types import ModelRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jitney.audit import Audit
    from jitney.errors import ModelError
    from jitney.load_report import LoadReport

__all__ = ["UNLOADED", "IndexEntry", "Model", "Repository"]

VERSION: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
UNLOADED: Final = "unloaded"
"""Why a version that was served is no more, as the protocol has it."""


class IndexEntry(NamedTuple):
    """A line of the repository's index; a model of which no version is known has version None.

    ``wanted`` is False for what is not asked to be served: never loaded, or unloaded on request.
    """

    name: str
    version: int | None
    state: VersionState
    reason: str
    wanted: bool = True


@dataclass(slots=True)
class Model:
    """A model by the name of its folder.

    ``versions`` are those that callers can see, each number once; ``broken`` says what is wrong
    with those that could not even be read, ``gone`` why those that were served are no more, and
    ``error`` what is wrong with the model as a whole. ``wanted`` tells whether it should be served,
    ``vanished`` that its folder is gone, so that nothing is left of it after its last request.
    """

    name: str
    error: str = ""
    wanted: bool = False
    vanished: bool = False
    versions: dict[int, ModelVersion] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)
    gone: dict[int, str] = field(default_factory=dict)

    @property
    def is_known_only(self) -> bool:
        """Whether nothing ever came of it but its name."""
        return not (self.versions or self.broken or self.gone or self.error)

    def index(self) -> Iterator[IndexEntry]:
        """Yield a line for every version, or the one of a model without any.

        It works on copies, because the metrics page reads it from another thread.
        """
        unavailable = VersionState.UNAVAILABLE
        lines = {n: (unavailable, why, False) for n, why in dict(self.gone).items()}
        lines |= {n: (unavailable, why, self.wanted) for n, why in dict(self.broken).items()}
        lines |= {
            number: (
                version.state,
                version.reason,
                self.wanted and version.state is not VersionState.UNLOADING,
            )
            for number, version in dict(self.versions).items()
        }
        for number, (state, reason, wanted) in sorted(lines.items()):
            yield IndexEntry(self.name, number, state, reason, wanted)
        if not lines and self.error:
            yield IndexEntry(self.name, None, unavailable, self.error, self.wanted)
        elif not lines:
            yield IndexEntry(self.name, None, VersionState.UNKNOWN, "", self.wanted)


class Repository:
    """All models by name and version.

    - What is wrong with one model is noted with it and never keeps another from being served.
    - A version may be here more than once: while a changed one is being loaded, and until the last
      request of the one before has ended. ``ModelRef.load`` tells them apart; callers see one.
    - It does nothing by itself: ``control.ModelControl`` loads and unloads, devices tell the rest.
    """

    def __init__(self, audit: Audit = NO_AUDIT) -> None:
        """Hold nothing yet.

        :param audit: is told of devices that lost what they had.
        """
        self.audit = audit
        self._models: dict[str, Model] = {}
        self._loads: dict[ModelRef, ModelVersion] = {}
        self._next_load: dict[tuple[str, int], int] = {}
        self._resolved: dict[tuple[str, str], ModelVersion] = {}

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        ready = sum(v.state is VersionState.READY for v in self.versions())
        return f"<Repository {len(self._models)} models, {ready} versions ready>"

    # -- what is loaded and unloaded --------------------------------------------------------------

    def add(self, name: str) -> Model:
        """Return a model, which is new where there was none of that name."""
        return self._models.setdefault(name, Model(name))

    def discard(self, name: str) -> None:
        """Forget a model that has no versions any more."""
        self._models.pop(name, None)
        self._resolved.clear()

    def model(self, name: str) -> Model | None:
        """Return a model by its name."""
        return self._models.get(name)

    def new_ref(self, name: str, version: int) -> ModelRef:
        """Return a reference that no load of this version ever had.

        Not even one that has ended: a worker may still have something to say about it.
        """
        load = self._next_load.get((name, version), 0)
        self._next_load[name, version] = load + 1
        return ModelRef(name, version, load)

    def begin(self, version: ModelVersion, *, visible: bool) -> None:
        """Hold a version that is going to be loaded.

        :param visible: whether callers see it already; it then takes the place of what they saw.
        """
        self._loads[version.ref] = version
        if visible:
            self.show(version)

    def show(self, version: ModelVersion) -> ModelVersion | None:
        """Let callers see a version from now on; return the load of it that they saw before."""
        model = self._models[version.ref.name]
        number = version.ref.version
        before = model.versions.get(number)
        model.versions[number] = version
        model.broken.pop(number, None)
        model.gone.pop(number, None)
        self._resolved.clear()
        return before

    def forget(self, ref: ModelRef) -> None:
        """Let go of a load; a version that callers saw until now is then noted as unloaded."""
        version = self._loads.pop(ref, None)
        model = self._models.get(ref.name)
        if version is None or model is None:
            return
        if model.versions.get(ref.version) is version:
            # In this order: the metrics page, in another thread, shall always find one of them.
            model.gone[ref.version] = UNLOADED
            del model.versions[ref.version]
        self._resolved.clear()

    # -- what the devices tell ------------------------------------------------------------------

    def model_loaded(self, device: str, ref: ModelRef, report: LoadReport) -> None:
        """Note that a device has a version."""
        if (version := self.version(ref)) is not None:
            version.loaded(device, report)
            self._resolved.clear()

    def model_refused(self, device: str, ref: ModelRef, error: ModelError) -> None:
        """Note that a device will not have a version."""
        if (version := self.version(ref)) is not None:
            version.refused(device, str(error))

    def device_down(self, device: str, back_at: float = 0.0) -> None:
        """Note that a device lost all its versions and will have them again.

        :param back_at: when, in the clock's seconds; 0 where nobody knows, or it takes long.
        """
        self.audit.record("worker.lost", device=device)
        for version in self.loads():
            version.gone(device, f"the worker of {device} is being replaced", back_at)

    def device_failed(self, device: str, why: str) -> list[ModelRef]:
        """Note that a device was given up; return the versions that no device has any more."""
        self.audit.record("device.failed", device=device, why=why)
        lost = []
        for version in self.loads():
            version.refused(device, f"device {device} failed: {why}", DeviceFailed)
            if version.state is VersionState.UNAVAILABLE:
                lost.append(version.ref)
        return lost

    # -- looking up -----------------------------------------------------------------------------

    def resolve(self, name: str, version: str) -> ModelVersion:
        """Return the version that a caller means; an empty text is the highest that is ready.

        :raises InvalidRequest: when ``version`` is not a number.
        :raises ModelNotFound: when there is no such model or version, or it was unloaded.
        :raises ModelLoadFailed: when the version was found and could not be read.
        """
        found = self._resolved.get((name, version))
        if found is not None and found.state is VersionState.READY:
            return found
        model = self._models.get(name)
        if model is None or (model.is_known_only and not model.wanted):
            msg = f"Request for unknown model: '{name}' is not found"
            raise ModelNotFound(msg)
        found = self._newest(model) if version == "" else self._numbered(model, version)
        self._resolved[name, version] = found
        return found

    def _newest(self, model: Model) -> ModelVersion:
        served = [v for v in model.versions.values() if v.state is not VersionState.UNLOADING]
        candidates = [v for v in served if v.state is VersionState.READY] or served
        if not candidates:
            msg = f"Request for unknown model: '{model.name}' has no available versions"
            if why := model.error or "; ".join(model.broken.values()):
                msg = f"{msg}: {why}"
                raise ModelLoadFailed(msg)
            raise ModelNotFound(msg)
        return max(candidates, key=lambda v: v.ref.version)

    def _numbered(self, model: Model, version: str) -> ModelVersion:
        if not VERSION.fullmatch(version):
            shown = version[:40]
            msg = f"failed to get model version from specified version string {shown!r}"
            raise InvalidRequest(msg)
        number = int(version)
        found = model.versions.get(number)
        if found is not None and found.state is not VersionState.UNLOADING:
            return found
        msg = f"Request for unknown model: '{model.name}' version {number} is not at ready state"
        if number in model.broken:
            msg = f"{msg}: {model.broken[number]}"
            raise ModelLoadFailed(msg)
        if found is not None or number in model.gone:
            # Not an error to be retried, unlike that of a version that is loading.
            msg = f"{msg}: {model.gone.get(number, UNLOADED)}"
            raise ModelNotFound(msg)
        known = ", ".join(str(n) for n in sorted(model.versions)) or "none"
        msg = (
            f"Request for unknown model: '{model.name}' version {number} is not found; "
            f"known versions: {known}"
        )
        raise ModelNotFound(msg)

    def version(self, ref: ModelRef) -> ModelVersion | None:
        """Return a load of a version by its reference, whether callers see it or not."""
        return self._loads.get(ref)

    def loads(self) -> list[ModelVersion]:
        """Return every load of every version, also those that callers do not see."""
        return list(self._loads.values())

    def visible(self, name: str, version: int) -> ModelVersion | None:
        """Return the load of a version that callers see."""
        model = self._models.get(name)
        return model.versions.get(version) if model is not None else None

    def versions(self, name: str = "") -> Iterator[ModelVersion]:
        """Yield every version that callers see, or those of one model, in ascending order."""
        models = [self._models[name]] if name else list(self._models.values())
        for model in models:
            for _, version in sorted(model.versions.items()):
                yield version

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted(self._models)

    def index(self) -> list[IndexEntry]:
        """Return a line for every version, and one for every model without any."""
        models = sorted(dict(self._models).items())
        return [entry for _, model in models for entry in model.index()]

    def all_ready(self) -> bool:
        """Whether every version that should be served can be."""
        return not self.missing()

    def missing(self) -> list[IndexEntry]:
        """Return what should be served and cannot be."""
        return [e for e in self.index() if e.wanted and e.state is not VersionState.READY]
