"""On which devices a model may run: what its operator asks for, and what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.repository.manifest import ModelManifest

__all__ = ["place"]


def place(
    manifest: ModelManifest, devices: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the devices for a model, and warnings.

    1. A built-in model has a device of its own, which nobody need name: none is returned.
    2. A kind of device is asked for that the server has none of, a GPU on one without, or the CPU
       on one that drives GPUs: what there is, with a warning. A folder that was written for another
       machine shall be served on this one.
    3. A model with sequences has one device, because its state lives there.

    :param devices: the server's.
    :raises ModelError: when none of those that it asks for is there.
    """
    if manifest.builtin is not None:
        return (), ()
    warnings: tuple[str, ...]
    chosen, warnings = tuple(devices), ()
    if manifest.devices:
        chosen, warnings = _asked_for(manifest.devices, devices)
    if manifest.sequence is not None and len(chosen) > 1:
        chosen = chosen[:1]
        warnings = (*warnings, f"it has sequences, so it is loaded on {chosen[0]} alone")
    return chosen, warnings


def _asked_for(
    wanted: Sequence[str], devices: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    chosen = tuple(name for name in devices if name in wanted or name.partition(":")[0] in wanted)
    there = ", ".join(devices)
    missing = [name for name in wanted if ":" in name and name not in devices]
    kinds = {name.partition(":")[0] for name in wanted}
    if not kinds & {name.partition(":")[0] for name in devices}:
        return tuple(devices), (
            f"it asks for {', '.join(wanted)}, and is served on {there}: there is no other here",
        )
    if not chosen or missing:
        msg = (
            f"it asks for {', '.join(missing or wanted)}, and this server has {there}; change its "
            "devices, or start the server with others (--device)"
        )
        raise ModelError(msg)
    return chosen, ()
