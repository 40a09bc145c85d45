"""A loaded model with a slot to put its inputs into."""

from __future__ import annotations

import itertools
import mmap
import struct
from typing import TYPE_CHECKING

import torch
from runtime_models import save

from jitney.load_options import LoadOptions
from jitney.runtime.instance import Execution, InputView, Instance
from jitney.runtime.load import load_instance
from jitney.runtime.tensors import DTYPES

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from jitney.runtime.device import Device
    from jitney.runtime.outputs import WrittenOutput
    from jitney.signature import Signature


class Bench:
    """An instance with a slot."""

    def __init__(
        self,
        module: nn.Module,
        signature: Signature,
        device: Device,
        path: Path,
        **settings: object,
    ) -> None:
        save(module, path)
        settings = {"optimise": "off"} | settings
        options = LoadOptions("m", 1, signature, 8, **settings)  # type: ignore[arg-type]  # by test
        self.instance: Instance = load_instance(str(path), options, device, lambda _: None)
        self.slot = memoryview(mmap.mmap(-1, 4096))
        self.out = memoryview(mmap.mmap(-1, 4096))
        self.specs = signature.inputs

    def run(
        self, *tensors: torch.Tensor | None, rows: int | None = None, out: int = 4096
    ) -> Execution:
        """Put tensors into the slot, and run them with a clock that counts."""
        views: list[InputView | None] = []
        at = 0
        for spec, tensor in zip(self.specs, tensors, strict=True):
            if tensor is None:
                views.append(None)
                continue
            data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            self.slot[at : at + len(data)] = data
            region = self.slot[at : at + len(data)]
            views.append(InputView(spec.datatype, tuple(tensor.shape), region))
            at += -(-len(data) // 64) * 64
            rows = tensor.shape[0] if rows is None else rows
        clock = itertools.count()
        assert rows is not None
        return self.instance.execute(views, rows, self.out[:out], lambda: float(next(clock)))

    def read(self, output: WrittenOutput) -> torch.Tensor:
        """Return a copy of an output as it stands in the slot."""
        if not output.nbytes:
            return torch.empty(output.shape, dtype=DTYPES[output.datatype])
        data = bytearray(self.out[output.offset : output.offset + output.nbytes])
        return torch.frombuffer(data, dtype=DTYPES[output.datatype]).view(output.shape)

    def answer(self, *tensors: torch.Tensor | None, rows: int | None = None) -> list[object]:
        """Return the first output of a batch as nested lists."""
        values: list[object] = self.read(self.run(*tensors, rows=rows).outputs[0]).tolist()
        return values


def texts_raw(*texts: bytes) -> bytes:
    """Return texts in the protocol's form."""
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
