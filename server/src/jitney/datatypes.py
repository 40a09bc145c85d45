"""The datatypes of the Open Inference Protocol: one table, no dependencies.

Every layer that needs the size, the range or the wire code of a datatype reads it here; how a
datatype maps to a protobuf field or to torch is known only to ``transport.codec`` and
``runtime.tensors``.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["BY_CODE", "DataType"]


class DataType(enum.Enum):
    """A datatype of the protocol; its value is the protocol's name, such as ``"FP32"``.

    ``item_size`` is the size of one element in bytes, 0 for BYTES, whose elements vary.
    ``code`` is the number used in control messages and equals the protocol's ``DataType`` enum.
    """

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"
    BF16 = "BF16"

    code: int
    item_size: int

    # Members are singletons, so identity hashing is right, and it is several times cheaper than
    # Enum's own hash, which goes through the name: BatchKeys hash their datatypes per request.
    __hash__ = object.__hash__

    @property
    def is_integer(self) -> bool:
        """Whether values are whole numbers (BOOL is not)."""
        return str(self.value).startswith(("INT", "UINT"))

    @property
    def is_float(self) -> bool:
        """Whether values are floating point."""
        return str(self.value).startswith(("FP", "BF"))


ITEM_SIZES: Final = (1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 0, 2)

# Set after the members exist: a tuple per member would make `DataType("FP32")` a type error.
for _code, (_member, _size) in enumerate(zip(DataType, ITEM_SIZES, strict=True), start=1):
    _member.code = _code
    _member.item_size = _size

BY_CODE: Final[dict[int, DataType]] = {member.code: member for member in DataType}
