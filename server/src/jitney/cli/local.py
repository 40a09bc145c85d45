"""A model in workers of this command: the parts of a server, without sockets, for one caller."""

from __future__ import annotations

import asyncio
import math
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.admission import Admission
from jitney.app import worker_commands
from jitney.cli.failure import CommandError
from jitney.cli.sweep import located
from jitney.clock import LoopClock
from jitney.engine import Engine
from jitney.errors import ConfigError, DeadlineExpired, JitneyError, Overloaded
from jitney.execution.builtin import BuiltinExecutor
from jitney.execution.device_worker import WorkerLimits
from jitney.execution.executors import Executors
from jitney.execution.pool import WorkerPool
from jitney.repository.control import ModelControl
from jitney.repository.handle import VersionState
from jitney.repository.preparing import Preparer
from jitney.repository.repository import Repository
from jitney.repository.scan_policy import scan_policy_of
from jitney.scheduling.policy import Policy, PolicySettings
from jitney.scheduling.scheduler import Scheduler
from jitney.telemetry.metrics import Metrics
from jitney.telemetry.pulse import Pulse
from jitney.transport import describe
from jitney.transport.codec import Codec
from jitney.transport.status import CODES, Statuses, text_of
from jitney_client.caller import METHODS
from jitney_client.connection import Connection
from jitney_client.core import Core
from jitney_client.protocol import inference as pb
from jitney_client.statuses import error_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager
    from typing import Any, Unpack

    from jitney.config import Settings
    from jitney.repository.handle import ModelVersion
    from jitney_client import InferOptions, InferResult

__all__ = ["LocalModel", "local_model"]

STOP_TIMEOUT: Final = 5.0
NAMES: Final = {method.path: name for name, method in METHODS.items()}


@asynccontextmanager
async def local_model(
    name: str, place: str, settings: Settings, say: Callable[[str], None], patience: float
) -> AsyncIterator[LocalModel]:
    """Load a model onto the devices of the settings, and give it.

    :param place: a repository that has a model of that name, the model's own folder, or its file.
    :param patience: seconds that a call may take.
    :raises ConfigError: when there is no such model.
    :raises CommandError: when it cannot be loaded, or no device can be used.
    """
    with _found(name, Path(place)) as (folders, there):
        repository = replace(settings.repository, model_repository=tuple(folders))
        parts = _Parts(replace(settings, repository=repository), say)
        try:
            await parts.start(there)
            yield LocalModel(parts, there, patience)
        finally:
            await parts.stop()


def _found(name: str, place: Path) -> AbstractContextManager[tuple[tuple[Path, ...], str]]:
    """Return the repositories in which the model is, and its name there."""
    if (place / name).is_dir():
        return located(name, (place,))
    if not place.exists():
        msg = f"--local {place}: there is no such folder or file"
        raise ConfigError(msg)
    return located(str(place), ())


class _Parts:
    """What a server has between its sockets and its devices."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self.clock = LoopClock(asyncio.get_running_loop())
        devices, metrics = settings.devices, Metrics()
        commands = worker_commands(devices, os.environ)
        limits = WorkerLimits(
            start_timeout=devices.start_timeout_seconds,
            load_timeout=devices.load_timeout_seconds,
            batch_timeout=devices.batch_timeout_seconds,
            max_restarts=devices.max_restarts,
            batch_timeout_factor=devices.batch_timeout_factor,
        )
        self.pool = WorkerPool(commands, self.clock, limits)
        self.executors = Executors(self.pool, BuiltinExecutor(self.clock))
        overhead = settings.batching.max_overhead_ratio
        policy = Policy(PolicySettings(max_overhead=overhead))
        scheduler = Scheduler(policy, self.executors, self.clock, metrics)
        self.repository = Repository()
        names = [command.device for command in commands]
        scan = scan_policy_of(settings.repository)
        preparer = Preparer(settings.batching, devices.slot_bytes, names, say, self.clock.now, scan)
        self.control = ModelControl(
            self.repository, preparer, self.executors, settings.repository, say
        )
        admission = Admission(settings.limits)
        self.engine = Engine(self.repository, scheduler, admission, self.clock, metrics)
        self.pulse = Pulse(self.clock, metrics, policy.refresh)
        self.codec = Codec(max_message_bytes=settings.max_message_bytes)

    async def start(self, model: str) -> None:
        """Start the workers, and load a model.

        :raises ConfigError: when there is no such model.
        :raises CommandError: when it cannot be loaded.
        """
        self.control.find()
        if model not in self.repository.names():
            known = ", ".join(self.repository.names()) or "none"
            msg = f"there is no model {model!r} in the repository; found are {known}"
            raise ConfigError(msg)
        await self.executors.launch(self.engine)
        if failed := [d for d in self.pool.statistics() if d.state == "failed"]:
            msg = f"the device {failed[0].name} cannot be used: {failed[0].reason}"
            raise CommandError(msg)
        await self.control.load_all([model])
        versions = list(self.repository.versions(model))
        if not any(version.state is VersionState.READY for version in versions):
            reasons = [entry.reason for entry in self.repository.index() if entry.name == model]
            msg = f"{model} cannot be loaded: {next(filter(None, reasons), 'no version found')}"
            raise CommandError(msg)
        self.pulse.start()

    async def stop(self) -> None:
        """End the workers."""
        self.pulse.stop()
        await self.control.stop()
        await self.executors.stop(STOP_TIMEOUT)
        self.clock.close()


class LocalModel:
    """The calls of a client that scoring needs, to a model in this process (a ``Endpoint``).

    Requests take the same way as from a client on another machine, but for gRPC: so they are
    checked alike, batched alike, and fail with the same errors.
    """

    def __init__(self, parts: _Parts, name: str, timeout: float) -> None:
        self.name = name
        connection = Connection.to(
            "unix:here", {"timeout": timeout, "retries": None, "shared_memory": False}
        )
        self._core = Core(_Here(parts), connection)

    async def infer(
        self,
        model: str,
        inputs: Any,  # noqa: ANN401  # the client's Inputs
        **options: Unpack[InferOptions],
    ) -> InferResult:
        """Run the model once."""
        return await self._core.infer(model, inputs, options)

    async def metadata(self, model: str, *, version: str = "") -> pb.ModelMetadataResponse:
        """Return the names, datatypes and shapes of its inputs and outputs."""
        return await self._core.metadata(model, version, None)

    async def config(self, model: str, *, version: str = "") -> pb.ModelConfig:
        """Return its configuration."""
        return await self._core.config(model, version, None)


class _Here:
    """A client's transport that ends in this process."""

    def __init__(self, parts: _Parts) -> None:
        self._parts = parts
        self._statuses = Statuses()

    async def call(
        self,
        path: str,
        message: bytes,
        timeout: float | None,  # noqa: ASYNC109  # gRPC's, as in every transport of a client
        metadata: object,
    ) -> bytes:
        """Answer a call, from bytes to bytes.

        :raises jitney_client.JitneyError: when it fails.
        """
        del metadata  # on whose behalf it is makes no difference here
        deadline = math.inf if timeout is None else self._parts.clock.now() + timeout
        try:
            async with asyncio.timeout(timeout):
                return await self._answer(NAMES[path], message, deadline)
        except TimeoutError:
            raise error_of(CODES[DeadlineExpired], f"no answer within {timeout:g} s") from None
        except JitneyError as error:
            advice = error.retry_after if isinstance(error, Overloaded) else None
            raise error_of(
                self._statuses.code_of(error),
                text_of(error),
                reason=error.reason,
                retry_after=advice,
            ) from None

    async def _answer(self, name: str, message: bytes, deadline: float) -> bytes:
        parts = self._parts
        if name == "ModelInfer":
            reply: Any = await parts.engine.infer(parts.codec.decode(message, deadline))
            return reply  # type: ignore[no-any-return]  # our codec's reply
        if name == "ModelMetadata":
            request = pb.ModelMetadataRequest.FromString(message)
            version = self._ready(request.name, request.version)
            versions = [
                v.ref.version
                for v in parts.repository.versions(request.name)
                if v.state is VersionState.READY
            ]
            return describe.metadata(version, versions).SerializeToString()
        asked = pb.ModelConfigRequest.FromString(message)
        config = describe.config(self._ready(asked.name, asked.version))
        return pb.ModelConfigResponse(config=config).SerializeToString()

    def _ready(self, name: str, version: str) -> ModelVersion:
        found = self._parts.repository.resolve(name, version)
        found.ensure_ready()
        return found

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
