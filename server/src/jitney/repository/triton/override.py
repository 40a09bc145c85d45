"""A load on request may bring a configuration: what of a manifest it changes, and what stays."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jitney.repository.side_files import nothing_to_read
from jitney.repository.triton.mapping import manifest_of
from jitney.repository.triton.text import merge_json
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from jitney.repository.manifest import ModelManifest
    from jitney.repository.side_files import ReadFile
    from jitney.signature import TensorSpec

__all__ = ["overridden"]


def overridden(
    base: ModelManifest,
    effective: pb.ModelConfig,
    text: str,
    *,
    name: str,
    read_file: ReadFile = nothing_to_read,
) -> tuple[ModelManifest, list[str]]:
    """Return the manifest with an override merged in, and the warnings about the override.

    A ModelConfig cannot say all that a manifest does: bounds of values, names of dimensions, that a
    delay is the server's default. So what the override does not touch is kept as it was; only where
    the configurations before and after it mean different things, the one after it counts.

    :param base: what the operator wrote.
    :param effective: what is in force; it is not changed.
    :param text: the override, a ModelConfig in JSON.
    :raises ConfigError: when it is not that, or not supported.
    """
    merged = pb.ModelConfig()
    merged.CopyFrom(effective)
    merge_json(text, merged)
    before, _ = manifest_of(effective, name, read_file=read_file)
    after, warnings = manifest_of(merged, name, read_file=read_file)
    changed = _changed(base, before, after)
    return changed, warnings


def _changed(base: Any, before: Any, after: Any) -> Any:  # noqa: ANN401  # dataclasses of one kind
    """Return ``base`` with the fields that differ between ``before`` and ``after``."""
    values = {}
    for field in dataclasses.fields(base):
        was, old, new = (getattr(part, field.name) for part in (base, before, after))
        if old == new:
            continue
        if dataclasses.is_dataclass(new) and type(was) is type(old) is type(new):
            values[field.name] = _changed(was, old, new)
        elif field.name in ("inputs", "outputs"):
            values[field.name] = _tensors(was or (), old or (), new)
        else:
            values[field.name] = new
    return dataclasses.replace(base, **values)


def _tensors(
    base: tuple[TensorSpec, ...],
    before: tuple[TensorSpec, ...],
    after: tuple[TensorSpec, ...] | None,
) -> tuple[TensorSpec, ...] | None:
    """Return the tensors of an override; those that it does not change keep what they had."""
    was = {spec.name: spec for spec in base}
    old = {spec.name: spec for spec in before}
    return after and tuple(
        was[spec.name] if old.get(spec.name) == spec and spec.name in was else spec
        for spec in after
    )
