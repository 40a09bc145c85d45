"""Model files: read by the server without running anything in them."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Final

from chaos.faulty_model import SIGNATURE
from jitney.errors import JitneyError
from jitney.repository.archive import read_archive

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ArchiveReader", "corpus"]

CODE: Final = b"""class Model(Module):
  __parameters__ = ["weight", ]
  __buffers__ = []
  weight : Tensor
  training : bool
  def forward(self: __torch__.Model,
    x: Tensor) -> Tensor:
    return torch.add(x, self.weight)
"""
PICKLE: Final = (
    b"\x80\x02c__torch__\nModel\nq\x00)\x81}(X\x06\x00\x00\x00weightq\x01ctorch._utils\n"
    b"_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03ctorch\nFloatStorage\nq\x04"
    b"X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x01tQK\x00K\x01\x85K\x01\x85\x89"
    b"ccollections\nOrderedDict\nq\x07)RtRX\x08\x00\x00\x00trainingq\x08\x89ub."
)
"""An object with a tensor of one element, as torch.jit.save writes it."""


class ArchiveReader:
    """Reads all that the server would of a model's file."""

    def read(self, data: bytes) -> bool:
        """Read a file; what it cannot be is a JitneyError."""
        try:
            read_archive(io.BytesIO(data)).missing()
        except JitneyError:
            return False
        return True

    def settle(self) -> None:
        """Check nothing: reading holds nothing."""


def corpus() -> Sequence[bytes]:
    """Return archives: stored, compressed, with and without what belongs into them."""
    signature = json.dumps(SIGNATURE.to_json()).encode()
    whole = {
        "model/data.pkl": PICKLE,
        "model/code/__torch__.py": CODE,
        "model/code/__torch__.py.debug_pkl": b"\x80\x02).",
        "model/constants.pkl": b"\x80\x02).",
        "model/data/0": bytes(4),
        "model/extra/jitney.json": signature,
        "model/version": b"3\n",
    }
    few = {name: whole[name] for name in ("model/constants.pkl", "model/extra/jitney.json")}
    return [
        _archive(whole, zipfile.ZIP_STORED),
        _archive(whole, zipfile.ZIP_DEFLATED),
        _archive(few, zipfile.ZIP_STORED),
    ]


def _archive(entries: dict[str, bytes], compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return file.getvalue()
