"""What went wrong on a device, told apart by what follows from it.

torch reports most failures as RuntimeError; inside TorchScript even the subclasses are lost and
only the text is left, so the text is what is looked at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

import torch

from jitney.errors import JitneyError, ModelError
from jitney.runtime.interface import DeviceFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    Kind = Literal["model", "oom", "fault"]

__all__ = [
    "GOLDEN",
    "MEMORY",
    "NOT_BATCHABLE",
    "RAISED",
    "SIGNATURE",
    "UNREADABLE",
    "DeviceFault",
    "classify",
    "model_error",
    "summary",
]

# The checks of loading, as ``ModelError.reason`` names them.
UNREADABLE: Final = "MODEL_UNREADABLE"
SIGNATURE: Final = "MODEL_SIGNATURE"
RAISED: Final = "MODEL_RAISED"
NOT_BATCHABLE: Final = "MODEL_NOT_BATCHABLE"
GOLDEN: Final = "MODEL_GOLDEN"
MEMORY: Final = "DEVICE_OOM"

_MEMORY: Final = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)
# After one of these every further call into CUDA fails, until the process ends.
_STICKY: Final = (
    "device-side assert",
    "illegal memory access",
    "illegal address",
    "illegal instruction",
    "misaligned address",
    "unspecified launch failure",
    "launch timed out",
    "uncorrectable ecc",
    "hardware stack error",
    "invalid program counter",
    "unknown error",
    "cublas_status_execution_failed",
    "cublas_status_internal_error",
    "cublas_status_not_initialized",
    "cudnn_status_execution_failed",
    "cudnn_status_internal_error",
)
# Reported by CUDA, yet the context lives on: the launch was wrong, nothing ran.
_HARMLESS: Final = (
    "invalid configuration argument",
    "invalid argument",
    "no kernel image is available",
    "invalid device function",
    "too many resources requested",
)

_MAX_TEXT: Final = 300
_PATH: Final = re.compile(r"(?:/[\w.+-]+){2,}")


def classify(exc: BaseException) -> Kind:
    """Tell whether the model (or its input) is to blame, memory ran out, or the device is lost.

    An error of CUDA that is not known to be harmless counts as a fault: replacing a worker costs
    seconds, going on with a broken context answers every later request wrongly.
    """
    text = str(exc).lower()
    if isinstance(exc, MemoryError | torch.OutOfMemoryError) or _contains(text, _MEMORY):
        return "oom"
    if _contains(text, _HARMLESS):
        return "model"
    if isinstance(exc, torch.AcceleratorError) or "cuda error" in text or _contains(text, _STICKY):
        return "fault"
    return "model"


def _contains(text: str, phrases: Sequence[str]) -> bool:
    return any(phrase in text for phrase in phrases)


def summary(exc: BaseException) -> str:
    """Return one line about an exception that may be shown to a caller.

    TorchScript prints the source and two tracebacks first, and the cause in the last line. Paths
    are of the machine where the model was built, or of this one: both go.
    """
    if isinstance(exc, JitneyError):
        return str(exc)
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    if not lines:
        return type(exc).__name__
    # Only the interpreter puts the cause last; anything else puts it first, hints after it.
    line = lines[-1] if "TorchScript" in lines[0] else lines[0]
    line = _PATH.sub("…", line.removeprefix("builtins."))
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…"


def model_error(reason: str, text: str) -> ModelError:
    """Return a ``ModelError`` whose ``reason`` names the check that failed."""
    error = ModelError(text)
    error.reason = reason
    return error
