"""Writing ``model.toml``: what ``manifest_reader`` reads back, without what is the default."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from jitney.sequence import DEFAULT_IDLE, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jitney.builtin import BuiltinSpec
    from jitney.repository.manifest import (
        BatchingManifest,
        ModelManifest,
        RuntimeManifest,
        VersionPolicy,
        WarmupManifest,
    )
    from jitney.sequence import Control, SequenceConfig
    from jitney.signature import TensorSpec

__all__ = ["manifest_to_toml"]

DELETE: Final = "\x7f"
"""The one control character that JSON lets stand as it is and TOML does not."""

NO_FILES: Final[Mapping[str, str]] = MappingProxyType({})


def manifest_to_toml(manifest: ModelManifest, label_files: Mapping[str, str] = NO_FILES) -> str:
    """Return the text of a ``model.toml`` that says the same as ``manifest``.

    Its ``config`` is not written: ``model.toml`` has no key for what is only shown.

    :param label_files: for outputs by name, the file that has their labels; the labels of others
        are written out.
    """
    return "\n".join(_lines(manifest, label_files)).lstrip("\n") + "\n"


def _lines(manifest: ModelManifest, label_files: Mapping[str, str]) -> Iterator[str]:
    if manifest.description:
        yield f"description = {_value(manifest.description)}"
    if manifest.max_batch_size is not None:
        yield f"max_batch_size = {manifest.max_batch_size}"
    if manifest.devices:
        yield f"devices = {_value(manifest.devices)}"
    for side, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        if specs is not None and not specs:
            yield f"{side} = []"
    yield from _batching(manifest.batching)
    yield from _table("runtime", _runtime(manifest.runtime))
    yield from _table("versions", _versions(manifest.versions))
    if manifest.builtin is not None:
        yield from _builtin(manifest.builtin)
    if manifest.sequence is not None:
        yield from _sequence(manifest.sequence)
    for warmup in manifest.warmup:
        yield from _warmup(warmup)
    for side, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        yield from _tensors(side, specs, label_files)


def _batching(batching: BatchingManifest) -> Iterator[str]:
    values = _changed(
        batching,
        "enabled",
        "required",
        "max_queue_delay_ms",
        "max_queue_size",
        "default_slo_ms",
        "default_timeout_ms",
        "on_timeout",
        "priority_levels",
        "default_priority",
        "mode",
        "split_large_requests",
        "buckets",
    )
    yield from _table("batching", values)
    for level, said in sorted(batching.levels.items()):
        # Written also when it says nothing, so that what is read is what was written.
        values = _changed(said, "max_queue_size", "default_timeout_ms", "on_timeout")
        yield from _table(f"batching.levels.{level}", values, empty=True)


def _runtime(runtime: RuntimeManifest) -> dict[str, Any]:
    return _changed(runtime, "optimise", "inference_mode", "cudnn", "file")


def _versions(versions: VersionPolicy) -> dict[str, Any]:
    if versions.policy == "specific":
        return {"policy": versions.numbers}
    if versions.policy == "all":
        return {"policy": "all"}
    return {"count": versions.count} if versions.count != 1 else {}


def _builtin(builtin: BuiltinSpec) -> Iterator[str]:
    yield from _table("builtin", {"handler": builtin.handler})
    yield from _table("builtin.parameters", dict(builtin.parameters))


def _sequence(sequence: SequenceConfig) -> Iterator[str]:
    values: dict[str, Any] = {}
    if sequence.strategy is not Strategy.DIRECT:
        values["strategy"] = sequence.strategy.value
    if sequence.max_idle != DEFAULT_IDLE:
        # To the nanosecond: seconds are not always a thousandth of what somebody wrote.
        values["max_idle_ms"] = round(sequence.max_idle * 1000, 6)
    if sequence.max_candidates:
        values["max_candidates"] = sequence.max_candidates
    yield from _table("sequence", values, empty=True)
    for control in sequence.controls:
        yield from _table("[sequence.control]", _control(control))


def _control(control: Control) -> dict[str, Any]:
    values = {
        "name": control.name,
        "kind": control.kind.value,
        "datatype": control.datatype.value,
    }
    return values | ({"values": control.values} if control.values != (0, 1) else {})


def _warmup(warmup: WarmupManifest) -> Iterator[str]:
    values = {"name": warmup.name} | _changed(warmup, "rows", "count")
    yield from _table("[warmup]", values)
    if warmup.inputs:
        yield "[warmup.inputs]"
    for name, (source, shape) in warmup.inputs.items():
        yield f"{_key(name)} = {{ from = {_value(source)}, shape = {_value(shape)} }}"


def _tensors(
    side: str, specs: Sequence[TensorSpec] | None, label_files: Mapping[str, str]
) -> Iterator[str]:
    for spec in specs or ():
        values = spec.to_json()
        if side == "output" and spec.labels and spec.name in label_files:
            del values["labels"]
            values["labels_file"] = label_files[spec.name]
        yield from _table(f"[{side}]", values)


def _changed(part: object, *keys: str) -> dict[str, Any]:
    """Return the fields of a dataclass that are not what they would be anyway."""
    fields = type(part).__dataclass_fields__  # type: ignore[attr-defined]  # of dataclasses only
    return {key: getattr(part, key) for key in keys if getattr(part, key) != fields[key].default}


def _table(name: str, values: Mapping[str, Any], *, empty: bool = False) -> Iterator[str]:
    if values or empty:
        yield ""
        yield f"[{name}]"
    for key, value in values.items():
        yield f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else _value(key)


def _value(value: object) -> str:
    if isinstance(value, str):
        # TOML's texts are JSON's, but for one character.
        return json.dumps(value, ensure_ascii=False).replace(DELETE, "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)
