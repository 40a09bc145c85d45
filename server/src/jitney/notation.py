"""A tensor's contract as one line, for command lines and reports.

``image:FP32[N,1,8,8]`` is an input or output with its datatype and shape, in the words of
``signature``; ``ids:INT64[N,L]:0..30521`` also bounds its values, and a ``?`` after the name
(``mask?:BOOL[N,L]``) makes it optional.
"""

from __future__ import annotations

import re
from typing import Final

from jitney.errors import ConfigError
from jitney.signature import TensorSpec

__all__ = ["read_tensor", "write_tensor"]

LINE: Final = re.compile(
    r"(?P<name>[^:?]+)(?P<optional>\?)?:(?P<datatype>\w+)\[(?P<shape>[^\]]*)\]"
    r"(?::(?P<low>-?[\d.]*?)\.\.(?P<high>-?[\d.]*))?"
)


def read_tensor(text: str) -> TensorSpec:
    """Read one line.

    :raises ConfigError: when it is not of this form, or says what no tensor can be.
    """
    match = LINE.fullmatch(text.strip())
    if match is None:
        msg = f"{text!r}: expected a line such as image:FP32[N,3,224,224] or ids:INT64[N,L]:0..999"
        raise ConfigError(msg)
    sizes = [size.strip() for size in match["shape"].split(",") if size.strip()]
    table: dict[str, object] = {
        "name": match["name"],
        "datatype": match["datatype"],
        "shape": [int(size) if re.fullmatch(r"-?\d{1,18}", size) else size for size in sizes],
        "optional": match["optional"] is not None,
    }
    for bound in ("low", "high"):
        if match[bound]:
            table[bound] = _number(match[bound], text)
    return TensorSpec.from_json(table, repr(text))


def _number(digits: str, text: str) -> float:
    try:
        return float(digits) if "." in digits else int(digits)
    except ValueError:
        msg = f"{text!r}: expected numbers around the .. at the end, got {digits!r}"
        raise ConfigError(msg) from None


def write_tensor(spec: TensorSpec) -> str:
    """Return the line that ``read_tensor`` reads; labels have no place in it."""
    line = f"{spec.name}{'?' if spec.optional else ''}:{spec.datatype.value}"
    line += f"[{','.join(map(str, spec.shape))}]"
    if spec.low is None and spec.high is None:
        return line
    low, high = ("" if bound is None else f"{bound}" for bound in (spec.low, spec.high))
    return f"{line}:{low}..{high}"
