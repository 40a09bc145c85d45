"""A loader that loads nothing, and model folders for it: all that changes is what is noted."""

from __future__ import annotations

import asyncio
import io
import zipfile
from typing import TYPE_CHECKING

from model_versions import report

from jitney.config import BatchingSettings, RepositorySettings
from jitney.errors import ModelError
from jitney.repository.control import ModelControl
from jitney.repository.preparing import Preparer
from jitney.repository.repository import Repository
from jitney.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

    from jitney.execution.loading import LoadSpec
    from jitney.load_report import LoadReport
    from jitney.types import ModelRef

IDENTITY = """
[builtin]
handler = "identity"
{parameters}
[[input]]
name = "x"
datatype = "FP32"
shape = ["N", 4]
[[output]]
name = "y"
datatype = "FP32"
shape = ["N", 4]
"""
"""A model without a file; ``delay`` makes it another one."""

TENSORS = """
[[input]]
name = "x"
datatype = "FP32"
shape = ["N", 4]
[[output]]
name = "y"
datatype = "FP32"
shape = ["N", 4]
"""


def identity(delay: int = 0) -> str:
    """Return the ``model.toml`` of a built-in model."""
    return IDENTITY.format(parameters=f'parameters = {{ execute_delay_ms = "{delay}" }}')


def model_bytes(salt: str = "") -> bytes:
    """Return a file that passes for TorchScript as long as nobody loads it."""
    root = b"\x80\x02c__torch__.zoo\nNet\nq\x00)\x81}(ub."
    code = (
        "class Net(Module):\n  def forward(self: __torch__.zoo.Net,\n"
        f"    x: Tensor) -> Tensor:\n    return x\n# {salt}\n"
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (
            ("data.pkl", root),
            ("code/__torch__/zoo.py", code),
            ("constants.pkl", b"\x80\x02)."),
            ("version", "3\n"),
        ):
            archive.writestr(f"net/{name}", content)
    return buffer.getvalue()


def write_model(root: Path, name: str, *versions: int, toml: str = TENSORS, salt: str = "") -> None:
    """Write a model's folder, or write over it."""
    for version in versions:
        folder = root / name / str(version)
        folder.mkdir(parents=True, exist_ok=True)
        # In one step, as whoever deploys a model should.
        (folder / "new").write_bytes(model_bytes(salt))
        (folder / "new").rename(folder / "model.pt")
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / "model.toml").write_text(toml)


class FakeLoader:
    """A ``Loader`` whose devices tell the repository what the test wants.

    ``refusals`` are texts by model name; ``gates`` are what a load of that name waits for.
    """

    def __init__(self, repository: Repository, *devices: str) -> None:
        self.loaded: list[ModelRef] = []
        self.unloaded: list[ModelRef] = []
        self.specs: list[LoadSpec] = []
        self.refusals: dict[str, str] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.begun = asyncio.Event()
        self._repository = repository
        self._devices = devices

    async def load(self, spec: LoadSpec) -> dict[str, LoadReport | ModelError]:
        """Load a version onto its devices."""
        self.specs.append(spec)
        self.begun.set()
        if (gate := self.gates.get(spec.ref.name)) is not None:
            await gate.wait()
        outcomes: dict[str, LoadReport | ModelError] = {}
        for device in spec.devices or self._devices:
            if (why := self.refusals.get(spec.ref.name)) is not None:
                outcomes[device] = error = ModelError(why)
                self._repository.model_refused(device, spec.ref, error)
            else:
                if spec.builtin is None:
                    spec.open().__exit__(None, None, None)
                outcomes[device] = report(spec.options.max_batch_size)
                self._repository.model_loaded(device, spec.ref, report(8))
                self.loaded.append(spec.ref)
        return outcomes

    def unload(self, ref: ModelRef) -> None:
        """Drop a version."""
        self.unloaded.append(ref)


class Bench:
    """A model control over a folder, a fake loader, and all that the operator was told."""

    def __init__(
        self, root: Path, mode: str = "explicit", *, uploads: bool = False, devices: str = "cpu"
    ) -> None:
        names = devices.split(",")
        self.root = root
        self.said: list[str] = []
        self.metrics = Metrics()
        self.repository = Repository()
        self.loader = FakeLoader(self.repository, *names)
        settings = RepositorySettings(
            (root,), mode, allow_model_uploads=uploads, max_upload_bytes=1 << 16
        )
        preparer = Preparer(BatchingSettings(), 1 << 20, names, self.said.append, lambda: 0.0)
        self.control = ModelControl(
            self.repository, preparer, self.loader, settings, self.said.append, self.metrics
        )

    def states(self, name: str = "") -> dict[str, str]:
        """Return the state of every version, or of those of one model, as the index has it."""
        return {
            entry.name if entry.version is None else f"{entry.name}/{entry.version}": (
                f"{entry.state.value} {entry.reason}".strip()
            )
            for entry in self.repository.index()
            if name in ("", entry.name)
        }
