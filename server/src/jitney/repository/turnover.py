"""How versions come and go: a new load beside the old one, and the old one when nobody needs it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from jitney.audit import NO_AUDIT
from jitney.errors import JitneyError, ModelError
from jitney.repository.audited import digest_of, event_of
from jitney.repository.handle import VersionState
from jitney.repository.preparing import unvetted
from jitney.repository.repository import UNLOADED
from jitney.repository.side_files import nothing_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.audit import Audit
    from jitney.execution.loading import Loader, LoadSpec
    from jitney.repository.handle import ModelVersion
    from jitney.repository.manifest import ModelManifest
    from jitney.repository.preparing import Candidate, Preparer, Source, Vet
    from jitney.repository.repository import Model, Repository
    from jitney.repository.side_files import ReadFile
    from jitney.telemetry.metrics import Metrics
    from jitney.types import ModelRef

__all__ = ["Turnover", "Wanted"]

log = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """A version that should be served; ``error`` says why its file cannot be.

    ``vet`` is asked whether the bytes of its file are those that were promised, and by whom.
    """

    version: int
    source: Source | None
    error: str | None = None
    vet: Vet = unvetted


class Turnover:
    """Brings versions in and takes them out, on one event loop.

    - A version that is served goes on being served until its new load can take its place, and for
      good where that fails. No request is lost, and none is answered by both.
    - What was taken out is unloaded when its last request has ended, at once if it has none.
    - A version whose file and configuration did not change is left alone.
    """

    def __init__(
        self,
        repository: Repository,
        preparer: Preparer,
        loader: Loader,
        say: Callable[[str], None],
        metrics: Metrics | None = None,
        audit: Audit = NO_AUDIT,
    ) -> None:
        """Do nothing yet.

        :param say: is told what the operator should see.
        :param audit: is told what is loaded and unloaded, with the digests of its files.
        """
        self.on_change: Callable[[], None] | None = None
        """Called after what may change which versions are ready, but what devices tell anyway."""
        self.on_retire: Callable[[ModelRef], None] | None = None
        """Called when a version takes no more requests, and answers those that it has."""
        self._repository = repository
        self._preparer = preparer
        self._loader = loader
        self._say = say
        self._metrics = metrics
        self._audit = audit
        self._served: dict[ModelRef, LoadSpec] = {}

    # -- coming ---------------------------------------------------------------------------------

    async def bring(
        self,
        model: Model,
        wanted: Sequence[Wanted],
        manifest: ModelManifest,
        read_warmup: ReadFile = nothing_to_read,
    ) -> dict[int, str]:
        """Serve these versions of a model, and no others once all of them are served.

        :returns: why, by number, for those that could not be loaded.
        """
        failures: dict[int, str] = {}
        for one in wanted:
            if (why := await self._bring_one(model, one, manifest, read_warmup)) is not None:
                failures[one.version] = why
        if not failures:
            self._keep_only(model, {one.version for one in wanted})
        self._changed()
        return failures

    async def _bring_one(
        self, model: Model, one: Wanted, manifest: ModelManifest, read_warmup: ReadFile
    ) -> str | None:
        ref = self._repository.new_ref(model.name, one.version)
        current = model.versions.get(one.version)
        try:
            if one.error is not None:
                raise ModelError(one.error)  # one place notes it
            # Reads and hashes the whole file, so not on the event loop.
            candidate = await asyncio.get_running_loop().run_in_executor(
                None, self._preparer.prepare, ref, one.source, manifest, read_warmup, one.vet
            )
        except JitneyError as error:
            self._say(f"{ref}: not loaded: {error}")
            self._count(ref, "failed")
            self._record(event_of(error), ref, why=str(error), sha256=digest_of(error))
            if not _is_served(current):
                self._drop_dead(current)
                model.broken[one.version] = str(error)
            return str(error)
        for warning in candidate.warnings:
            log.warning("model %s: %s", ref, warning)
        if current is not None and self._is_same(current, candidate):
            self._count(ref, "unchanged")
            self._record("model.unchanged", ref, sha256=current.digest)
            return None
        why = await self._load(candidate, current)
        self._count(ref, "loaded" if why is None else "failed")
        digest = candidate.handle.digest
        if why is None:
            devices = ",".join(sorted(candidate.handle.reports))
            facts = {"sha256": digest, "signer": candidate.signer, "devices": devices}
            self._record("model.load", ref, **facts)
        else:
            self._record("model.load_failed", ref, why=why, sha256=digest)
        return why

    def _is_same(self, current: ModelVersion, candidate: Candidate) -> bool:
        """Whether a load would change nothing: every device has exactly that."""
        served = self._served.get(current.ref)
        return (
            served is not None
            and current.state is VersionState.READY
            and set(candidate.spec.devices) <= set(current.reports)
            and current.digest == candidate.handle.digest
            and current.manifest == candidate.handle.manifest
            and served.options == candidate.spec.options
        )

    async def _load(self, candidate: Candidate, current: ModelVersion | None) -> str | None:
        """Load a version, and let it take the place of the load before; return why not."""
        handle, spec = candidate.handle, candidate.spec
        ref = handle.ref
        beside = _is_served(current)
        if not beside:
            self._drop_dead(current)
        self._repository.begin(handle, visible=not beside)
        self._served[ref] = spec
        self._say(f"{ref}: loading")
        outcomes = await self._loader.load(spec)
        reasons = []
        for device, outcome in outcomes.items():
            if isinstance(outcome, ModelError):
                handle.refused(device, str(outcome))
                reasons.append(str(outcome))
                self._say(f"{ref}: not loaded on {device}: {outcome}")
            else:
                self._say(
                    f"{ref}: ready on {device} after {outcome.load_seconds:.1f} s, "
                    f"{outcome.form} form"
                )
                for warning in outcome.warnings:
                    self._say(f"{ref}: note: {warning}")
        if len(reasons) == len(outcomes):
            if beside:
                self._say(f"{ref}: the version that was served before still is")
                self._drop(handle)
            return "; ".join(dict.fromkeys(reasons)) or "there is no device for it"
        if beside and (before := self._repository.show(handle)) is not None:
            self._say(f"{ref}: takes the place of the version before, which ends its requests")
            self._retire(before, "replaced")
        return None

    # -- going ----------------------------------------------------------------------------------

    def take_out(self, model: Model) -> None:
        """Serve a model no longer; its requests in flight are answered."""
        model.wanted = False
        model.error = ""
        model.gone.update(dict.fromkeys(model.broken, UNLOADED))
        self._keep_only(model, set())
        self._discard_vanished(model)
        self._changed()

    def _discard_vanished(self, model: Model) -> None:
        if model.vanished and not model.versions:
            self._repository.discard(model.name)

    def _keep_only(self, model: Model, numbers: set[int]) -> None:
        for number, version in list(model.versions.items()):
            if number in numbers or version.state is VersionState.UNLOADING:
                continue
            if version.state is VersionState.UNAVAILABLE:
                self._drop(version)
            else:
                self._retire(version, "not wanted any more")
        for number in set(model.broken) - numbers:
            del model.broken[number]

    def _retire(self, version: ModelVersion, why: str) -> None:
        """Unload a version once its last request has ended."""
        loop = asyncio.get_running_loop()

        def idle() -> None:
            # Not at once: the last request ends in the middle of its batch's end.
            loop.call_soon(self._drop, version)

        version.retire()
        self._record("model.unload", version.ref, why=why, sha256=version.digest)
        if self.on_retire is not None:
            self.on_retire(version.ref)
        if version.in_flight:
            self._say(f"{version.ref}: unloading, after {version.in_flight} requests in flight")
        version.when_idle(idle)

    def _drop(self, version: ModelVersion) -> None:
        """Unload a version now; idempotent."""
        ref = version.ref
        if self._repository.version(ref) is not version:
            return
        self._loader.unload(ref)
        self._repository.forget(ref)
        self._served.pop(ref, None)
        if self._metrics is not None:
            self._metrics.model_gone(ref)
        if version.state is VersionState.UNLOADING:
            self._say(f"{ref}: unloaded")
        if (model := self._repository.model(ref.name)) is not None:
            self._discard_vanished(model)
        self._changed()

    def _drop_dead(self, version: ModelVersion | None) -> None:
        """Unload a version that has nothing to answer any more.

        Not one that was taken out and is still answering: it goes by itself, with its last request.
        """
        if version is not None and version.state is not VersionState.UNLOADING:
            self._drop(version)

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def _record(self, event: str, ref: ModelRef, **facts: str) -> None:
        self._audit.record(event, model=ref.name, version=ref.version, load=ref.load, **facts)

    def _count(self, ref: ModelRef, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.model_loaded(ref, outcome)


def _is_served(version: ModelVersion | None) -> bool:
    """Whether callers may be using it: ready, or about to be again."""
    return version is not None and version.state in (VersionState.READY, VersionState.LOADING)
