"""The switches of torch under which a model runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jitney.load_options import LoadOptions

__all__ = ["Mode", "mode_of", "without_cudnn"]

Mode: TypeAlias = Callable[[], AbstractContextManager[object]]


def mode_of(options: LoadOptions) -> Mode:
    """Return what makes the context of one run.

    Nearly always torch's own inference mode, without anything around it: it is entered for every
    batch. (``no_grad`` keeps no gradients either, but tensors made under it may be used anywhere,
    which a few models need.)
    """
    base: Mode = torch.inference_mode if options.inference_mode else torch.no_grad
    if options.cudnn:
        return base

    @contextlib.contextmanager
    def both() -> Iterator[None]:
        with without_cudnn(), base():
            yield

    return both


@contextlib.contextmanager
def without_cudnn() -> Iterator[None]:
    """Switch cuDNN off; it is as before afterwards.

    The switch is the process's, so it is set around one model's calls only. (Rejected:
    ``torch.backends.cudnn.flags``, which resets all other switches of cuDNN to its own defaults.)
    """
    cudnn = torch.backends.cudnn
    before = cudnn.enabled
    cudnn.enabled = False
    try:
        yield
    finally:
        cudnn.enabled = before
