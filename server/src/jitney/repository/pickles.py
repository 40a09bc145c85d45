"""What a TorchScript pickle holds, read without running any of it.

TorchScript keeps a module's attributes in a pickle. ``pickle.load`` would import and call what the
file names, so the opcodes are only *listed* here (``pickletools.genops``) and played on a small
stack, where calls become records of the call.
"""

from __future__ import annotations

import io
import pickletools
from typing import Any, Final, NamedTuple

from jitney.datatypes import DataType
from jitney.errors import ModelError

__all__ = ["StoredTensor", "StoredValues", "read_pickle", "root_class"]

STORAGES: Final = {
    "BoolStorage": DataType.BOOL,
    "ByteStorage": DataType.UINT8,
    "CharStorage": DataType.INT8,
    "ShortStorage": DataType.INT16,
    "IntStorage": DataType.INT32,
    "LongStorage": DataType.INT64,
    "HalfStorage": DataType.FP16,
    "BFloat16Storage": DataType.BF16,
    "FloatStorage": DataType.FP32,
    "DoubleStorage": DataType.FP64,
}
BROKEN: Final = "the module's attributes cannot be read; the file was cut short or changed"
# What genops raises on bytes that are no pickle, and what playing them on the stack may.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    OverflowError,
    AssertionError,
)


class _Global(NamedTuple):
    module: str
    name: str


class _Storage(NamedTuple):
    kind: str
    key: str
    elements: int


class StoredTensor(NamedTuple):
    """A tensor in a pickle; ``datatype`` is None for a kind that the protocol does not have.

    ``key`` names the entry that holds its elements, which several tensors may share; ``elements``
    is how many that entry has.
    """

    datatype: DataType | None
    shape: tuple[int, ...]
    key: str
    elements: int


class StoredValues(NamedTuple):
    """A pickle's value and, flat, all tensors in it.

    ``value`` consists of dicts, lists, tuples, texts, numbers and ``StoredTensor``; an object of
    the file's own classes is its attributes.
    """

    value: Any
    tensors: list[StoredTensor]


def root_class(data: bytes) -> tuple[str, str]:
    """Return module and name of the class of a pickle's outermost object.

    :raises ModelError: when the pickle does not begin with one.
    """
    try:
        for opcode, value, _ in pickletools.genops(io.BytesIO(data)):
            if opcode.name == "GLOBAL":
                module, _, name = str(value).rpartition(" ")
                return module, name
            if opcode.name not in {"PROTO", "FRAME"}:
                break
    except UNREADABLE:
        pass
    raise ModelError(BROKEN)


def read_pickle(data: bytes) -> StoredValues:
    """Read a pickle as torch's own pickler writes it (a subset of protocol 2).

    :raises ModelError: on anything else.
    """
    player = _Player()
    try:
        for opcode, value, _ in pickletools.genops(io.BytesIO(data)):
            player.play(opcode.name, value)
        return StoredValues(player.stack[-1], player.tensors)
    except UNREADABLE:
        raise ModelError(BROKEN) from None


class _Player:
    """The stack and the memo of a pickle; raises one of ``UNREADABLE`` on a broken one."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.tensors: list[StoredTensor] = []

    def play(self, name: str, value: Any) -> None:  # noqa: ANN401  # what genops yields
        stack = self.stack
        if name == "GLOBAL":
            module, _, attribute = value.rpartition(" ")
            stack.append(_Global(module, attribute))
        elif name in LITERALS:
            stack.append(LITERALS[name])
        elif name in FRESH:
            stack.append(FRESH[name]())
        elif name in VALUES:
            stack.append(value)
        elif name in {"BINPUT", "LONG_BINPUT"}:
            self.memo[value] = stack[-1]
        elif name in {"BINGET", "LONG_BINGET"}:
            stack.append(self.memo[value])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name not in {"PROTO", "STOP"}:
            self._combine(name)

    def _combine(self, name: str) -> None:
        stack = self.stack
        if name == "TUPLE":
            stack.append(tuple(self._take_marked()))
        elif name in {"TUPLE1", "TUPLE2", "TUPLE3"}:
            stack.append(tuple(self._take(int(name[-1]))))
        elif name in {"APPEND", "APPENDS"}:
            items = self._take(1) if name == "APPEND" else self._take_marked()
            stack[-1].extend(items)
        elif name in {"SETITEM", "SETITEMS"}:
            items = self._take(2) if name == "SETITEM" else self._take_marked()
            # Keys are names. Any other kind is refused, because hashing a deeply nested tuple
            # overflows the C stack, which ends the process.
            keys = [_text(key) for key in items[::2]]
            stack[-1].update(zip(keys, items[1::2], strict=True))
        elif name == "BINPERSID":
            _, kind, key, _, count = stack.pop()
            stack.append(_Storage(kind.name, _text(key), _size(count)))
        elif name == "NEWOBJ":
            self._take(2)
            stack.append({})
        elif name == "BUILD":
            # The state of an exported __setstate__ may be anything; then it stands for the object.
            (state,) = self._take(1)
            if isinstance(state, dict):
                stack[-1].update(state)
            else:
                stack[-1]["state"] = state
        elif name == "REDUCE":
            function, arguments = self._take(2)
            stack.append(self._call(function, arguments))
        else:
            msg = f"opcode {name}"
            raise ValueError(msg)

    def _take(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) != count:
            raise IndexError
        del self.stack[-count:]
        return items

    def _take_marked(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _call(self, function: _Global, arguments: tuple[Any, ...]) -> object:
        if function.name in {"_rebuild_tensor_v2", "_rebuild_tensor"}:
            storage, _, shape = arguments[:3]
            datatype = STORAGES.get(storage.kind)
            sizes = tuple(map(_size, shape))
            tensor = StoredTensor(datatype, sizes, storage.key, storage.elements)
            self.tensors.append(tensor)
            return tensor
        if function.name == "OrderedDict":
            return {}
        # restore_type_tag(value, type), build_intlist(values), …: the value is the first argument.
        return arguments[0] if arguments else None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _size(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise TypeError
    return value


LITERALS: Final[dict[str, object]] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
FRESH: Final[dict[str, type]] = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
VALUES: Final = {
    "BINUNICODE", "SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES",
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
}  # fmt: skip
