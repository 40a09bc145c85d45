"""What a TorchScript file could do to the machine that loads it, told from its text alone.

It is a guard where ``code.find_cares`` is a reading aid: whoever wrote the file may want to get
past it. So the code is cut into tokens exactly as torch's own lexer does, whatever cannot be cut
counts as found, and what is looked for are names and not their usual spelling. Still it is no
proof: torch has thousands of operators, and a bug in one of them is enough. What remains is the
worker's process.

Compared with torch 2.13, of whose 4,389 operators ``aten::save``, ``aten::from_file`` and
``debugprims::load_tensor`` touch files, and those of ``c10d`` and ``prim::rpc_*`` the network.
"""

from __future__ import annotations

import io
import pickletools
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import ModelError
from jitney.repository.pickles import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jitney.repository.container import Container

__all__ = ["Finding", "scan_archive", "scan_code", "scan_pickle"]


class Finding(NamedTuple):
    """Something in a file; ``refused`` tells whether it is reason enough not to load it.

    ``what`` and ``where`` come out of the file, cut to a sensible length.
    """

    what: str
    where: str
    why: str
    refused: bool = True


FILES: Final = "reads or writes files of the machine that serves"
NETWORK: Final = "talks to other machines"
MEMORY: Final = "reads and writes memory without looking where"
AT_LOAD: Final = "runs while the file is loaded, before anything it does was looked at"
UNKNOWN: Final = "no part of torch: what it does, only its library tells"
HIDDEN: Final = "torch's own operators, taken in a way that hides which of them is used"
UNREAD: Final = "cannot be read as code; torch would read it in its own way"
DISGUISED: Final = "torch looks names up without regard to case, and would find it all the same"
PRINTS: Final = "writes to the worker's output, once per batch"

OPERATORS: Final[Mapping[str, tuple[tuple[re.Pattern[str], str, bool], ...]]] = {
    "aten": (
        (re.compile(r"save|from_file"), FILES, True),
        (re.compile(r"_sparse_\w+_unsafe"), MEMORY, True),
        (re.compile(r"_print"), PRINTS, False),
    ),
    "prim": (
        (re.compile(r"rpc_\w+"), NETWORK, True),
        (re.compile(r"PythonOp|IgnoredPythonOp"), UNKNOWN, True),
        (re.compile(r"Print"), PRINTS, False),
    ),
    "mkldnn": ((re.compile(r"data_ptr"), MEMORY, True),),
}
"""Operators that are found, by their namespace: a pattern of whole names, why, and how bad."""
NAMESPACES: Final = frozenset(
    {"aten", "prim", "prims", "quantized", "_quantized", "quantization", "sparse", "mkldnn", "mkl",
     "mkldnn_prepacked", "onednn", "prepacked", "xnnpack", "profiler", "static_runtime"}
)  # fmt: skip
"""Those of torch's namespaces whose operators compute, and do nothing else but what is above."""
CLASSES: Final = frozenset({"quantized", "xnnpack", "mkldnn", "rnn", "sparse", "quantization"})
"""Namespaces of classes written in C++ that hold packed weights."""
PICKLED: Final = frozenset({"torch", "torch._utils", "torch.jit._pickle", "collections"})
"""Modules that torch's own pickles name, beside the classes of the file."""

MAX_PICKLE_BYTES: Final = 8 << 20
SHOWN: Final = 60
TOKEN: Final = re.compile(
    r"""
      (?P<blank>[ \t\r\n\f\v]+ | \#[^\n]*)
    | (?P<text>
          \"\"\"(?:[^"\\]|\\[\s\S]|"(?!""))*\"\"\" | "(?!"")(?:[^"\\\n]|\\[\s\S])*"
        | '''(?:[^'\\]|\\[\s\S]|'(?!''))*'''       | '(?!'')(?:[^'\\\n]|\\[\s\S])*'
      )
    | (?P<number>[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>[!-&(-/:-@\[\]^`{-~])
    """,
    re.VERBOSE,
)
"""As torch's lexer cuts, which takes no other character outside of texts and comments: it would
take a backslash, but whoever writes files for it writes none."""
IN_USE: Final = re.compile(r"\b(?:torch|ops|__torch__|print|__setstate__)\b|\\|[^\x00-\x7f]|[\"'#]")
"""Without any of these, there is nothing to be found."""


def scan_archive(container: Container, sources: Mapping[str, str]) -> tuple[Finding, ...]:
    """Return what is found in a file, each kind once, those that are refused first.

    :param sources: the texts of its code, by their path.
    """
    found: dict[tuple[str, str], Finding] = {}
    for finding in _all_of(container, sources):
        found.setdefault((finding.what, finding.why), finding)
    return tuple(sorted(found.values(), key=lambda finding: not finding.refused))


def _all_of(container: Container, sources: Mapping[str, str]) -> Iterator[Finding]:
    for name in container.names():
        if _is_disguised(name):
            yield Finding(name[:SHOWN], "the archive", DISGUISED)
    for name, source in sources.items():
        yield from scan_code(name, source)
    for name in ("data.pkl", "constants.pkl"):
        if name not in container:
            continue
        try:
            data = container.read(name, MAX_PICKLE_BYTES)
        except ModelError:
            yield Finding(name, "the archive", UNREAD)
        else:
            yield from scan_pickle(name, data)


def _is_disguised(name: str) -> bool:
    """Whether torch would take an entry for code, or for a pickle, that we would not."""
    low = name.lower()
    is_code = low.startswith("code/") and low.endswith(".py")
    usual = name.startswith("code/") and name.endswith(".py")
    return (is_code and not usual) or (low in {"data.pkl", "constants.pkl"} and low != name)


def scan_code(where: str, source: str) -> Iterator[Finding]:
    """Yield what is found in one file of code."""
    if not IN_USE.search(source):
        return
    tokens = _tokens(source)
    if tokens is None:
        yield Finding(where[:SHOWN], where[:SHOWN], UNREAD)
        return
    before = ""
    for place, word in enumerate(tokens):
        if before != ".":
            if word in ("torch", "ops") and before != "def":
                yield from _operator(where, word, tokens, place)
            elif word == "__torch__":
                yield from _class_named(where, _chain(tokens, place))
            elif word == "print" and tokens[place + 1 : place + 2] == ["("] and before != "def":
                yield Finding("print", where[:SHOWN], PRINTS, refused=False)
        if word == "__setstate__" and before == "def":
            yield Finding("__setstate__", where[:SHOWN], AT_LOAD)
        before = word


def scan_pickle(where: str, data: bytes) -> Iterator[Finding]:
    """Yield the classes of a pickle that are neither torch's nor the file's own."""
    seen: set[str] = set()
    try:
        for opcode, value, _ in pickletools.genops(io.BytesIO(data)):
            if opcode.name in {"GLOBAL", "INST"}:
                seen.add(str(value))
            elif opcode.name == "STACK_GLOBAL" or opcode.name.startswith("EXT"):
                yield Finding(f"a class by {opcode.name}", where, UNKNOWN)
    except UNREADABLE:
        yield Finding(where, where, UNREAD)
    for value in sorted(seen):
        module, _, name = value.rpartition(" ")
        if module == "__torch__" or module.startswith("__torch__."):
            yield from _class_named(where, [*module.split("."), name])
        elif module not in PICKLED:
            yield Finding(f"{module}.{name}"[:SHOWN], where, UNKNOWN)


def _tokens(source: str) -> list[str] | None:
    """Return the tokens without blanks and comments, texts as ``""``; None where it is no code."""
    tokens, end = [], 0
    while end < len(source):
        match = TOKEN.match(source, end)
        if match is None:
            return None
        end = match.end()
        if match.lastgroup != "blank":
            tokens.append('""' if match.lastgroup == "text" else match.group())
    return tokens


def _chain(tokens: list[str], place: int) -> list[str]:
    """Return the names that are joined by dots, beginning at ``place``."""
    chain = [tokens[place]]
    while tokens[place + 1 : place + 2] == ["."] and place + 2 < len(tokens):
        place += 2
        chain.append(tokens[place])
    return chain


def _operator(where: str, word: str, tokens: list[str], place: int) -> Iterator[Finding]:
    if tokens[place + 1 : place + 2] == [":"]:
        return  # an attribute of a class that happens to have this name
    chain = ["aten", *_chain(tokens, place)[1:]] if word == "torch" else _chain(tokens, place)[1:]
    while chain[1:2] == ["autograd"]:  # which torch takes for the namespace aten, below any
        chain = ["aten", *chain[2:]]
    if len(chain) < 2:  # noqa: PLR2004  # a namespace and a name
        yield Finding(".".join([word, *chain])[:SHOWN], where[:SHOWN], HIDDEN)
        return
    namespace, name = chain[:2]
    if namespace not in NAMESPACES:
        yield Finding(f"{namespace}::{name}"[:SHOWN], where[:SHOWN], UNKNOWN)
    for pattern, why, refused in OPERATORS.get(namespace, ()):
        if pattern.fullmatch(name):
            yield Finding(f"{namespace}::{name}"[:SHOWN], where[:SHOWN], why, refused)


def _class_named(where: str, chain: list[str]) -> Iterator[Finding]:
    """Yield a class that is written in C++, by the name ``__torch__.torch.classes.space.Name``."""
    if chain[1:3] == ["torch", "classes"] and (len(chain) < 4 or chain[3] not in CLASSES):  # noqa: PLR2004  # space
        yield Finding(".".join(chain[1:])[:SHOWN], where[:SHOWN], UNKNOWN)
