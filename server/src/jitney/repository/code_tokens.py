"""The code of a TorchScript file, cut into tokens where torch's own lexer cuts it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NotCode", "tokens_of"]

TOKEN: Final = re.compile(
    r"""
    (?:[ \t\r\n\f\v]+|\#(?!\ type:)[^\n]*)*+  # blanks and comments, which are no tokens
    (
      # texts
        \"\"\"(?:[^"\\]|\\[\s\S]|"(?!""))*+\"\"\" | "(?!"")(?:[^"\\\n]|\\[\s\S])*+"
      | '''(?:[^'\\]|\\[\s\S]|'(?!''))*+'''       | '(?!'')(?:[^'\\\n]|\\[\s\S])*+'
      # numbers
      | 0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?j?
      | (?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?j?
      # the tokens of several characters that are not what they look like
      | \.\.\. | is\ not | not\ in | \#\ type:
      # names, words of the language among them, and signs
      | [A-Za-z_][A-Za-z0-9_]* | [!$-&(-/:-@\[\]^`{-~]
      | \Z
    )
    """,
    re.VERBOSE,
)
"""Every difference to torch's lexer is a place to hide code in, so also its oddities are here:

- Numbers are what C's ``strtod`` reads, hexadecimal ones included: ``0x1.`` is one, dot and all.
- ``is not`` and ``not in`` are tokens whatever follows: ``is nottorch`` is ``is not``, ``torch``.
- ``# type:`` begins no comment.

It would take a backslash between tokens as well, but whoever writes files for it writes none. The
repetitions are possessive: to go back in a long text would take a hundred times its memory."""


class NotCode(Exception):
    """Torch's lexer would not read it, or nobody can tell how."""


def tokens_of(source: str) -> Iterator[str]:
    """Yield the tokens, without blanks and comments; takes memory for one of them at a time.

    :raises NotCode: at the first character that begins none.
    """
    end = 0
    while end < len(source):
        match = TOKEN.match(source, end)
        if match is None:
            raise NotCode
        end = match.end()
        if match[1]:
            yield match[1]
