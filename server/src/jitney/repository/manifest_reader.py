"""Reading ``model.toml``, strictly: every key is known, and has the value that it should have."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, Final, cast

from jitney.builtin import BuiltinSpec
from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney.repository.manifest import (
    FILE_NAME,
    LONGEST_MS,
    MAX_BATCH_SIZE,
    MAX_COUNT,
    MAX_DELAY_MS,
    MAX_LEVELS,
    MAX_QUEUE_SIZE,
    MAX_VERSION,
    MODEL_FILE,
    BatchingManifest,
    LevelManifest,
    ModelManifest,
    RuntimeManifest,
    VersionPolicy,
    WarmupManifest,
)
from jitney.repository.side_files import (
    is_plain_name,
    nothing_to_read,
    read_labels,
    read_text,
)
from jitney.repository.toml_table import TomlTable
from jitney.scheduling.batch import PRIORITIES
from jitney.sequence import DEFAULT_IDLE, Control, ControlKind, SequenceConfig, Strategy
from jitney.signature import read_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from jitney.builtin import Handler
    from jitney.repository.manifest import Mode, OnTimeout, Optimise
    from jitney.repository.side_files import ReadFile
    from jitney.signature import TensorSpec

__all__ = ["is_device", "parse_manifest", "read_manifest"]

OPTIMISE: Final = ("auto", "optimised", "frozen", "off")
MODES: Final = ("latency", "efficiency")
ON_TIMEOUT: Final = ("reject", "delay")
HANDLERS: Final = ("identity", "repeat", "echo")
SWITCHES: Final = (DataType.INT32, DataType.FP32, DataType.BOOL)
"""Datatypes of the controls that are true or false."""

IDS: Final = (DataType.INT32, DataType.INT64, DataType.UINT32, DataType.UINT64, DataType.BYTES)
"""Datatypes of the control that tells the sequence."""

LABELS_FILE: Final = "labels_file"
MAX_DEVICE: Final = 999
MAX_FILL: Final = 1 << 31


def read_manifest(path: Path, read_file: ReadFile = nothing_to_read) -> ModelManifest:
    """Read a ``model.toml``; ``path`` must have been resolved, a symbolic link is refused.

    :param read_file: reads the files that it names.
    :raises ConfigError: naming the key that is wrong, with its path.
    :raises ModelError: when the file cannot be read.
    """
    return parse_manifest(read_text(path), read_file)


def parse_manifest(text: str, read_file: ReadFile = nothing_to_read) -> ModelManifest:
    """Read the text of a ``model.toml``.

    :param read_file: reads the files that it names, which are lists of labels.
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
        max_batch_size=reader.whole("max_batch_size", 0, MAX_BATCH_SIZE),
        batching=_read_batching(reader.table("batching")),
        runtime=_read_runtime(reader.table("runtime")),
        versions=_read_versions(reader.table("versions")),
        inputs=_read_side(reader.take("input"), "input", read_file),
        outputs=_read_side(reader.take("output"), "output", read_file),
        builtin=_read_builtin(reader.optional_table("builtin")),
        sequence=_read_sequence(reader.optional_table("sequence")),
        devices=_read_devices(reader),
        warmup=tuple(_read_warmup(table) for table in reader.tables("warmup")),
    )
    reader.finish()
    return manifest


def is_device(name: object) -> bool:
    """Whether a text is a kind of device, or the name of one."""
    if name in {"cpu", "cuda"}:
        return True
    if not isinstance(name, str) or not name.startswith("cuda:"):
        return False
    number = name.removeprefix("cuda:")
    return number.isascii() and number.isdecimal() and str(int(number[:4])) == number


def _read_batching(reader: TomlTable) -> BatchingManifest:
    levels = reader.whole("priority_levels", 0, MAX_LEVELS) or 0
    batching = BatchingManifest(
        enabled=reader.flag("enabled") is not False,
        required=reader.flag("required") is True,
        max_queue_delay_ms=reader.number("max_queue_delay_ms", 0, MAX_DELAY_MS),
        max_queue_size=reader.whole("max_queue_size", 1, MAX_QUEUE_SIZE),
        default_slo_ms=reader.number("default_slo_ms", 0, LONGEST_MS),
        default_timeout_ms=reader.number("default_timeout_ms", 0, LONGEST_MS),
        default_priority=reader.whole("default_priority", 1, levels or PRIORITIES),
        mode=cast("Mode | None", reader.choice("mode", MODES)),
        split_large_requests=reader.flag("split_large_requests"),
        buckets=reader.wholes("buckets", 1, MAX_BATCH_SIZE),
        priority_levels=levels,
        on_timeout=cast("OnTimeout", reader.choice("on_timeout", ON_TIMEOUT) or "reject"),
        levels=_read_levels(reader.table("levels"), levels or PRIORITIES),
    )
    reader.finish()
    if batching.required and not batching.enabled:
        msg = f"{FILE_NAME}: batching: required = true contradicts enabled = false"
        raise ConfigError(msg)
    return batching


def _read_levels(reader: TomlTable, most: int) -> dict[int, LevelManifest]:
    levels = {}
    for key in reader.names():
        table = reader.table(key)
        level = int(key) if key.isascii() and key.isdecimal() else 0
        if not 0 < level <= most or str(level) != key:
            expected = f"priority levels, which are 1 to {most}"
            reader.refuse(key, expected, key)
        levels[level] = LevelManifest(
            max_queue_size=table.whole("max_queue_size", 1, MAX_QUEUE_SIZE),
            default_timeout_ms=table.number("default_timeout_ms", 0, LONGEST_MS),
            on_timeout=cast("OnTimeout | None", table.choice("on_timeout", ON_TIMEOUT)),
        )
        table.finish()
    return levels


def _read_runtime(reader: TomlTable) -> RuntimeManifest:
    runtime = RuntimeManifest(
        optimise=cast("Optimise", reader.choice("optimise", OPTIMISE) or "auto"),
        inference_mode=reader.flag("inference_mode") is not False,
        cudnn=reader.flag("cudnn") is not False,
        file=reader.text("file") or MODEL_FILE,
    )
    reader.finish()
    if not is_plain_name(runtime.file):
        expected = "the plain name of a file in the version's folder"
        reader.refuse("file", expected, runtime.file)
    return runtime


def _read_versions(reader: TomlTable) -> VersionPolicy:
    policy = reader.take("policy")
    count = reader.whole("count", 1, MAX_COUNT)
    reader.finish()
    if count is not None and policy not in (None, "latest"):
        key, expected = "count", 'no count unless policy is "latest"'
        reader.refuse(key, expected, count)
    if policy is None or policy == "latest":
        return VersionPolicy(count=count or 1)
    if policy == "all":
        return VersionPolicy("all")
    numbers = policy if isinstance(policy, list) else []
    if not numbers or not all(type(n) is int and 0 <= n <= MAX_VERSION for n in numbers):
        key, expected = "policy", '"latest", "all" or a list of version numbers such as [1, 3]'
        reader.refuse(key, expected, policy)
    return VersionPolicy("specific", numbers=tuple(sorted(set(numbers))))


def _read_side(value: object, side: str, read_file: ReadFile) -> tuple[TensorSpec, ...] | None:
    if value is None:
        return None
    tables = value
    if side == "output" and isinstance(value, list):
        tables = [_with_labels(table, f"{side}[{i}]", read_file) for i, table in enumerate(value)]
    return read_tensors(tables, f"{FILE_NAME}: {side}")


def _with_labels(table: object, path: str, read_file: ReadFile) -> object:
    """Put the labels of a file where ``labels`` would be."""
    if not isinstance(table, dict) or LABELS_FILE not in table:
        return table
    table = dict(table)
    name = table.pop(LABELS_FILE)
    where = f"{FILE_NAME}: {path}.{LABELS_FILE}"
    if "labels" in table:
        msg = f"{where}: given beside labels; leave one of them out"
        raise ConfigError(msg)
    if not isinstance(name, str):
        msg = f"{where}: expected the plain name of a file in the model's folder, got {name!r}"
        raise ConfigError(msg)
    return table | {"labels": list(read_labels(name, where, read_file))}


def _read_builtin(reader: TomlTable | None) -> BuiltinSpec | None:
    if reader is None:
        return None
    handler = reader.choice("handler", HANDLERS)
    if handler is None:
        reader.refuse("handler", f"one of {', '.join(HANDLERS)}", None)
    table = reader.table("parameters")
    reader.finish()
    parameters = {key: table.text(key) for key in table.names()}
    return BuiltinSpec(cast("Handler", handler), parameters)


def _read_sequence(reader: TomlTable | None) -> SequenceConfig | None:
    if reader is None:
        return None
    strategy = reader.choice("strategy", [kind.value for kind in Strategy])
    idle = reader.number("max_idle_ms", 0.001, LONGEST_MS)
    candidates = reader.whole("max_candidates", 0, MAX_QUEUE_SIZE)
    controls = tuple(_read_control(table) for table in reader.tables("control"))
    reader.finish()
    config = SequenceConfig(
        Strategy(strategy or Strategy.DIRECT),
        controls,
        DEFAULT_IDLE if idle is None else idle / 1000,
        candidates or 0,
    )
    for values in ([c.kind.value for c in controls], [c.name for c in controls]):
        if len(set(values)) != len(values):
            twice = max(values, key=values.count)
            msg = f"{FILE_NAME}: sequence.control: {twice!s} occurs more than once"
            raise ConfigError(msg)
    return config


def _read_control(reader: TomlTable) -> Control:
    name = reader.text("name")
    kind = reader.choice("kind", [kind.value for kind in ControlKind])
    datatype = reader.take("datatype")
    values = reader.take("values")
    reader.finish()
    if not name:
        reader.refuse("name", "the name of an input of the model", name)
    if kind is None:
        reader.refuse("kind", f"one of {', '.join(ControlKind)}", kind)
    allowed = IDS if kind == ControlKind.CORRID else SWITCHES
    if datatype not in [d.value for d in allowed]:
        expected = f"one of {', '.join(d.value for d in allowed)} for the kind {kind}"
        reader.refuse("datatype", expected, datatype)
    return Control(name, ControlKind(kind), DataType(datatype), _pair(reader, values, datatype))


def _pair(reader: TomlTable, values: Any, datatype: str) -> tuple[float, float]:  # noqa: ANN401  # from TOML
    if values is None:
        return (0, 1)
    expected = "two numbers, for false and for true, such as [0, 1]"
    if not isinstance(values, list) or len(values) != len((False, True)):
        reader.refuse("values", expected, values)
    for value in values:
        fits = type(value) is int or (type(value) is float and datatype == DataType.FP32.value)
        if not fits or not -MAX_FILL <= value < MAX_FILL:
            reader.refuse("values", expected, values)
    return (values[0], values[1])


def _read_devices(reader: TomlTable) -> tuple[str, ...]:
    devices = reader.take("devices")
    if devices is None:
        return ()
    if not isinstance(devices, list) or not all(map(is_device, devices)):
        expected = 'a list of devices such as ["cuda"], ["cuda:0", "cuda:1"] or ["cpu"]'
        reader.refuse("devices", expected, devices)
    return tuple(dict.fromkeys(devices))


def _read_warmup(reader: TomlTable) -> WarmupManifest:
    table = reader.table("inputs")
    warmup = WarmupManifest(
        name=reader.text("name"),
        rows=reader.whole("rows", 1, MAX_BATCH_SIZE) or 1,
        count=reader.whole("count", 1, MAX_COUNT) or 1,
        inputs={key: _read_source(table.table(key)) for key in table.names()},
    )
    reader.finish()
    if not warmup.name:
        reader.refuse("name", "a name, for messages about it", warmup.name)
    return warmup


def _read_source(reader: TomlTable) -> tuple[str, tuple[int, ...]]:
    source = reader.text("from")
    shape = reader.wholes("shape", 0, MAX_VERSION)
    reader.finish()
    if not is_plain_name(source):
        expected = '"zero", "random" or the plain name of a file in the folder warmup'
        reader.refuse("from", expected, source)
    return source, shape
