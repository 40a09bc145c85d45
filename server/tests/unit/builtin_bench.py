"""Built-in models behind a scheduler on a fake clock."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

from jitney.builtin import BuiltinSpec, device_of
from jitney.errors import ModelError
from jitney.execution.builtin import BuiltinExecutor, default_signature
from jitney.execution.loading import LoadSpec
from jitney.load_options import LoadOptions
from jitney.scheduling.batch import BatchKey, Entry
from jitney.scheduling.policy import Policy, PolicySettings
from jitney.scheduling.scheduler import Scheduler
from jitney.telemetry.metrics import Metrics
from jitney.testing import EchoCarrier, Ends, FakeClock
from jitney.types import ModelRef, Request, RequestHeader, TensorHeader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from jitney.builtin import Handler
    from jitney.execution.loading import HeldFile
    from jitney.load_report import LoadReport
    from jitney.scheduling.batch import Batch
    from jitney.signature import Signature
    from jitney.types import Buffer, Carrier

MODEL = ModelRef("model", 1)


def no_file() -> AbstractContextManager[HeldFile]:
    """Refuse: nobody should ask for the file of a built-in model."""
    raise ModelError("asked for a file")  # noqa: EM101, TRY003  # never seen


def texts(*elements: bytes) -> bytes:
    """Return the raw form of a tensor of BYTES."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def uints(*values: int) -> bytes:
    """Return the raw form of a tensor of UINT32, or of INT32 that is not negative."""
    return struct.pack(f"<{len(values)}I", *values)


class Bench:
    """A scheduler over a ``BuiltinExecutor``; ``said`` is what happened to devices and models.

    ``partial`` are the replies of decoupled models, with the moment of each in seconds from the
    start, and ``busy`` how long each batch held its device.
    """

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.epoch = self.clock.now()
        self.builtin = BuiltinExecutor(self.clock)
        self.policy = Policy(PolicySettings(max_overhead=1.0))
        self.scheduler = Scheduler(self.policy, self.builtin, self.clock, Metrics())
        self.ends = Ends()
        self.said: list[tuple[Any, ...]] = []
        self.partial: list[tuple[float, str, dict[str, bytes]]] = []
        self.busy: list[float] = []
        self.builtin.attach(Listener(self))
        self._signatures: dict[ModelRef, Signature] = {}
        self._keys: dict[object, BatchKey] = {}

    def load(
        self,
        handler: Handler,
        signature: Signature | None = None,
        parameters: Mapping[str, str] | None = None,
        *,
        model: ModelRef = MODEL,
        max_batch_size: int = 8,
    ) -> LoadReport | ModelError:
        """Load a model; return what came of it on its device."""
        signature = signature or default_signature(handler)
        assert signature is not None
        self._signatures[model] = signature
        spec = LoadSpec(
            model,
            LoadOptions(model.name, model.version, signature, max_batch_size),
            no_file,
            lambda _device, _text: None,
            builtin=BuiltinSpec(handler, parameters or {}),
        )
        [(device, outcome)] = asyncio.run(self.builtin.load(spec)).items()
        assert device_of(model) == device
        return outcome

    def submit(
        self,
        id: str,  # noqa: A002  # the protocol's word
        *inputs: tuple[Sequence[int], Buffer],
        model: ModelRef = MODEL,
        carrier: Carrier | None = None,
        parameters: Mapping[str, bool | int | str | float] | None = None,
    ) -> Entry:
        """Submit a request: the shape, batch dimension included, and the bytes of each input."""
        signature = self._signatures[model]
        headers = tuple(
            TensorHeader(spec.name, spec.datatype, tuple(shape))
            for spec, (shape, _) in zip(signature.inputs, inputs, strict=True)
        )
        header = RequestHeader(model.name, "", headers, parameters=parameters)
        data = [data for _, data in inputs]
        request = Request(header, data, carrier or CARRIER, id=id)
        key = self._key(model, signature, headers)
        rows = headers[0].shape[0] if signature.batched else 1
        entry = Entry(
            request,
            key,
            rows,
            sum(map(len, data)),
            self.clock.now(),
            self.ends,
            inputs=range(len(data)),
            outputs=range(len(signature.outputs)),
        )
        entry.partial = self._note
        self.scheduler.submit(entry)
        return entry

    def run(
        self,
        *inputs: tuple[Sequence[int], Buffer],
        parameters: Mapping[str, bool | int | str | float] | None = None,
    ) -> dict[str, bytes]:
        """Submit a request that takes no time; return the bytes of its outputs."""
        self.submit("run", *inputs, parameters=parameters)
        self.clock.run_soon()
        outputs: dict[str, bytes] = self.ends.replies["run"].outputs
        return outputs

    def _key(
        self, model: ModelRef, signature: Signature, headers: tuple[TensorHeader, ...]
    ) -> BatchKey:
        first = 1 if signature.batched else 0
        inputs = tuple((header.datatype, header.shape[first:]) for header in headers)
        return self._keys.setdefault(
            (model, inputs),
            BatchKey(
                model,
                inputs,
                signature.outputs,
                max_rows=8 if signature.batched else 1,
                max_bytes=1 << 20,
                batched=signature.batched,
            ),
        )

    def _note(self, entry: Entry, reply: Any) -> None:
        self.partial.append((self.clock.now() - self.epoch, entry.request.id, reply.outputs))


CARRIER = EchoCarrier()


class Listener:
    """Tells a bench's scheduler, as the engine would, and notes what concerns devices."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def completed(self, batch: Batch, completion: Any) -> None:
        """Pass on, and note how long the device was at it."""
        self._bench.busy.append(completion.copied_out - completion.started)
        self._bench.scheduler.completed(batch, completion)

    def produced(self, batch: Batch, completion: Any) -> None:
        """Pass on."""
        self._bench.scheduler.produced(batch, completion)

    def detached(self, batch: Batch, completion: Any) -> None:
        """Pass on."""
        self._bench.scheduler.detached(batch, completion)

    def device_up(self, device: str) -> None:
        """Note and pass on."""
        self._bench.said.append(("up", device))
        self._bench.scheduler.device_up(device)

    def device_down(self, device: str, back_in: float = 0.0) -> None:  # noqa: ARG002  # the protocol's
        """Note and pass on."""
        self._bench.said.append(("down", device))
        self._bench.scheduler.device_down(device)

    def device_loading(self, device: str, *, loading: bool) -> None:
        """Note."""
        self._bench.said.append(("loading", device, loading))

    def device_failed(self, device: str, why: str) -> None:
        """Note."""
        self._bench.said.append(("failed", device, why))

    def model_loaded(self, device: str, model: ModelRef, report: LoadReport) -> None:
        """Note and pass on."""
        self._bench.said.append(("loaded", device, model))
        self._bench.scheduler.model_ready(device, model, report.latency)

    def model_refused(self, device: str, model: ModelRef, error: ModelError) -> None:
        """Note."""
        self._bench.said.append(("refused", device, model, str(error)))

    def model_gone(self, device: str, model: ModelRef) -> None:
        """Note and pass on."""
        self._bench.said.append(("gone", device, model))
        self._bench.scheduler.model_gone(device, model)
