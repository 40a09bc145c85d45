"""The composition root: builds the graph, starts it inner to outer, drains it outer to inner."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney import __version__, access
from jitney.admission import Admission
from jitney.audit import NO_AUDIT, AuditLog
from jitney.clock import LoopClock
from jitney.engine import Engine
from jitney.errors import ConfigError, DeviceFailed, ListenerFailed
from jitney.execution.builtin import BuiltinExecutor
from jitney.execution.device_worker import WorkerLimits
from jitney.execution.discovery import choose_devices, cores, count_cuda_devices
from jitney.execution.executors import Executors
from jitney.execution.link import WorkerCommand
from jitney.execution.pool import WorkerPool
from jitney.overview import Overview
from jitney.repository.control import ModelControl
from jitney.repository.polling import Poller
from jitney.repository.preparing import Preparer
from jitney.repository.repository import Repository
from jitney.repository.scan_policy import scan_policy_of
from jitney.scheduling.policy import Policy, PolicySettings
from jitney.scheduling.scheduler import Scheduler
from jitney.telemetry.audit_readings import audit_readings
from jitney.telemetry.exposition import MetricsPage
from jitney.telemetry.gpu import Gpus
from jitney.telemetry.host import Host
from jitney.telemetry.logs import LogControl, initial
from jitney.telemetry.metrics import Metrics
from jitney.telemetry.open_spans import open_spans
from jitney.telemetry.pulse import Pulse
from jitney.telemetry.reading import Reading
from jitney.telemetry.tracing import TraceFile, Tracer
from jitney.telemetry.triton_page import TritonPage
from jitney.telemetry.worker_output import WorkerOutput
from jitney.transport.codec import Codec
from jitney.transport.describe import extensions
from jitney.transport.doors import Doors
from jitney.transport.forwarding import MetadataForwarder
from jitney.transport.health import HealthReporter
from jitney.transport.inference import CallRules, InferenceRpcs
from jitney.transport.listeners import Listeners
from jitney.transport.repository_rpcs import RepositoryRpcs
from jitney.transport.servicer import Identity, InferenceServicer
from jitney.transport.settings_rpcs import SettingsRpcs
from jitney.transport.shared_memory import RegionRegistry
from jitney.transport.shared_memory.rpcs import SharedMemoryRpcs
from jitney.transport.status import Statuses
from jitney.transport.stream import StreamLimits
from jitney.transport.tenant import name_of_caller, tenant_reader
from jitney.triton_sources import TritonSources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jitney.audit import Audit
    from jitney.config import DeviceSettings, Settings, TelemetrySettings

__all__ = ["Server", "worker_commands"]

log = logging.getLogger(__name__)

WORKER_STOP_TIMEOUT: Final = 5.0
REPLY_GRACE: Final = 0.5
"""Seconds that replies may take to leave once the last one is made."""


class Server:
    """Everything that one server process has, wired together.

    ``start`` goes from the inside out: workers, models, then the sockets. ``stop`` goes from the
    outside in. Both may be called once.
    """

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        commands: Sequence[WorkerCommand] = (),
    ) -> None:
        """Start nothing yet.

        :param commands: the workers; none for those of the devices that the settings name.
        """
        self.settings = settings
        loop = asyncio.get_running_loop()
        clock = self._clock = LoopClock(loop)
        devices = settings.devices
        commands = commands or worker_commands(devices, environment)
        self.worker_output = WorkerOutput()
        for command in commands:
            command.output = self.worker_output.open
        names = [command.device for command in commands]
        say(f"devices: {', '.join(names)}")
        limits = WorkerLimits(
            start_timeout=devices.start_timeout_seconds,
            load_timeout=devices.load_timeout_seconds,
            batch_timeout=devices.batch_timeout_seconds,
            max_restarts=devices.max_restarts,
            batch_timeout_factor=devices.batch_timeout_factor,
            spares=devices.spare_workers,
            wait_for_worker=devices.wait_for_worker_seconds,
        )
        self.metrics = Metrics()
        self.tracing = open_spans(settings.telemetry, clock, self.metrics, __version__)
        self._audit_log = _open_audit(settings.telemetry)
        self.audit: Audit = self._audit_log or NO_AUDIT
        self.pool = WorkerPool(commands, clock, limits)
        self.executors = Executors(self.pool, BuiltinExecutor(clock))
        self.policy = Policy(
            PolicySettings(
                max_overhead=settings.batching.max_overhead_ratio,
                tenant_weights=settings.limits.weights,
            )
        )
        self.scheduler = Scheduler(self.policy, self.executors, clock, self.metrics)
        self.repository = Repository(self.audit)
        scan = scan_policy_of(settings.repository)
        preparer = Preparer(settings.batching, devices.slot_bytes, names, say, clock.now, scan)
        self.control = ModelControl(
            self.repository,
            preparer,
            self.executors,
            settings.repository,
            say,
            self.metrics,
            self.audit,
        )
        self.poller = Poller(clock, self.control.poll, settings.repository.repository_poll_seconds)
        self.admission = Admission(settings.limits)
        self.engine = Engine(self.repository, self.scheduler, self.admission, clock, self.metrics)
        self.control.turnover.on_retire = self.engine.retired
        self.pulse = Pulse(clock, self.metrics, self._look, self._beat)
        self.overview = Overview(
            self.repository,
            self.executors,
            self.engine,
            self.policy,
            self.admission,
            self.pulse,
            clock,
            strict_readiness=settings.repository.strict_readiness,
        )
        self.health = HealthReporter(self.overview)
        self.hopeless = asyncio.Event()
        """Set when the last device was given up, or a port takes no more calls."""
        statuses = Statuses(compat=settings.server.triton_compat)
        self.doors = Doors(settings, statuses, self.metrics, self.audit, clock)
        self.listeners = Listeners(
            settings, clock, self.metrics, statuses, self.audit, lambda: self.admission.nbytes
        )
        self.listeners.on_failure = self.hopeless.set
        self.listeners.offer(self._servicer(settings, statuses), self.health, self.doors)
        self.page: MetricsPage | None = None
        self._say = say

    def _servicer(self, settings: Settings, statuses: Statuses) -> InferenceServicer:
        limits, compat = settings.limits, settings.server.triton_compat
        pattern = settings.server.forward_metadata
        rules = CallRules(
            statuses,
            StreamLimits(limits.max_stream_requests, limits.max_stream_bytes),
            name_of_caller
            if limits.tenant_from == "principal"
            else tenant_reader(limits.tenant_metadata_key),
            MetadataForwarder(pattern) if pattern else None,
            self.doors.gate,
            self.listeners.unread,
            self.tracing.spans if self.tracing is not None else None,
        )
        regions = RegionRegistry(
            enabled=settings.server.allow_client_shm,
            prefix=settings.server.client_shm_prefix,
            max_regions=limits.max_shm_regions,
            max_bytes=limits.max_shm_bytes,
        )
        codec = Codec(regions, settings.max_message_bytes)
        inference = InferenceRpcs(self.engine, codec, self._clock, self.metrics, rules)
        path = settings.telemetry.trace_file
        tracer = Tracer(self.engine.on_end, TraceFile(Path(path) if path else None))
        logs = LogControl(logging.getLogger(), initial(settings.telemetry.log_level))
        offered = extensions(
            control=settings.repository.model_control_mode == "explicit",
            shared_memory=settings.server.allow_client_shm,
        )
        return InferenceServicer(
            Identity("triton" if compat else "jitney", __version__, offered),
            inference,
            self.repository,
            self.overview,
            self.metrics,
            statuses,
            {
                **SettingsRpcs(tracer, logs, self.repository.names, self.audit).handlers(),
                **SharedMemoryRpcs(regions, self.audit).handlers(),
                **RepositoryRpcs(self.control, self.repository).handlers(),
            },
        )

    async def start(self) -> None:
        """Start workers, load models, then open the sockets.

        :raises ConfigError: when a setting turns out to be impossible.
        """
        settings = self.settings
        self.audit.record("server.start", version=__version__, pid=os.getpid())
        if self._audit_log is not None:
            for reading in audit_readings(self._audit_log.statistics):
                self.metrics.add_reading(reading)
        self.control.find()  # before anything slow: a wrong folder is the commonest mistake
        for reading in (
            *self.overview.readings(),
            *self.listeners.readings(),
            *self.doors.readings(),
            self._build_info(),
        ):
            self.metrics.add_reading(reading)
        if settings.telemetry.metrics:
            self._open_page()
        self.health.update()
        await self.listeners.open_health()
        self._say("starting a worker per device (it imports torch, which takes a few seconds)")
        await self.executors.launch(self.engine)
        self.ensure_a_device()
        explicit = settings.repository.model_control_mode == "explicit"
        wanted = [name for name in settings.repository.load_model.split(",") if name]
        await self.control.load_all(wanted if explicit else None)
        missing = self.repository.missing()
        if missing and settings.repository.exit_on_error:
            reasons = "; ".join(f"{e.name}: {e.reason}" for e in missing)
            msg = f"--exit-on-error: {reasons}"
            raise ConfigError(msg)
        self.pulse.start()
        self.engine.on_readiness(self._readiness_changed)
        self.control.turnover.on_change = self._readiness_changed
        if settings.repository.model_control_mode == "poll":
            self.poller.start()
        self.overview.serving = True
        self.health.update()  # before anybody can ask
        self.doors.start()
        await self.listeners.start()
        # What exists now stays: the collector need not walk it again and again.
        gc.freeze()

    def ensure_a_device(self) -> None:
        """Do nothing while there are ports, and a device that may come back.

        :raises ListenerFailed: when a port stopped taking calls.
        :raises DeviceFailed: when all were given up, which ends the process with an error.
        """
        if self.listeners.failed:
            msg = "a port stopped taking calls; the log says why"
            raise ListenerFailed(msg)
        failed = [d for d in self.pool.statistics() if d.state == "failed"]
        if len(failed) == len(self.pool.statistics()):
            reasons = "; ".join(f"{d.name}: {d.reason}" for d in failed)
            msg = f"no device can be used: {reasons}"
            raise DeviceFailed(msg)

    def _open_page(self) -> None:
        server = self.settings.server
        try:
            sources = TritonSources(self.repository, self.overview, self.pool, Host(), Gpus())
            triton = TritonPage(self.metrics, sources)
            certificates, authority = self.listeners.certificates, self.doors.authority
            self.page = MetricsPage(
                self.metrics,
                triton,
                server.page_host,
                server.metrics_port,
                context=certificates.context if certificates and server.page_tls else None,
                may_read=authority.may_read_metrics if authority else None,
            )
        except OSError as error:
            msg = (
                f"cannot serve metrics on {server.page_host}:{server.metrics_port}: "
                f"{error.strerror} "
                "(--metrics-port takes another port, 0 any free one)"
            )
            raise ConfigError(msg) from None

    def _beat(self) -> None:
        self.listeners.beat()

    def _look(self, now: float) -> None:
        self.policy.refresh(now)
        self.listeners.look()

    def _readiness_changed(self) -> None:
        self.health.refresh()
        probing = self.settings.devices.on_last_device_lost == "probe"
        if not probing and all(device.state == "failed" for device in self.pool.statistics()):
            self.hopeless.set()

    def _build_info(self) -> Reading:
        labels = ("version", "python", "torch")
        values = (__version__, platform.python_version(), metadata.version("torch"))
        return Reading(
            "jitney_build_info", "Constant 1; the labels tell.", labels, lambda: [(values, 1)]
        )

    async def stop(self, forced: asyncio.Event) -> None:
        """Drain and end; ``forced`` cuts every wait short.

        1. say NOT_SERVING; 2. go on serving while balancers notice; 3. refuse new requests;
        4. let what waits leave without waiting for company, and finish; 5. refuse what still
        waits; 6. close the sockets; 7. end the workers; 8. end the audit log.
        """
        self.audit.record("server.stop", forced=forced.is_set())
        server = self.settings.server
        self.overview.serving = False
        self.health.stop()
        await self.poller.stop()
        await self.doors.stop()
        await self.control.stop()
        await _either(forced, server.drain_delay)
        idle = asyncio.Event()
        self.engine.drain(idle.set)
        # What was accepted decides, not what is connected: health watchers never end by themselves.
        waits = [asyncio.ensure_future(event.wait()) for event in (idle, forced)]
        await asyncio.wait(
            waits, timeout=server.drain_timeout_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for wait in waits:
            wait.cancel()
        if refused := self.engine.refuse_rest():
            log.warning("%d requests still waited at the end of the drain, refused", refused)
        if running := self.admission.requests:
            log.warning("%d requests still ran at the end of the drain, cut off", running)
        await self.listeners.stop(0 if forced.is_set() else REPLY_GRACE)
        self.pulse.stop()
        self.repository.audit = NO_AUDIT  # workers that are told to end are not lost
        await self.executors.stop(0 if forced.is_set() else WORKER_STOP_TIMEOUT)
        self.worker_output.close()
        if self.tracing is not None:
            self.tracing.sender.close()
        if self.page is not None:
            self.page.close()
        self._clock.close()
        if self._audit_log is not None:
            self.audit.record("server.stopped")
            await asyncio.to_thread(self._audit_log.close)


def _open_audit(telemetry: TelemetrySettings) -> AuditLog | None:
    """Return the audit log that the settings name.

    :raises ConfigError: when its file cannot be written.
    """
    if not telemetry.audit_file:
        return None
    return AuditLog(
        Path(telemetry.audit_file),
        max_bytes=telemetry.audit_max_bytes,
        sync=telemetry.audit_sync,
        anchor_seconds=telemetry.audit_anchor_seconds,
        who=lambda: access.current().name,
    )


def worker_commands(devices: DeviceSettings, environment: Mapping[str, str]) -> list[WorkerCommand]:
    """Return how to start a worker for each device that the settings name.

    :raises ConfigError: when one of them is not there.
    """
    names = choose_devices(devices.device, lambda: count_cuda_devices(environment))
    threads = devices.cpu_threads or max(1, cores() // len(names))
    return [
        WorkerCommand(
            name,
            environment,
            threads=threads,
            slots=devices.slots,
            slot_bytes=devices.slot_bytes,
            poll_microseconds=devices.poll_microseconds,
            confinement=devices.worker_confinement,
            paths=devices.worker_paths,
        )
        for name in names
    ]


async def _either(event: asyncio.Event, seconds: float) -> None:
    if seconds > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)
