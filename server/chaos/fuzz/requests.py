"""Requests: from the bytes of a call to its status or its reply, all in this process."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from jitney.admission import Admission
from jitney.config import LimitSettings
from jitney.datatypes import DataType
from jitney.engine import Engine
from jitney.errors import JitneyError
from jitney.latency_profile import LatencyProfile
from jitney.load_report import Golden, LoadReport
from jitney.repository.handle import ModelVersion
from jitney.repository.limits import ModelLimits
from jitney.repository.repository import Repository
from jitney.scheduling.policy import Policy
from jitney.scheduling.scheduler import Scheduler
from jitney.signature import Signature, TensorSpec
from jitney.telemetry.metrics import Metrics
from jitney.testing import FakeClock, PuppetExecutor
from jitney.transport.codec import Codec
from jitney.transport.status import Statuses
from jitney.types import ModelRef
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RequestReader", "corpus"]

INTERNAL: Final = {"INTERNAL", "UNKNOWN"}
TOGETHER: Final = 64
"""Requests that wait before their batches run."""
LIMITS: Final = ModelLimits(
    max_batch_size=8, max_queue_rows=4 * TOGETHER, max_queue_delay=0.0, slot_bytes=1 << 20
)
SIGNATURES: Final = {
    "echo": Signature(
        (TensorSpec("x", DataType.FP32, ("N", -1)),), (TensorSpec("y", DataType.FP32, ("N", -1)),)
    ),
    "pair": Signature(
        (TensorSpec("a", DataType.INT64, ("N", 2)), TensorSpec("b", DataType.BOOL, ("N", 3))),
        (TensorSpec("c", DataType.INT64, ("N", 2)), TensorSpec("d", DataType.BOOL, ("N", 3))),
    ),
}
DEVICE: Final = "cpu"


class RequestReader:
    """An engine whose models return what they are given, behind the real codec."""

    def __init__(self) -> None:
        self._clock = FakeClock()
        self._executor = PuppetExecutor(self._clock)
        self._codec = Codec()
        self._statuses = Statuses()
        self._admission = Admission(LimitSettings())
        metrics = Metrics()
        versions = [
            ModelVersion(ModelRef(name, 1), signature, LIMITS, "digest")
            for name, signature in SIGNATURES.items()
        ]
        repository = Repository()
        for version in versions:
            repository.add(version.ref.name).wanted = True
            repository.begin(version, visible=True)
        scheduler = Scheduler(Policy(), self._executor, self._clock, metrics)
        self._engine = Engine(repository, scheduler, self._admission, self._clock, metrics)
        self._executor.listener = self._engine
        self._engine.device_up(DEVICE)
        for version in versions:
            self._engine.model_loaded(DEVICE, version.ref, _report())
        self._waiting = 0
        self._wrong: list[str] = []

    def read(self, data: bytes) -> bool:
        """Decode a request and submit it; its batch runs with those of others."""
        try:
            request = self._codec.decode(data, math.inf)
            self._engine.submit(request, self._ended)
        except JitneyError as error:
            self._check(error)
            return False
        self._waiting += 1
        if self._waiting >= TOGETHER:
            self._run()
        return True

    def settle(self) -> None:
        """Check that all were answered, that each reply can be read, and that nothing is held."""
        self._run()
        assert not self._wrong, self._wrong[0]
        assert (0, 0, 0) == (self._waiting, *self._admission.statistics())

    def _run(self) -> None:
        self._clock.run_soon()
        while self._executor.pending:
            self._executor.complete_next()
            self._clock.run_soon()

    def _ended(self, reply: Any, error: JitneyError | None) -> None:  # noqa: ANN401  # the codec's
        self._waiting -= 1
        try:
            if error is None:
                pb.ModelInferResponse.FromString(reply)
            else:
                self._check(error)
        except Exception as caught:  # noqa: BLE001  # whoever calls us must not see it
            self._wrong.append(f"{type(caught).__name__}: {caught}")

    def _check(self, error: JitneyError) -> None:
        code = self._statuses.code_of(error).name
        assert code not in INTERNAL, f"{code}: {error}"


def corpus() -> Sequence[bytes]:
    """Return requests of every kind that the protocol has."""
    plain = _request("echo", [("x", "FP32", [2, 3], bytes(24))])
    named = _request("echo", [("x", "FP32", [1, 1], bytes(4))])
    named.id, named.model_version = "abc", "1"
    named.outputs.add(name="y")
    named.parameters["priority"].uint64_param = 1
    named.parameters["timeout"].int64_param = 1_000_000
    named.parameters["jitney_timing"].bool_param = True
    pair = _request("pair", [("a", "INT64", [1, 2], bytes(16)), ("b", "BOOL", [1, 3], bytes(3))])
    classes = _request("echo", [("x", "FP32", [1, 4], bytes(16))])
    classes.outputs.add(name="y").parameters["classification"].int64_param = 2
    shared = _request("echo", [])
    far = shared.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    far.parameters["shared_memory_region"].string_param = "region"
    far.parameters["shared_memory_byte_size"].int64_param = 4
    sequence = _request("echo", [("x", "FP32", [1, 1], bytes(4))])
    sequence.parameters["sequence_id"].int64_param = 7
    sequence.parameters["sequence_start"].bool_param = True
    typed = pb.ModelInferRequest(model_name="echo")
    typed.inputs.add(name="x", datatype="FP32", shape=[2, 2]).contents.fp32_contents.extend([1] * 4)
    texts = pb.ModelInferRequest(model_name="echo")
    bytes_input = texts.inputs.add(name="x", datatype="BYTES", shape=[2, 1])
    bytes_input.contents.bytes_contents.extend([b"ab", b""])
    many = _request("echo", [(f"x{n}", "FP32", [1, 1], bytes(4)) for n in range(70)])
    all_of_them = (plain, named, pair, classes, shared, sequence, typed, texts, many)
    return [request.SerializeToString() for request in all_of_them]


def _request(
    model: str, inputs: Sequence[tuple[str, str, list[int], bytes]]
) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model)
    for name, datatype, shape, data in inputs:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(data)
    return request


def _report() -> LoadReport:
    sizes = (1, 2, 4, 8)
    return LoadReport(
        form="plain",
        why="",
        batchable=True,
        batchable_why="",
        max_batch_size=LIMITS.max_batch_size,
        deterministic=True,
        mutated_state=(),
        mutated_inputs=(),
        golden=Golden(0, 0.0),
        latency=LatencyProfile(sizes, (0.001,) * 4, (0.0,) * 4),
        memory_bytes=0,
        load_seconds=0.0,
        warnings=(),
    )
