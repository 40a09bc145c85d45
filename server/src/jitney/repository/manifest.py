"""What the operator says about a model, in ``model.toml`` or ``config.pbtxt``; all is optional."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from jitney.errors import ConfigError
from jitney.signature import BATCH, Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney.builtin import BuiltinSpec
    from jitney.sequence import SequenceConfig

__all__ = [
    "FILE_NAME",
    "MODEL_FILE",
    "TRITON_FILE_NAME",
    "BatchingManifest",
    "LevelManifest",
    "ModelManifest",
    "RuntimeManifest",
    "VersionPolicy",
    "WarmupManifest",
    "resolve_signature",
]

FILE_NAME: Final = "model.toml"
TRITON_FILE_NAME: Final = "config.pbtxt"
MODEL_FILE: Final = "model.pt"

MAX_BATCH_SIZE: Final = 1 << 16
MAX_DELAY_MS: Final = 60_000
MAX_COUNT: Final = 1000
MAX_LEVELS: Final = 1000
MAX_QUEUE_SIZE: Final = 1 << 24
MAX_VERSION: Final = (1 << 63) - 1
LONGEST_MS: Final = 3_600_000
"""The bounds of what an operator may write, in either file."""

OnTimeout: TypeAlias = Literal["reject", "delay"]
Optimise: TypeAlias = Literal["auto", "optimised", "frozen", "off"]
Mode: TypeAlias = Literal["latency", "efficiency"]


@dataclass(frozen=True, slots=True)
class BatchingManifest:
    """How requests share batches; None leaves it to the server's ``batching`` settings.

    Where it is not ``enabled``, every request is a batch of its own. ``required`` makes a model
    that turns out not to be batchable fail to load, instead of being served in that way. What ends
    in ``_ms`` is in milliseconds, ``max_queue_size`` in rows; a ``default_priority`` of 1 is the
    highest. ``buckets`` are batch sizes to be measured and used besides our own.
    ``priority_levels`` is how many levels clients count, 0 for ours; the level of a request is
    mapped onto one of our classes. ``on_timeout`` says what becomes of a request that waited too
    long: it is refused, or waits on behind all others.
    """

    enabled: bool = True
    required: bool = False
    max_queue_delay_ms: float | None = None
    max_queue_size: int | None = None
    default_slo_ms: float | None = None
    default_timeout_ms: float | None = None
    default_priority: int | None = None
    mode: Mode | None = None
    split_large_requests: bool | None = None
    buckets: tuple[int, ...] = ()
    priority_levels: int = 0
    on_timeout: OnTimeout = "reject"
    levels: Mapping[int, LevelManifest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LevelManifest:
    """What holds for one priority level instead of what holds for the model.

    None leaves it to the model. ``max_queue_size`` is in rows, of this level alone.
    """

    max_queue_size: int | None = None
    default_timeout_ms: float | None = None
    on_timeout: OnTimeout | None = None


@dataclass(frozen=True, slots=True)
class RuntimeManifest:
    """How the program is prepared: ``auto`` measures the forms and takes the fastest right one."""

    optimise: Optimise = "auto"
    inference_mode: bool = True
    cudnn: bool = True
    file: str = MODEL_FILE


@dataclass(frozen=True, slots=True)
class WarmupManifest:
    """A request to be run before a model is ready, besides what the server makes up.

    ``inputs`` names, for each input, where its values come from: ``"zero"``, ``"random"`` or a
    plain file name in the model's folder ``warmup``; with the shape of one row.
    """

    name: str
    rows: int = 1
    count: int = 1
    inputs: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which versions are served: the ``count`` latest, ``all``, or the ``numbers`` listed."""

    policy: Literal["latest", "all", "specific"] = "latest"
    count: int = 1
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """What the operator said about a model; the default is what saying nothing means.

    ``inputs`` and ``outputs`` are None where the file does not describe them. ``builtin`` is None
    for a model with a file, ``sequence`` for one without sequences. ``max_batch_size`` of 0 says
    that there is no batch dimension. ``devices`` are the kinds (``cpu``, ``cuda``) or names
    (``cuda:1``) that may run it, empty for all. ``config`` is the serialised ModelConfig that all
    of it came from, empty where it came from TOML: what it says beyond this class is only shown.
    """

    description: str = ""
    max_batch_size: int | None = None
    batching: BatchingManifest = field(default_factory=BatchingManifest)
    runtime: RuntimeManifest = field(default_factory=RuntimeManifest)
    versions: VersionPolicy = field(default_factory=VersionPolicy)
    inputs: tuple[TensorSpec, ...] | None = None
    outputs: tuple[TensorSpec, ...] | None = None
    builtin: BuiltinSpec | None = None
    sequence: SequenceConfig | None = None
    devices: tuple[str, ...] = ()
    warmup: tuple[WarmupManifest, ...] = ()
    config: bytes = b""

    @property
    def source(self) -> str:
        """The file to name in texts about it."""
        return TRITON_FILE_NAME if self.config else FILE_NAME


def resolve_signature(manifest: ModelManifest, packed: Signature | None) -> Signature | None:
    """Return the one signature of a model as clients see it, None where nobody gave any.

    What both describe must agree; the packed one then decides the order (its author knew the
    arguments of ``forward``), and bounds, labels and names of dimensions in the manifest win.
    Inputs of the packed one that are controls of sequences are not what clients send.

    :param packed: the signature inside the model file, written by ``jitney pack``.
    :raises ConfigError: when they differ, or one side has inputs and nobody has outputs.
    """
    inputs, outputs = manifest.inputs, manifest.outputs
    if packed is not None:
        controls = {c.name for c in manifest.sequence.controls} if manifest.sequence else set()
        sent = tuple(spec for spec in packed.inputs if spec.name not in controls)
        inputs = _agree(manifest.source, "input", sent, inputs)
        outputs = _agree(manifest.source, "output", packed.outputs, outputs)
    if inputs is None and outputs is None:
        return None
    if inputs is None or outputs is None:
        side = "input" if inputs is None else "output"
        table = f"{side} {{}}" if manifest.config else f"[[{side}]] table"
        msg = f"{manifest.source}: {side}: missing; write a {table} for each {side} as well"
        raise ConfigError(msg)
    description = manifest.description or (packed.description if packed else "")
    try:
        signature = Signature(inputs, outputs, description)
    except ConfigError as error:
        msg = f"{manifest.source}: {error}"
        raise ConfigError(msg) from None
    if signature.batched and manifest.max_batch_size == 0:
        msg = (
            f"{manifest.source}: max_batch_size: 0 says that there is no batch dimension, but "
            'shapes begin with "N"; leave one of them out'
        )
        raise ConfigError(msg)
    return signature


def _agree(
    source: str,
    side: str,
    packed: tuple[TensorSpec, ...],
    given: tuple[TensorSpec, ...] | None,
) -> tuple[TensorSpec, ...]:
    if given is None:
        return packed
    by_name: Mapping[str, TensorSpec] = {spec.name: spec for spec in given}
    names, packed_names = sorted(spec.name for spec in given), sorted(spec.name for spec in packed)
    if names != packed_names:
        msg = (
            f"{source}: {side}: describes {', '.join(names) or 'nothing'}, but the model file "
            f"was packed with {', '.join(packed_names)}; correct it or leave the tables out"
        )
        raise ConfigError(msg)
    return tuple(_merge(f"{source}: {side}", spec, by_name[spec.name]) for spec in packed)


def _merge(where: str, packed: TensorSpec, given: TensorSpec) -> TensorSpec:
    where = f"{where} {packed.name!r}"
    if given.datatype is not packed.datatype:
        msg = (
            f"{where}: datatype {given.datatype.value}, but the model file was packed with "
            f"{packed.datatype.value}"
        )
        raise ConfigError(msg)
    # A reshaped tensor is packed as the model has it, and given as clients do.
    reshaped = given.reshape is not None and packed.reshape is None
    own = (*given.shape[: int(given.batched)], *(given.reshape or ())) if reshaped else given.shape
    sizes = map(_merge_size, packed.shape, own)
    shape = tuple(size for size in sizes if size is not None)
    if not len(own) == len(packed.shape) == len(shape):
        msg = f"{where}: shape {list(own)}, but the model file was packed with {list(packed.shape)}"
        raise ConfigError(msg)
    return dataclasses.replace(
        packed,
        shape=given.shape if reshaped else shape,
        optional=packed.optional or given.optional,
        low=packed.low if given.low is None else given.low,
        high=packed.high if given.high is None else given.high,
        labels=given.labels or packed.labels,
        reshape=given.reshape if reshaped else packed.reshape,
    )


def _merge_size(packed: int | str, given: int | str) -> int | str | None:
    # -1 says nothing that contradicts a name, which only adds that equal names are equal sizes;
    # the batch dimension is no such name.
    if packed == given:
        return packed
    if packed == -1 and isinstance(given, str) and given != BATCH:
        return given
    if given == -1 and isinstance(packed, str) and packed != BATCH:
        return packed
    return None
