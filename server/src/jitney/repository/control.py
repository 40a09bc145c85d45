"""Which models are served: what is found at the start, what callers ask for, what changes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from typing import TYPE_CHECKING, Final, TypeVar

from jitney.audit import NO_AUDIT
from jitney.errors import (
    BadOverride,
    ConfigError,
    ControlDisabled,
    Draining,
    JitneyError,
    LoadRefused,
    UnknownToLoad,
)
from jitney.repository.audited import FAILED
from jitney.repository.integrity import integrity_of
from jitney.repository.load_request import LoadRequest, check_name, failed, read_load_request
from jitney.repository.manifest import ModelManifest
from jitney.repository.name_locks import NameLocks
from jitney.repository.preparing import WARMUP_FOLDER
from jitney.repository.scan import FoundModel, FoundVersion, scan, scan_model, with_manifest
from jitney.repository.sights import Sight, look
from jitney.repository.triton.effective import effective_config
from jitney.repository.triton.override import overridden
from jitney.repository.turnover import Turnover, Wanted
from jitney.repository.wishes import NO_FILES, reader_in, wanted_of
from jitney.types import ModelRef
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from jitney.audit import Audit
    from jitney.config import RepositorySettings
    from jitney.execution.loading import Loader
    from jitney.repository.load_request import Value
    from jitney.repository.preparing import Preparer
    from jitney.repository.repository import Model, Repository
    from jitney.repository.uploads import Files
    from jitney.telemetry.metrics import Metrics

    T = TypeVar("T")

__all__ = ["ModelControl"]

log = logging.getLogger(__name__)

NOT_ALLOWED: Final = "explicit model load / unload is not allowed if polling is enabled"
"""Triton's words, for every mode but the explicit one."""
ALL: Final = "*"
"""In place of the names of models to load: all that there are."""
STOPPING: Final = "the server is shutting down"


class ModelControl:
    """Decides what is loaded and unloaded, and when; ``turnover.Turnover`` does it.

    - none: what is found at the start is served, and nothing changes any more;
    - poll: ``poll`` looks again; what is new is loaded, what is gone is unloaded, and what changed
      is loaded anew;
    - explicit: ``load`` and ``unload`` do what callers ask for.

    What concerns one model happens one after the other, in the order in which it was asked for;
    models do not wait for each other.
    """

    def __init__(
        self,
        repository: Repository,
        preparer: Preparer,
        loader: Loader,
        settings: RepositorySettings,
        say: Callable[[str], None],
        metrics: Metrics | None = None,
        audit: Audit = NO_AUDIT,
    ) -> None:
        """Look nowhere yet.

        :param say: is told what the operator should see.
        :raises ConfigError: when a key for signatures cannot be read.
        """
        self.turnover = Turnover(repository, preparer, loader, say, metrics, audit)
        self._audit = audit
        self._repository = repository
        self._preparer = preparer
        self._settings = settings
        self._roots = settings.model_repository
        self._integrity = integrity_of(settings)
        self._say = say
        self._locks = NameLocks()
        self._seen: dict[str, Sight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<ModelControl {self._settings.model_control_mode}, {self._repository!r}>"

    # -- at the start ---------------------------------------------------------------------------

    def find(self) -> None:
        """Look for models.

        :raises ConfigError: when a repository itself cannot be read.
        """
        self._seen = look(self._roots, self._integrity)
        for name in self._seen:
            self._repository.add(name)

    async def load_all(self, only: Sequence[str] | None = None) -> None:
        """Load, of every model that was found, the versions that its policy asks for.

        What cannot be loaded is noted with it.

        :param only: the names of models to load, or ``*``; all where it is None.
        :raises ConfigError: when one of these names was not found.
        """
        names = None if only is None or ALL in only else set(only)
        for name in names or ():
            if name not in self._seen:
                known = ", ".join(sorted(self._seen)) or "none"
                msg = f"--load-model: there is no model {name!r}; found are {known}"
                raise ConfigError(msg)
        for name, sight in self._seen.items():
            if names is None or name in names:
                await self._serve_found(sight.found)

    # -- what callers ask for -------------------------------------------------------------------

    async def load(self, name: str, parameters: Mapping[str, Value] | None = None) -> None:
        """Load a model, or load it anew; return when it is served.

        :param parameters: as ``load_request`` has them.
        :raises ControlDisabled: when callers may not do that.
        :raises InvalidRequest: when name or parameters make no sense.
        :raises LoadRefused: when it cannot be loaded; what was served before still is.
        :raises Draining: when the server begins, or began, to shut down.
        """
        self._ensure_allowed()
        check_name(name)
        request = read_load_request(name, parameters or {}, self._settings)
        if self._is_stopping:
            raise Draining(STOPPING)
        task = self._start(self._load_in_turn(name, request))
        try:
            # A caller who goes away leaves no half-done load behind: it comes to its end all the
            # same.
            await asyncio.shield(task)
        except asyncio.CancelledError:
            # gRPC would take it for the caller's, and leave a caller who waits without an answer.
            if task.cancelled():  # which only a stop does
                raise Draining(STOPPING) from None
            raise

    async def unload(self, name: str) -> None:
        """Serve a model no longer; its requests in flight are answered, but not waited for.

        Unknown names are no error, nor are those that are not loaded.

        :raises ControlDisabled: when callers may not do that.
        """
        self._ensure_allowed()
        if not self._locks.is_held(name):
            self._take_out(name)
            return
        # It is being loaded. That comes to its end first, but nobody waits for that here.
        self._start(self._unload_in_turn(name))

    async def refresh(self) -> None:
        """Note models that were put there, or taken away, and never loaded.

        Only in the explicit mode: the other modes serve what they know.

        :raises ConfigError: when a repository cannot be read.
        """
        if self._settings.model_control_mode != "explicit":
            return
        there = {found.name for found in await _in_thread(scan, self._roots, self._integrity)}
        for name in there - set(self._repository.names()):
            self._repository.add(name)
        for name in set(self._repository.names()) - there:
            model = self._repository.model(name)
            if model is not None and model.is_known_only and not self._locks.is_held(name):
                self._repository.discard(name)

    async def stop(self) -> None:
        """Begin no more loads, and end those that are under way: nobody would use them."""
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, JitneyError):
            log.error("a load or unload ended with a bug", exc_info=error)

    def _ensure_allowed(self) -> None:
        if self._settings.model_control_mode != "explicit":
            mode = self._settings.model_control_mode
            msg = f"{NOT_ALLOWED} (the server's --model-control-mode is {mode}, not explicit)"
            raise ControlDisabled(msg)

    async def _load_in_turn(self, name: str, request: LoadRequest) -> None:
        async with self._locks.hold(name):
            await self._load(name, request)

    async def _load(self, name: str, request: LoadRequest) -> None:
        if request.files:
            # What the repository has of that name has no part in it.
            versions = tuple(FoundVersion(number, None) for number in sorted(request.files))
            found: FoundModel | None = FoundModel(name, ModelManifest(), versions)
        else:
            try:
                found = await _in_thread(scan_model, self._roots, name, self._integrity)
            except ConfigError as error:
                log.warning("%s", error)  # it names folders of the operator's
                raise LoadRefused(failed(name, "it cannot be read")) from None
        if found is None:
            model = self._repository.model(name)
            if model is not None and model.is_known_only:
                self._repository.discard(name)
            raise UnknownToLoad(failed(name))
        self._record_request(name, request)
        if request.config is not None:
            found = await _in_thread(self._overridden, found, request)
        await self._serve(found, request.files)

    def _record_request(self, name: str, request: LoadRequest) -> None:
        """Tell the audit log what came with a load: it is in no folder."""
        for version, files in request.files.items():
            for file, data in files.items():
                digest = hashlib.sha256(data).hexdigest()
                self._audit.record(
                    "model.upload", model=name, version=version, file=file, sha256=digest
                )
        if request.config is not None:
            digest = hashlib.sha256(request.config.encode()).hexdigest()
            self._audit.record("config.model", model=name, sha256=digest, config=request.config)

    def _overridden(self, found: FoundModel, request: LoadRequest) -> FoundModel:
        """Return a model as it would be found if it were configured as a caller wants it."""
        base, text = found.manifest, request.config
        if base is None or text is None:
            return found
        try:
            wanted = wanted_of(found, base, self._integrity, request.files)
            effective = self._effective(found.name, base, wanted)
            manifest, warnings = overridden(
                base, effective, text, name=found.name, read_file=reader_in(found)
            )
            return with_manifest(found, manifest, warnings)
        except JitneyError as error:
            self._say(f"{found.name}: its configuration cannot be overridden: {error}")
            raise BadOverride(failed(found.name, str(error))) from None

    def _effective(
        self, name: str, manifest: ModelManifest, wanted: Sequence[Wanted]
    ) -> pb.ModelConfig:
        """Return what a configuration is merged into: all that is known without it."""
        try:
            last = wanted[-1]
            ref = ModelRef(name, last.version)
            return effective_config(self._preparer.prepare(ref, last.source, manifest).handle)
        except (JitneyError, IndexError):
            # Nothing but the override may say what it takes and gives.
            return pb.ModelConfig.FromString(manifest.config)

    async def _serve_found(self, found: FoundModel) -> None:
        with contextlib.suppress(LoadRefused):  # it is noted with the model
            await self._serve(found)

    async def _serve(self, found: FoundModel, files: Files = NO_FILES) -> None:
        name = found.name
        model = self._repository.add(name)
        model.wanted, model.vanished, model.error = True, False, ""
        for warning in found.warnings:
            log.warning("model %s: %s", name, warning)
        manifest = found.manifest
        if found.error is not None or manifest is None:
            self._audit.record(found.error_event, model=name, why=found.error)
            raise self._refused(model, found.error or "it cannot be read")
        wanted = await _in_thread(wanted_of, found, manifest, self._integrity, files)
        if not wanted:
            file = manifest.runtime.file
            why = f"no version found: put the model at <name>/<number>/{file}"
            self._audit.record(FAILED, model=name, why=why)
            raise self._refused(model, why)
        read_warmup = reader_in(found, WARMUP_FOLDER)
        failures = await self.turnover.bring(model, wanted, manifest, read_warmup)
        if failures:
            reasons = "; ".join(
                f"version {number} is at UNAVAILABLE state: {why}"
                for number, why in failures.items()
            )
            msg = f"failed to load '{name}', {reasons}"
            raise LoadRefused(msg)

    def _refused(self, model: Model, why: str) -> LoadRefused:
        self._say(f"{model.name}: {why}")
        if not model.versions:
            model.error = why
        return LoadRefused(failed(model.name, why))

    async def _unload_in_turn(self, name: str) -> None:
        async with self._locks.hold(name):
            self._take_out(name)

    def _take_out(self, name: str) -> None:
        model = self._repository.model(name)
        if model is not None and not model.is_known_only:
            self._say(f"{name}: unloading on request")
            self.turnover.take_out(model)

    # -- what changes ---------------------------------------------------------------------------

    async def poll(self) -> None:
        """Look again, and serve what is there now.

        A model that is being written just now may fail to load, which leaves the one before in its
        place, and is tried again when it has changed.
        """
        try:
            sights = await _in_thread(look, self._roots, self._integrity)
        except ConfigError as error:
            # Nothing is unloaded because a disk is away for a moment.
            log.warning("%s", error)
            return
        for name in set(self._repository.names()) - set(sights):
            self._seen.pop(name, None)
            async with self._locks.hold(name):
                self._vanish(name)
        for name, sight in sights.items():
            if self._seen.get(name) != sight:
                self._seen[name] = sight
                self._say(f"{name}: it changed, looking at it again")
                async with self._locks.hold(name):
                    await self._serve_found(sight.found)

    def _vanish(self, name: str) -> None:
        model = self._repository.model(name)
        if model is not None:
            self._say(f"{name}: unloading, it is not in the model repository any more")
            model.vanished = True
            self.turnover.take_out(model)


async def _in_thread(call: Callable[..., T], *arguments: object) -> T:
    """Run what reads files, or hashes them, beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, call, *arguments)
