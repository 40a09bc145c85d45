"""What went wrong, told by its text."""

from __future__ import annotations

import pytest
import torch

from jitney.runtime.faults import classify, summary


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "model"),
        (ValueError("anything"), "model"),
        (MemoryError(), "oom"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "oom"),
        (RuntimeError("The following…\ntorch.OutOfMemoryError: CUDA out of memory."), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "oom"),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), "fault"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "fault"),
        (RuntimeError("CUDA error: something that is new next year"), "fault"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "fault"),
        (torch.AcceleratorError("CUDA error: invalid configuration argument"), "model"),
    ],
)
def test_failures_are_told_apart_by_what_follows(exc: Exception, kind: str) -> None:
    """Memory is retried smaller, a fault ends the worker, the rest is the model's."""
    assert classify(exc) == kind


def test_a_real_allocation_failure_is_out_of_memory() -> None:
    """The text of this torch release is recognised."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 58)

    assert classify(caught.value) == "oom"


def test_a_summary_is_the_cause_without_tracebacks_and_paths() -> None:
    """TorchScript's cause is its last line, that of anything else its first."""
    script = RuntimeError(
        "The following operation failed in the TorchScript interpreter.\n"
        'Traceback of TorchScript (most recent call last):\n  File "/home/me/x.py", line 3\n'
        "builtins.ValueError: too large\n"
    )
    other = RuntimeError("cannot open /home/me/model.pt now\nhint: do something")

    assert summary(script) == "ValueError: too large"
    assert summary(other) == "cannot open … now"
    assert summary(KeyError()) == "KeyError"
