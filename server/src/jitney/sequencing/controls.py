"""The bytes of control inputs."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Final

from jitney.datatypes import DataType
from jitney.errors import InvalidRequest
from jitney.sequence import ControlKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.sequence import Control, SequenceConfig
    from jitney.sequencing.correlation import Correlation

__all__ = ["Controls", "fill"]

_LENGTH: Final = struct.Struct("<I")
"""What stands before each element of a BYTES tensor."""
_EMPTY_TEXT: Final = _LENGTH.pack(0)
_FLAGS: Final = {
    DataType.INT32: struct.Struct("<i"),
    DataType.FP32: struct.Struct("<f"),
    DataType.BOOL: struct.Struct("<?"),
}


class Controls:
    """Writes the control inputs of a model, in the order of its config.

    START, END and READY of a row have one of two values, so their bytes are made once.
    """

    def __init__(self, config: SequenceConfig) -> None:
        self._flags = [
            None if control.kind is ControlKind.CORRID else (control.kind, *_flag_bytes(control))
            for control in config.controls
        ]
        ids = [c for c in config.controls if c.kind is ControlKind.CORRID]
        self._id_type = ids[0].datatype if ids else None

    def row(self, said: Correlation, model: str) -> list[bytes]:
        """Return the bytes of each control, for a row that holds a request.

        :param model: the name to use in errors.
        :raises InvalidRequest: when the model cannot be told an id such as this.
        """
        true = {
            ControlKind.START: said.starts,
            ControlKind.END: said.ends,
            ControlKind.READY: True,
        }
        encoded = b"" if self._id_type is None else _id_bytes(said.id, self._id_type, model)
        return [
            encoded if flag is None else flag[2] if true[flag[0]] else flag[1]
            for flag in self._flags
        ]


def fill(
    config: SequenceConfig, inputs: Sequence[tuple[DataType, tuple[int, ...]]]
) -> tuple[bytes, ...]:
    """Return, for each input of a model, the bytes of a row that holds no request.

    They are zeros and empty texts; the controls are all false, READY before all.

    :param inputs: datatype and dimensions of one row of each, the controls last.
    """
    rows = [
        (_EMPTY_TEXT if datatype is DataType.BYTES else bytes(datatype.item_size)) * math.prod(dims)
        for datatype, dims in inputs
    ]
    first = len(rows) - len(config.controls)
    for at, control in enumerate(config.controls, start=first):
        if control.kind is not ControlKind.CORRID:
            rows[at] = _flag_bytes(control)[0]
    return tuple(rows)


def _flag_bytes(control: Control) -> tuple[bytes, bytes]:
    """Return what stands for false and for true."""
    pack = _FLAGS[control.datatype].pack
    whole = control.datatype is DataType.INT32
    false, true = (pack(int(value) if whole else value) for value in control.values)
    return false, true


def _id_bytes(key: int | str, datatype: DataType, model: str) -> bytes:
    if isinstance(key, str) is not (datatype is DataType.BYTES):
        kind, other = ("text", "number") if isinstance(key, str) else ("number", "text")
        msg = (
            f"the correlation ID {key!r} of this request is a {kind}, and model '{model}' takes "
            f"a {other} (its control input has the datatype {datatype.value})"
        )
        raise InvalidRequest(msg)
    if isinstance(key, str):
        data = key.encode()
        return _LENGTH.pack(len(data)) + data
    width = datatype.item_size
    signed = datatype is DataType.INT32
    # In 64 bits every id has a place, if need be as a negative number; in 32 bits it may not, and
    # cut short it would be taken for another sequence.
    number = key - (1 << 64) if signed and key >> 63 else key
    try:
        return number.to_bytes(width, "little", signed=signed)
    except OverflowError:
        msg = (
            f"the correlation ID {number} of this request does not fit into the "
            f"{datatype.value} that model '{model}' takes it as"
        )
        raise InvalidRequest(msg) from None
