"""What a TorchScript file could do to the machine that loads it, told from its text alone.

It is a guard where ``code.find_cares`` is a reading aid: whoever wrote the file may want to get
past it. So the code is cut into tokens exactly as torch's own lexer does (``code_tokens``),
whatever cannot be cut counts as found, and what is looked for are names and not their usual
spelling. Still it is no proof: torch has thousands of operators, and a bug in one of them is
enough. What remains is the worker's process.

Compared with torch 2.13, of whose 4,389 operators ``aten::save``, ``aten::from_file`` and
``debugprims::load_tensor`` touch files, and those of ``c10d`` and ``prim::rpc_*`` the network.
"""

from __future__ import annotations

import io
import pickletools
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import ModelError
from jitney.repository.code_tokens import NotCode, tokens_of
from jitney.repository.pickles import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jitney.repository.container import Container

__all__ = ["MAX_PICKLE_BYTES", "Finding", "scan_archive", "scan_code", "scan_pickle"]


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
OLDEST: Final = "torch would read the file in its oldest form, whose code is in other places"
DISGUISED: Final = "torch looks names up without regard to case, and would find it all the same"
PRINTS: Final = "writes to the worker's output, once per batch"

OPERATORS: Final[Mapping[str, tuple[tuple[re.Pattern[str], str, bool], ...]]] = {
    "aten": (
        (re.compile(r"save|from_file"), FILES, True),
        (re.compile(r"_sparse_\w+_unsafe|_reshape_alias\w*"), MEMORY, True),
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
METHODS: Final = frozenset({"_reshape_alias", "_reshape_alias_copy"})
"""Those of the operators above that any tensor has as methods, so that no namespace is named."""
CLASSES: Final = frozenset(
    {"quantized", "xnnpack", "mkldnn", "rnn", "sparse", "quantization", "profiler"}
)
"""Namespaces of classes written in C++ that hold packed weights, or the name of a step."""
HIDEOUTS: Final = (["__torch__"], ["__torch__", "torch"], ["__torch__", "torch", "classes"])
"""Under another name, these lead to every class written in C++."""
PICKLED: Final = frozenset({"torch", "torch._utils", "torch.jit._pickle", "collections"})
"""Modules that torch's own pickles name, beside the classes of the file and ``complex``."""

MAX_PICKLE_BYTES: Final = 32 << 20
"""Room for a vocabulary of a million words; to look through that takes a second or more."""
QUOTES: Final = ("'", '"')
SHOWN: Final = 60
MOST_FOUND: Final = 100
"""Findings of one file that are kept."""
MOST_NAMES: Final = 6
"""Names joined by dots that are looked at; of more, these many less one, and the last."""
IN_USE: Final = re.compile(
    r"\b(?:torch|ops|__torch__|print|getattr|__setstate__)\b|_reshape_alias|\\|[^\x00-\x7f]|[\"'#]"
)
"""Without any of these, there is nothing to be found."""


def scan_archive(container: Container, sources: Mapping[str, str]) -> tuple[Finding, ...]:
    """Return what is found in a file, each kind once, those that are refused first.

    :param sources: the texts of its code, by their path.
    """
    found: dict[tuple[str, str], Finding] = {}
    for finding in _all_of(container, sources):
        found.setdefault((finding.what, finding.why), finding)
        if len(found) == MOST_FOUND:
            break
    return tuple(sorted(found.values(), key=lambda finding: not finding.refused))


def _all_of(container: Container, sources: Mapping[str, str]) -> Iterator[Finding]:
    for name in container.names():
        if name.lower() == "model.json":
            yield Finding(name, "the archive", OLDEST)
        elif _is_disguised(name):
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
    where = where[:SHOWN]
    try:
        for before, names, after in _names(source):
            if before != "def" and not METHODS.isdisjoint(names):
                yield Finding(f"aten::{min(METHODS.intersection(names))}", where, MEMORY)
            if before != ".":
                yield from _named(where, before, names, after)
        if "getattr" in source:
            yield from _got(where, source)
    except NotCode:
        yield Finding(where, where, UNREAD)


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
        elif module not in PICKLED and value != "builtins complex":
            yield Finding(f"{module}.{name}"[:SHOWN], where, UNKNOWN)


def _names(source: str) -> Iterator[tuple[str, list[str], str]]:
    """Yield names, all that are joined by dots together, with the tokens before and after them.

    :raises NotCode: when torch would not read it.
    """
    names: list[str] = []
    before = last = ""
    for part in tokens_of(source):
        if names and last == "." and part.isidentifier():
            # Both bounds keep a hostile file from taking any time and memory that it wants.
            if len(names) == MOST_NAMES or names[-1] == part == "autograd":
                names.pop()
            names.append(part)
        elif not names or part != ".":
            if names:
                yield before, names, part
            before, names = last, [part] if part.isidentifier() else []
        last = part
    if names:
        yield before, names, ""


def _named(where: str, before: str, names: list[str], after: str) -> Iterator[Finding]:
    word = names[0]
    if before in ("def", "class"):
        if word == "__setstate__":
            yield Finding(word, where, AT_LOAD)
    elif word in ("torch", "ops"):
        # Alone, and before a colon, it is an attribute of a class, which may have this name.
        if names != [word] or after != ":":
            yield from _operator(where, names)
    elif word == "__torch__":
        if names in HIDEOUTS:
            yield Finding(".".join(names), where, HIDDEN)
        yield from _class_named(where, names)
    elif names == ["print"] and after == "(":
        yield Finding("print", where, PRINTS, refused=False)


def _got(where: str, source: str) -> Iterator[Finding]:
    """Yield what is taken with ``getattr``, for which torch writes the text of a plain name.

    :raises NotCode: when torch would not read it.
    """
    names_it: list[bool] = []  # for each bracket that is open, whether a text in it does
    last = ""
    for part in tokens_of(source):
        if last == "getattr" and part != "(":
            yield Finding("getattr", where, HIDDEN)
        elif part in "([{":
            is_around = part == "(" and names_it[-1:] == [True] and last in ("(", ",")
            names_it.append(is_around or last == "getattr")
        elif part in ")]}":
            del names_it[-1:]
        elif part[0] in QUOTES and names_it[-1:] == [True]:
            if "\\" in part or last[:1] in QUOTES:
                yield Finding("getattr", where, HIDDEN)
            elif (name := part.strip(part[0])) in METHODS:
                yield Finding(f"aten::{name}", where, MEMORY)
        last = part


def _operator(where: str, names: list[str]) -> Iterator[Finding]:
    word = names[0]
    chain = ["aten", *names[1:]] if word == "torch" else names[1:]
    if chain[1:2] == ["autograd"]:  # which torch takes for the namespace aten, below any
        chain = ["aten", *chain[2:]]
    if len(chain) < 2:  # noqa: PLR2004  # a namespace and a name
        yield Finding(".".join([word, *chain])[:SHOWN], where, HIDDEN)
        return
    namespace, name = chain[:2]
    if namespace not in NAMESPACES:
        yield Finding(f"{namespace}::{name}"[:SHOWN], where, UNKNOWN)
    for pattern, why, refused in OPERATORS.get(namespace, ()):
        if pattern.fullmatch(name):
            yield Finding(f"{namespace}::{name}"[:SHOWN], where, why, refused)


def _class_named(where: str, chain: list[str]) -> Iterator[Finding]:
    """Yield a class that is written in C++, by the name ``__torch__.torch.classes.space.Name``."""
    if chain[1:3] == ["torch", "classes"] and (len(chain) < 4 or chain[3] not in CLASSES):  # noqa: PLR2004  # space
        yield Finding(".".join(chain[1:])[:SHOWN], where, UNKNOWN)
