"""``model.toml``: what the operator says about a model; every key may be left out."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from jitney.errors import ConfigError
from jitney.repository.containment import open_regular
from jitney.repository.toml_table import TomlTable
from jitney.signature import BATCH, Signature, TensorSpec, read_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jitney.builtin import BuiltinSpec
    from jitney.sequence import SequenceConfig

__all__ = [
    "FILE_NAME",
    "BatchingManifest",
    "LevelManifest",
    "ModelManifest",
    "RuntimeManifest",
    "VersionPolicy",
    "WarmupManifest",
    "parse_manifest",
    "read_manifest",
    "resolve_signature",
]

FILE_NAME: Final = "model.toml"
MAX_BYTES: Final = 16 << 20
"""A longer file is refused: the labels of the largest vocabularies take a few MiB."""

MAX_VERSION: Final = (1 << 63) - 1
OPTIMISE: Final = ("auto", "optimised", "frozen", "off")
MODES: Final = ("latency", "efficiency")
LONGEST_MS: Final = 3_600_000

OnTimeout: TypeAlias = Literal["reject", "delay"]
Optimise: TypeAlias = Literal["auto", "optimised", "frozen", "off"]
Mode: TypeAlias = Literal["latency", "efficiency"]


@dataclass(frozen=True, slots=True)
class BatchingManifest:
    """How requests share batches; None leaves it to the server's ``batching`` settings.

    ``required`` makes a model that turns out not to be batchable fail to load, instead of being
    served row by row. What ends in ``_ms`` is in milliseconds, ``max_queue_size`` in rows; a
    ``default_priority`` of 1 is the highest. ``buckets`` are batch sizes to be measured and used
    besides our own. ``priority_levels`` is how many levels clients count, 0 for ours; the level of
    a request is mapped onto one of our classes. ``on_timeout`` says what becomes of a request that
    waited too long: it is refused, or waits on behind all others.
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
    file: str = "model.pt"


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
    """A model's ``model.toml``; the default is what a missing file means.

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


def read_manifest(path: Path) -> ModelManifest:
    """Read a ``model.toml``; ``path`` must have been resolved, a symbolic link is refused.

    :raises ConfigError: naming the key that is wrong, with its path.
    :raises ModelError: when the file cannot be read.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        msg = f"{FILE_NAME}: larger than {MAX_BYTES >> 20} MiB"
        raise ConfigError(msg)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{FILE_NAME}: not UTF-8 text (at byte {error.start})"
        raise ConfigError(msg) from None
    return parse_manifest(text)


def parse_manifest(text: str) -> ModelManifest:
    """Read the text of a ``model.toml``.

    :raises ConfigError: naming the key that is wrong, with its path.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib recurses into nested brackets
        msg = f"{FILE_NAME}: not TOML: {str(error) or 'too deeply nested'}"
        raise ConfigError(msg) from None
    reader = TomlTable(FILE_NAME, table)
    manifest = ModelManifest(
        description=reader.text("description"),
        max_batch_size=reader.whole("max_batch_size", 1, 1 << 16),
        batching=_read_batching(reader.table("batching")),
        runtime=_read_runtime(reader.table("runtime")),
        versions=_read_versions(reader.table("versions")),
        inputs=_read_side(reader.take("input"), "input"),
        outputs=_read_side(reader.take("output"), "output"),
    )
    reader.finish()
    return manifest


def _read_batching(reader: TomlTable) -> BatchingManifest:
    batching = BatchingManifest(
        enabled=reader.flag("enabled") is not False,
        required=reader.flag("required") is True,
        max_queue_delay_ms=reader.number("max_queue_delay_ms", 0, 60_000),
        max_queue_size=reader.whole("max_queue_size", 1, 1 << 24),
        default_slo_ms=reader.number("default_slo_ms", 0, LONGEST_MS),
        default_timeout_ms=reader.number("default_timeout_ms", 0, LONGEST_MS),
        default_priority=reader.whole("default_priority", 1, 3),
        mode=cast("Mode | None", reader.choice("mode", MODES)),
        split_large_requests=reader.flag("split_large_requests"),
    )
    reader.finish()
    if batching.required and not batching.enabled:
        msg = f"{FILE_NAME}: batching: required = true contradicts enabled = false"
        raise ConfigError(msg)
    return batching


def _read_runtime(reader: TomlTable) -> RuntimeManifest:
    optimise = reader.choice("optimise", OPTIMISE) or "auto"
    reader.finish()
    return RuntimeManifest(cast("Optimise", optimise))


def _read_versions(reader: TomlTable) -> VersionPolicy:
    policy = reader.take("policy")
    count = reader.whole("count", 1, 1000)
    reader.finish()
    if count is not None and policy not in (None, "latest"):
        key, expected = "count", 'no count unless policy is "latest"'
        raise reader.wrong(key, expected, count)
    if policy is None or policy == "latest":
        return VersionPolicy(count=count or 1)
    if policy == "all":
        return VersionPolicy("all")
    numbers = policy if isinstance(policy, list) else []
    if not numbers or not all(type(n) is int and 0 <= n <= MAX_VERSION for n in numbers):
        key, expected = "policy", '"latest", "all" or a list of version numbers such as [1, 3]'
        raise reader.wrong(key, expected, policy)
    return VersionPolicy("specific", numbers=tuple(sorted(set(numbers))))


def _read_side(value: object, side: str) -> tuple[TensorSpec, ...] | None:
    return None if value is None else read_tensors(value, f"{FILE_NAME}: {side}")


def resolve_signature(manifest: ModelManifest, packed: Signature | None) -> Signature | None:
    """Return the one signature of a model, None where nobody gave any.

    What both describe must agree; the packed one then decides the order (its author knew the
    arguments of ``forward``), and bounds, labels and names of dimensions in ``model.toml`` win.

    :param packed: the signature inside the model file, written by ``jitney pack``.
    :raises ConfigError: when they differ, or one side has inputs and nobody has outputs.
    """
    inputs, outputs = manifest.inputs, manifest.outputs
    if packed is not None:
        inputs = _agree("input", packed.inputs, inputs)
        outputs = _agree("output", packed.outputs, outputs)
    if inputs is None and outputs is None:
        return None
    if inputs is None or outputs is None:
        side = "input" if inputs is None else "output"
        msg = f"{FILE_NAME}: {side}: missing; write a [[{side}]] table for each {side} as well"
        raise ConfigError(msg)
    description = manifest.description or (packed.description if packed else "")
    try:
        return Signature(inputs, outputs, description)
    except ConfigError as error:
        msg = f"{FILE_NAME}: {error}"
        raise ConfigError(msg) from None


def _agree(
    side: str, packed: tuple[TensorSpec, ...], given: tuple[TensorSpec, ...] | None
) -> tuple[TensorSpec, ...]:
    if given is None:
        return packed
    by_name: Mapping[str, TensorSpec] = {spec.name: spec for spec in given}
    names, packed_names = sorted(spec.name for spec in given), sorted(spec.name for spec in packed)
    if names != packed_names:
        msg = (
            f"{FILE_NAME}: {side}: describes {', '.join(names) or 'nothing'}, but the model file "
            f"was packed with {', '.join(packed_names)}; correct it or leave the tables out"
        )
        raise ConfigError(msg)
    return tuple(_merge(side, spec, by_name[spec.name]) for spec in packed)


def _merge(side: str, packed: TensorSpec, given: TensorSpec) -> TensorSpec:
    where = f"{FILE_NAME}: {side} {packed.name!r}"
    if given.datatype is not packed.datatype:
        msg = (
            f"{where}: datatype {given.datatype.value}, but the model file was packed with "
            f"{packed.datatype.value}"
        )
        raise ConfigError(msg)
    sizes = map(_merge_size, packed.shape, given.shape)
    shape = tuple(size for size in sizes if size is not None)
    if not len(given.shape) == len(packed.shape) == len(shape):
        msg = (
            f"{where}: shape {list(given.shape)}, but the model file was packed with "
            f"{list(packed.shape)}"
        )
        raise ConfigError(msg)
    return dataclasses.replace(
        packed,
        shape=shape,
        low=packed.low if given.low is None else given.low,
        high=packed.high if given.high is None else given.high,
        labels=given.labels or packed.labels,
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
