"""The models that are served: found, loaded, and looked up by the names that callers use."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import (
    ConfigError,
    InvalidRequest,
    JitneyError,
    ModelError,
    ModelLoadFailed,
    ModelNotFound,
)
from jitney.execution.loading import LoadSpec
from jitney.load_options import LoadOptions
from jitney.repository.archive import Kind, read_archive
from jitney.repository.handle import ModelVersion, VersionState
from jitney.repository.limits import limits_of
from jitney.repository.manifest import resolve_signature
from jitney.repository.scan import scan, select_versions
from jitney.repository.sealed import seal
from jitney.signature import Signature
from jitney.types import ModelRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from jitney.config import BatchingSettings
    from jitney.execution.loading import Loader
    from jitney.load_report import LoadReport
    from jitney.repository.manifest import ModelManifest
    from jitney.repository.scan import FoundModel, FoundVersion
    from jitney.repository.sealed import SealedFile

__all__ = ["IndexEntry", "Repository"]

log = logging.getLogger(__name__)

TELL_EVERY: Final = 1.0
"""Seconds between two lines about one load; quick loads need none."""
VERSION: Final = re.compile(r"[0-9]{1,19}", re.ASCII)


class IndexEntry(NamedTuple):
    """A line of the repository's index; a model of which no version was found has version None.

    ``wanted`` is False for what the operator did not ask to be served: in the explicit mode, what
    was not named.
    """

    name: str
    version: int | None
    state: VersionState
    reason: str
    wanted: bool = True


@dataclass(slots=True)
class _Model:
    name: str
    error: str = ""
    wanted: bool = True
    versions: dict[int, ModelVersion] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)


class Repository:
    """All models by name and version.

    What is wrong with one model is noted with it and never keeps another from being served. A
    model's file is read once for every load, into memory that cannot change any more; every later
    load (onto the worker that replaces a dead one) must find the same digest.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        defaults: BatchingSettings,
        slot_bytes: int,
        devices: Sequence[str],
        say: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        """Look nowhere yet.

        :param devices: the names of those that every version is loaded onto.
        :param say: is told what the operator should see while models load.
        :param now: monotonic seconds, to say it no more than once a second.
        """
        self._now = now
        self._devices = devices
        self._roots = roots
        self._defaults = defaults
        self._slot_bytes = slot_bytes
        self._say = say
        self._found: list[FoundModel] = []
        self._models: dict[str, _Model] = {}
        self._resolved: dict[tuple[str, str], ModelVersion] = {}

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        ready = sum(v.state is VersionState.READY for v in self.versions())
        return f"<Repository {len(self._models)} models, {ready} versions ready>"

    # -- loading --------------------------------------------------------------------------------

    def find(self) -> None:
        """Look for models.

        :raises ConfigError: when a repository itself cannot be read.
        """
        self._found = scan(self._roots)
        for found in self._found:
            self._models[found.name] = _Model(found.name)

    async def load_all(self, loader: Loader, only: Sequence[str] | None = None) -> None:
        """Load, of every model that was found, the versions that its policy asks for.

        :param only: the names of models to load; all where it is None.
        :raises ConfigError: when one of these names was not found.
        """
        for name in only or ():
            if name not in self._models:
                known = ", ".join(sorted(self._models)) or "none"
                msg = f"--load-model: there is no model {name!r}; found are {known}"
                raise ConfigError(msg)
        for found in self._found:
            model = self._models[found.name]
            if only is not None and found.name not in only:
                model.wanted = False
                model.error = "unloaded"
                continue
            if found.error is not None or found.manifest is None:
                model.error = found.error or ""
                self._say(f"{found.name}: {model.error}")
                continue
            for warning in found.warnings:
                log.warning("model %s: %s", found.name, warning)
            chosen = select_versions(found)
            if not chosen:
                model.error = "no version found: put the model at <name>/<number>/model.pt"
                self._say(f"{found.name}: {model.error}")
            for version in chosen:
                await self._load(model, found, version, found.manifest, loader)

    async def _load(
        self,
        model: _Model,
        found: FoundModel,
        version: FoundVersion,
        manifest: ModelManifest,
        loader: Loader,
    ) -> None:
        ref = ModelRef(found.name, version.version)
        try:
            if version.path is None:
                raise ModelError(version.error or "not found")  # one place notes it
            # Reads and hashes the whole file, so not on the event loop.
            handle, request = await asyncio.get_running_loop().run_in_executor(
                None, self._prepare, ref, version.path, manifest
            )
        except JitneyError as error:
            model.broken[version.version] = str(error)
            self._say(f"{ref}: not loaded: {error}")
            return
        model.versions[version.version] = handle
        self._say(f"{ref}: loading")
        outcomes = await loader.load(request)
        for device, outcome in outcomes.items():
            if isinstance(outcome, ModelError):
                handle.refused(device, str(outcome))
                self._say(f"{ref}: not loaded on {device}: {outcome}")
            else:
                self._say(
                    f"{ref}: ready on {device} after {outcome.load_seconds:.1f} s, "
                    f"{outcome.form} form"
                )
                for warning in outcome.warnings:
                    self._say(f"{ref}: note: {warning}")

    def _prepare(
        self, ref: ModelRef, path: Path, manifest: ModelManifest
    ) -> tuple[ModelVersion, LoadSpec]:
        with seal(path) as sealed:
            digest = sealed.sha256
            with open(f"/proc/self/fd/{sealed.fd}", "rb") as file:  # noqa: PTH123  # a descriptor
                archive = read_archive(file)
        if archive.kind is Kind.UNKNOWN:
            msg = f"it lacks {'; '.join(archive.missing())}"
            raise ModelError(msg)
        signature = resolve_signature(manifest, archive.signature)
        if signature is None:
            msg = (
                "nothing says what it takes and gives. Either pack it (jitney pack), or put a "
                f"model.toml with this beside it:\n{archive.skeleton()}"
            )
            raise ModelError(msg)
        if optional := [spec.name for spec in signature.inputs if spec.optional]:
            msg = (
                f"input {optional[0]!r} is optional, and this server cannot leave inputs out yet; "
                "remove optional from its signature, and send it with every request"
            )
            raise ModelError(msg)
        limits = limits_of(manifest, self._defaults, self._slot_bytes)
        options = LoadOptions(
            ref.name,
            ref.version,
            _unlabelled(signature),
            max_batch_size=limits.max_batch_size,
            batching_required=manifest.batching.required,
            optimise=manifest.runtime.optimise,
            default_slo_seconds=limits.default_slo if limits.default_slo < math.inf else 0.0,
        )

        def reopen() -> SealedFile:
            again = seal(path)
            if again.sha256 != digest:
                again.close()
                msg = "its file changed since it was first loaded; restart to serve the new one"
                raise ModelError(msg)
            return again

        told_at = self._now()

        def progress(device: str, text: str) -> None:
            nonlocal told_at
            if (now := self._now()) - told_at >= TELL_EVERY:
                told_at = now
                self._say(f"{ref}: loading on {device}: {text}")

        return (
            ModelVersion(ref, signature, limits, digest, self._devices),
            LoadSpec(ref, options, reopen, progress),
        )

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

    def device_down(self, device: str) -> None:
        """Note that a device lost all its versions and will have them again."""
        for version in self.versions():
            version.gone(device, f"the worker of {device} is being replaced")

    def device_failed(self, device: str, why: str) -> list[ModelRef]:
        """Note that a device was given up; return the versions that no device has any more."""
        lost = []
        for version in self.versions():
            version.refused(device, f"device {device} failed: {why}")
            if version.state is VersionState.UNAVAILABLE:
                lost.append(version.ref)
        return lost

    # -- looking up -----------------------------------------------------------------------------

    def resolve(self, name: str, version: str) -> ModelVersion:
        """Return the version that a caller means; an empty text is the highest that is ready.

        :raises InvalidRequest: when ``version`` is not a number.
        :raises ModelNotFound: when there is no such model or version.
        :raises ModelLoadFailed: when the version was found and could not be read.
        """
        found = self._resolved.get((name, version))
        if found is not None and found.state is VersionState.READY:
            return found
        model = self._models.get(name)
        if model is None:
            msg = f"Request for unknown model: '{name}' is not found"
            raise ModelNotFound(msg)
        found = self._newest(model) if version == "" else self._numbered(model, version)
        self._resolved[name, version] = found
        return found

    def _newest(self, model: _Model) -> ModelVersion:
        ready = [v for v in model.versions.values() if v.state is VersionState.READY]
        candidates = ready or list(model.versions.values())
        if not candidates:
            why = model.error or "; ".join(model.broken.values())
            msg = f"Request for unknown model: '{model.name}' has no available versions: {why}"
            raise ModelLoadFailed(msg)
        return max(candidates, key=lambda v: v.ref.version)

    def _numbered(self, model: _Model, version: str) -> ModelVersion:
        if not VERSION.fullmatch(version):
            shown = version[:40]
            msg = f"failed to get model version from specified version string {shown!r}"
            raise InvalidRequest(msg)
        number = int(version)
        if number in model.versions:
            return model.versions[number]
        if number in model.broken:
            msg = (
                f"Request for unknown model: '{model.name}' version {number} is not at ready "
                f"state: {model.broken[number]}"
            )
            raise ModelLoadFailed(msg)
        known = ", ".join(str(n) for n in sorted(model.versions)) or "none"
        msg = (
            f"Request for unknown model: '{model.name}' version {number} is not found; "
            f"known versions: {known}"
        )
        raise ModelNotFound(msg)

    def version(self, ref: ModelRef) -> ModelVersion | None:
        """Return a version by its reference, for events about it."""
        model = self._models.get(ref.name)
        return model.versions.get(ref.version) if model is not None else None

    def versions(self, name: str = "") -> Iterator[ModelVersion]:
        """Yield every version that was read, or those of one model, in ascending order."""
        models = [self._models[name]] if name else self._models.values()
        for model in models:
            for _, version in sorted(model.versions.items()):
                yield version

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted(self._models)

    def index(self) -> list[IndexEntry]:
        """Return a line for every version, and one for every model without any.

        It works on copies, because the metrics page reads it from another thread.
        """
        entries = []
        for name, model in sorted(dict(self._models).items()):
            states = {
                number: (version.state, version.reason)
                for number, version in dict(model.versions).items()
            } | {n: (VersionState.UNAVAILABLE, why) for n, why in dict(model.broken).items()}
            for number, (state, reason) in sorted(states.items()):
                entries.append(IndexEntry(name, number, state, reason))
            if not states:
                state, reason = VersionState.UNAVAILABLE, model.error
                entries.append(IndexEntry(name, None, state, reason, model.wanted))
        return entries

    def all_ready(self) -> bool:
        """Whether every version that should be served can be."""
        return not self.missing()

    def missing(self) -> list[IndexEntry]:
        """Return what should be served and cannot be."""
        return [e for e in self.index() if e.wanted and e.state is not VersionState.READY]


def _unlabelled(signature: Signature) -> Signature:
    """Return what a worker needs of a signature: names of classes can be long, and are not."""
    outputs = tuple(dataclasses.replace(spec, labels=()) for spec in signature.outputs)
    return Signature(signature.inputs, outputs)
