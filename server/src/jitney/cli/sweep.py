"""Loading one model in a worker, as the server would, to see what its warm-up measures."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.cli.failure import CommandError
from jitney.clock import LoopClock
from jitney.config import RepositorySettings
from jitney.errors import ConfigError, ModelError
from jitney.execution.device_worker import WorkerLimits
from jitney.execution.discovery import choose_devices, cores, count_cuda_devices
from jitney.execution.link import WorkerCommand
from jitney.execution.pool import WorkerPool
from jitney.repository.control import ModelControl
from jitney.repository.preparing import Preparer
from jitney.repository.repository import Repository
from jitney.repository.scan import MODEL_FILE, safe_model_name
from jitney.repository.scan_policy import scan_policy_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jitney.config import Settings
    from jitney.errors import JitneyError
    from jitney.execution.executor import Completion
    from jitney.execution.loading import LoadSpec
    from jitney.load_options import LoadOptions
    from jitney.load_report import LoadReport
    from jitney.scheduling.batch import Batch
    from jitney.types import ModelRef

__all__ = ["Swept", "located", "sweep"]

STOP_TIMEOUT: Final = 5.0
VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Swept:
    """A version that was loaded, the device with a few words about it, and what was found."""

    ref: ModelRef
    device: str
    description: str
    report: LoadReport


@contextmanager
def located(model: str, roots: Sequence[Path]) -> Iterator[tuple[tuple[Path, ...], str]]:
    """Give the repositories in which a model is, and its name there.

    :param model: a name in ``roots``, a model's folder, or a file. A file becomes the only model of
        a temporary repository, with the configuration that stands where a repository has it.
    :raises ConfigError: when it is neither a name nor there.
    """
    path = Path(model)
    if path.is_file():
        with tempfile.TemporaryDirectory(prefix="jitney-profile-") as folder:
            yield (Path(folder),), _copied(path.resolve(), Path(folder))
    elif path.is_dir():
        path = path.resolve()
        yield (path.parent,), path.name
    elif "/" in model or model.endswith(".pt"):
        msg = f"{model}: there is no such file or folder"
        raise ConfigError(msg)
    else:
        yield tuple(roots), model


def _copied(file: Path, root: Path) -> str:
    """Copy a file into an empty repository; return the name of its model there."""
    folder, version, name = file.parent.parent, "1", file.stem
    configured = file.name == MODEL_FILE and VERSION.match(file.parent.name) is not None
    if configured:
        version, name = file.parent.name, folder.name
    if not safe_model_name(name):
        name = "model"
    target = root / name / version
    target.mkdir(parents=True)
    shutil.copyfile(file, target / MODEL_FILE)
    # What configures it, and whatever that names: lists of labels, samples to warm up with.
    for beside in folder.iterdir() if configured else ():
        if beside.is_file():
            shutil.copyfile(beside, root / name / beside.name)
        elif beside.name == "warmup" and beside.is_dir():
            shutil.copytree(beside, root / name / beside.name)
    return name


async def sweep(
    model: str,
    settings: Settings,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    tune: Callable[[LoadOptions], LoadOptions],
) -> list[Swept]:
    """Load the versions of a model that a server would serve, onto its first device.

    :param model: as ``located`` takes it.
    :param tune: what to change of how a version is loaded.
    :raises ConfigError: when there is no such model, or none that runs in a worker.
    :raises CommandError: when it cannot be loaded.
    """
    devices = settings.devices
    name = choose_devices(devices.device, lambda: count_cuda_devices(environment))[0]
    clock = LoopClock(asyncio.get_running_loop())
    command = WorkerCommand(
        name,
        environment,
        threads=devices.cpu_threads or cores(),
        slots=devices.slots,
        slot_bytes=devices.slot_bytes,
    )
    limits = WorkerLimits(devices.start_timeout_seconds, devices.load_timeout_seconds)
    pool = WorkerPool([command], clock, limits)
    with located(model, settings.repository.model_repository) as (roots, name_there):
        loader = _TunedLoader(pool, tune)
        repository = Repository()
        scan = scan_policy_of(settings.repository)
        preparer = Preparer(settings.batching, devices.slot_bytes, [name], say, clock.now, scan)
        place = RepositorySettings(model_repository=tuple(roots))
        control = ModelControl(repository, preparer, loader, place, say)
        control.find()
        if name_there not in repository.names():
            known = ", ".join(repository.names()) or "none"
            msg = f"there is no model {name_there!r} in the repository; found are {known}"
            raise ConfigError(msg)
        try:
            await pool.launch(_Nobody())
            _ensure_up(pool)
            await control.load_all([name_there])
            description = pool.statistics()[0].description
        finally:
            await pool.stop(STOP_TIMEOUT)
            clock.close()
    if loader.is_builtin:
        msg = f"{name_there} is built into the server: there is no model to measure"
        raise ConfigError(msg)
    if not loader.reports:
        reasons = [*loader.errors, *(entry.reason for entry in repository.index() if entry.wanted)]
        msg = f"{name_there} cannot be loaded: {reasons[0] if reasons else 'no version found'}"
        raise CommandError(msg)
    return [Swept(ref, name, description, report) for ref, report in loader.reports.items()]


def _ensure_up(pool: WorkerPool) -> None:
    device = pool.statistics()[0]
    if device.state == "failed":
        msg = f"the device {device.name} cannot be used: {device.reason}"
        raise CommandError(msg)


class _TunedLoader:
    """A ``Loader`` that changes what is asked for, and keeps what came of it."""

    def __init__(self, pool: WorkerPool, tune: Callable[[LoadOptions], LoadOptions]) -> None:
        self.reports: dict[ModelRef, LoadReport] = {}
        self.errors: list[str] = []
        self.is_builtin = False
        self._pool = pool
        self._tune = tune

    async def load(self, spec: LoadSpec) -> dict[str, LoadReport | ModelError]:
        """Load a version, differently."""
        self.is_builtin |= spec.builtin is not None
        outcomes = await self._pool.load(replace(spec, options=self._tune(spec.options)))
        for outcome in outcomes.values():
            if isinstance(outcome, ModelError):
                self.errors.append(str(outcome))
            else:
                self.reports[spec.ref] = outcome
        # The next one is measured alone on the device.
        self._pool.unload(spec.ref)
        return outcomes

    def unload(self, ref: ModelRef) -> None:
        """Drop a version, which happened already."""
        self._pool.unload(ref)


class _Nobody:
    """A ``Listener`` who does not mind: there are no batches, and loads are waited for."""

    def completed(self, batch: Batch, completion: Completion) -> None:
        """Do nothing."""

    def produced(self, batch: Batch, completion: Completion) -> None:
        """Do nothing."""

    def detached(self, batch: Batch, completion: Completion) -> None:
        """Do nothing."""

    def device_up(self, device: str) -> None:
        """Do nothing."""

    def device_loading(self, device: str, *, loading: bool) -> None:
        """Do nothing: no batches are waiting."""

    def device_down(self, device: str, back_in: float = 0.0) -> None:
        """Do nothing."""

    def device_failed(self, device: str, why: str) -> None:
        """Do nothing."""

    def model_loaded(self, device: str, model: ModelRef, report: LoadReport) -> None:
        """Do nothing."""

    def model_refused(self, device: str, model: ModelRef, error: JitneyError) -> None:
        """Do nothing."""

    def model_gone(self, device: str, model: ModelRef) -> None:
        """Do nothing."""
