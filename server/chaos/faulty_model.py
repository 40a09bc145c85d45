"""Models whose requests say what shall go wrong, and whose answers say who computed them."""

from __future__ import annotations

import contextlib
import enum
import itertools
import json
import os
import struct
import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from jitney.datatypes import DataType
from jitney.signature import BATCH, Signature, TensorSpec
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "INPUT_BYTES",
    "OUTPUT_BYTES",
    "SIGNATURE",
    "Command",
    "FaultyModel",
    "answer",
    "is_faulty_model",
    "message",
    "mix",
    "read_answer",
    "read_faulty_model",
    "write_faulty_model",
]

FOLDER: Final = "model"
FAULTY_ENTRY: Final = f"{FOLDER}/extra/faulty.json"
NO_CONSTANTS: Final = b"\x80\x02)."
"""An empty tuple, as TorchScript stores it; without it a file does not look like a model."""
INPUT: Final = struct.Struct("<qq")
OUTPUT: Final = struct.Struct("<qqq")
INPUT_BYTES, OUTPUT_BYTES = INPUT.size, OUTPUT.size
ODD: Final = 0x9E37_79B9_7F4A_7C15
"""The golden ratio in 64 bits: neighbouring numbers become very different ones."""
WORD: Final = (1 << 64) - 1
_written: Final = itertools.count()

SIGNATURE: Final = Signature(
    (TensorSpec("x", DataType.INT64, (BATCH, 2)),), (TensorSpec("y", DataType.INT64, (BATCH, 3)),)
)
"""``x``: a number and a command per row; ``y``: the number, ``mix`` of it, the model's stamp."""


class Command(enum.IntEnum):
    """What a row asks of the worker that meets it."""

    NONE = 0
    HANG = 1
    """Never return."""
    DIE = 2
    """End the process, as a crash in native code would."""
    REJECT = 3
    """Raise, as a model does for an input it cannot take."""
    FAULT = 4
    """Lose the device."""
    SLOW = 5
    """Take a second longer."""


@dataclass(frozen=True, slots=True)
class FaultyModel:
    """``alpha`` seconds per row and ``beta`` per batch; ``stamp`` tells loads of it apart."""

    alpha: float = 0.0
    beta: float = 0.0
    stamp: int = 0

    def seconds(self, rows: int) -> float:
        """Return how long a batch takes."""
        return self.alpha * rows + self.beta


def mix(number: int) -> int:
    """Return a number that only ``number`` becomes: which request's row an answer is shows."""
    return (number * ODD & WORD) >> 1


def answer(row: bytes | memoryview, stamp: int) -> bytes:
    """Return the output of one row of input."""
    number, _ = INPUT.unpack(row)
    return OUTPUT.pack(number, mix(number), stamp)


def message(
    number: int, command: Command = Command.NONE, *, rows: int = 1, model: str = "faulty"
) -> bytes:
    """Return a serialised request; its rows carry ``number``, the first of them the command."""
    data = INPUT.pack(number, command) + INPUT.pack(number, Command.NONE) * (rows - 1)
    request = pb.ModelInferRequest(model_name=model, id=str(number))
    request.inputs.add(name="x", datatype="INT64", shape=[rows, 2])
    request.raw_input_contents.append(data)
    return request.SerializeToString()


def read_answer(reply: bytes, number: int, rows: int = 1) -> int | None:
    """Return the stamp of a reply to ``message(number)``, None where it answers something else."""
    response = pb.ModelInferResponse.FromString(reply)
    (data,) = response.raw_output_contents
    if response.id != str(number) or len(data) != rows * OUTPUT_BYTES:
        return None
    read = list(OUTPUT.iter_unpack(data))
    stamps = {stamp for _, _, stamp in read}
    right = all((number, mix(number)) == row[:2] for row in read)
    return stamps.pop() if right and len(stamps) == 1 else None


def write_faulty_model(
    repository: Path,
    model: FaultyModel,
    *,
    name: str = "faulty",
    version: int = 1,
    max_rows: int = 16,
    settings: str = "",
) -> Path:
    """Write a version into a repository, in one step, over what was there; return its file.

    Like ``testing.sim_model``'s, it has just enough in it that the server takes it for TorchScript.

    :param settings: further lines of its ``model.toml``.
    """
    file = repository / name / str(version) / "model.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = repository / f".{name}-{os.getpid()}-{next(_written)}"
    with zipfile.ZipFile(beside, "w") as archive:
        archive.writestr(f"{FOLDER}/constants.pkl", NO_CONSTANTS)
        archive.writestr(f"{FOLDER}/code/faulty.py", "# does as it is told\n")
        archive.writestr(f"{FOLDER}/extra/jitney.json", json.dumps(SIGNATURE.to_json()))
        archive.writestr(FAULTY_ENTRY, json.dumps(asdict(model)))
    manifest = repository / name / "model.toml"
    text = f"max_batch_size = {max_rows}\n{settings}"
    if not manifest.exists() or manifest.read_text() != text:
        manifest.write_text(text)
    beside.replace(file)
    return file


def is_faulty_model(path: str) -> bool:
    """Whether ``write_faulty_model`` wrote a file."""
    with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        return FAULTY_ENTRY in archive.namelist()
    return False


def read_faulty_model(path: str) -> FaultyModel:
    """Read what ``write_faulty_model`` wrote."""
    with zipfile.ZipFile(path) as archive:
        return FaultyModel(**json.loads(archive.read(FAULTY_ENTRY)))
