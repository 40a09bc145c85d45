"""A model's file, read onto a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jitney.runtime.faults import SIGNATURE, UNREADABLE, classify, model_error, summary
from jitney.samples import EXTRA_FILE, read_samples

if TYPE_CHECKING:
    from jitney.runtime.device import Device
    from jitney.samples import Sample

__all__ = ["read_model"]


def read_model(path: str, device: Device) -> tuple[torch.jit.ScriptModule, list[Sample]]:
    """Return the module of a file, ready to run, and its golden samples.

    :raises ModelError: if torch cannot read it, or it has no ``forward``.
    :raises Exception: if the device, rather than the file, is to blame.
    """
    extra = {EXTRA_FILE: ""}
    try:
        # Not in inference mode: parameters loaded there stay inference tensors for ever.
        with device.active(), torch.no_grad():
            module: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
                path, map_location=device.torch_device, _extra_files=extra
            )
            module.eval()
            device.wait()
    except Exception as exc:  # about a third of damaged files raise something odd
        if classify(exc) != "model":
            raise
        text = summary(exc).replace(path, "the file")
        msg = f"torch cannot read the file ({text}); save it again with torch.jit.save"
        raise model_error(UNREADABLE, msg) from None
    if not hasattr(module, "forward"):
        msg = "the file has no method forward; script or trace the whole module"
        raise model_error(SIGNATURE, msg)
    data: object = extra[EXTRA_FILE]  # bytes, whatever the annotation says; empty if absent
    return module, read_samples(data if isinstance(data, bytes) else b"")
