"""What the code inside a TorchScript file says, read as text.

TorchScript keeps its methods as Python-like source. It is not parsed with ``ast``: on hostile input
that can exhaust the C stack and end the process. A search through the lines suffices for what a
person wants to know; it is a reading aid and not a guard (the guard is the worker's process).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Argument", "Care", "Forward", "find_cares", "read_forward"]


class Argument(NamedTuple):
    """An argument of ``forward``: its type as TorchScript writes it, its default or None."""

    name: str
    type: str
    default: str | None


class Forward(NamedTuple):
    """The arguments of ``forward`` without ``self``, and the type that it returns."""

    arguments: tuple[Argument, ...]
    returns: str


class Care(NamedTuple):
    """An operation that an operator should know about before serving the model.

    ``where`` is the first method that has it, ``times`` how often it occurs in all of the code.
    """

    operation: str
    where: str
    times: int
    why: str


FILES: Final = "reads or writes files of the machine that serves"
SETSTATE: Final = "runs while the file is loaded, before any check of its answers"
STATE: Final = "writes into the model: a reply may depend on earlier requests"
PRINT: Final = "writes to the worker's output, once per batch"
RANDOM: Final = "draws random numbers: equal requests get different replies"
TRAINING: Final = "saved in training mode: dropout stays active; call eval() before tracing"
SEED: Final = "changes the random state of the whole worker"
ENDLESS: Final = "a loop without a bound: an input may keep the device busy for ever"
CUSTOM: Final = "an operator that is not part of torch: the worker must have its library"
DEVICE: Final = "a device fixed when the model was saved: it may not run on another one"

DRAWING: Final = (
    "rand|randn|rand_like|randn_like|randint|randint_like|randperm|normal|normal_|bernoulli|"
    "bernoulli_|binomial|multinomial|poisson|uniform_|random_|exponential_|geometric_|cauchy_|"
    "log_normal_"
)
PATTERNS: Final = (
    (re.compile(r"\b(?:torch|ops\.aten)\.(from_file|save)\("), "aten::{}", FILES),
    (re.compile(rf"\b(?:torch|ops\.aten)\.({DRAWING})\("), "aten::{}", RANDOM),
    (re.compile(r"\btorch\.((?:feature_|alpha_)?dropout_?)\([^()]*, True\)"), "aten::{}", TRAINING),
    (re.compile(r"\b(?:torch|ops\.aten)\.(manual_seed|seed)\("), "aten::{}", SEED),
    (re.compile(r"^\s+(while) "), "{}", ENDLESS),
    (re.compile(r"(?:^|[^\w.])(print)\("), "{}", PRINT),
    (re.compile(r'\btorch\.device\("(cuda[:\d]*|cpu)"\)'), "device {}", DEVICE),
)
OPERATOR: Final = re.compile(r"\bops\.(\w+)\.(\w+)")
ATTRIBUTE: Final = re.compile(r"^\s+self\.(\w+) = ")
BUILT_IN: Final = frozenset(
    {"aten", "prim", "prims", "quantized", "_quantized", "sparse", "mkldnn", "mkldnn_prepacked",
     "prepacked", "xnnpack", "profiler"}
)  # fmt: skip
"""Namespaces of operators that every build of torch may have."""


def find_cares(sources: Mapping[str, str]) -> tuple[Care, ...]:
    """Return what deserves care in the code, in the order of its first occurrence.

    :param sources: texts of the code files by their path.
    """
    found: dict[tuple[str, str], Care] = {}
    for source in sources.values():
        class_name, method = "", ""
        for line in source.splitlines():
            if line.startswith("class "):
                class_name = _name_after(line, "class ")
            elif line.startswith("  def "):
                method = _name_after(line, "  def ")
            for operation, why in _cares_of(line, method):
                where = f"{class_name}.{method}".strip(".")
                care = found.get((operation, why), Care(operation, where, 0, why))
                found[operation, why] = care._replace(times=care.times + 1)
    return tuple(found.values())


def _cares_of(line: str, method: str) -> list[tuple[str, str]]:
    cares = [
        (template.format(match.group(1)), why)
        for pattern, template, why in PATTERNS
        for match in pattern.finditer(line)
    ]
    cares += [
        (f"{match.group(1)}::{match.group(2)}", CUSTOM)
        for match in OPERATOR.finditer(line)
        if match.group(1) not in BUILT_IN
    ]
    if line.startswith("  def __setstate__("):
        cares.append(("__setstate__", SETSTATE))
    elif method != "__setstate__" and (attribute := ATTRIBUTE.match(line)):
        cares.append((f"self.{attribute.group(1)} =", STATE))
    return cares


def _name_after(line: str, keyword: str) -> str:
    return line[len(keyword) :].partition("(")[0].partition(":")[0]


def read_forward(source: str, class_name: str) -> Forward | None:
    """Return the arguments of ``forward`` of a class, None where it has none."""
    start = f"\n{source}".find(f"\nclass {class_name}(")
    if start < 0:
        return None
    end = source.find("\nclass ", start)
    body = source[start : end if end >= 0 else len(source)]
    marker = "\n  def forward("
    if (start := body.find(marker)) < 0:
        return None
    parts, rest = _split_arguments(body[start + len(marker) :])
    arguments = []
    for part in parts[1:]:
        name, _, annotated = part.partition(":")
        type_, equals, default = annotated.partition("=")
        arguments.append(Argument(name.strip(), type_.strip(), default.strip() if equals else None))
    returns = rest.partition("\n")[0].strip().removeprefix("->").rstrip(":")
    return Forward(tuple(arguments), returns.strip())


def _split_arguments(text: str) -> tuple[list[str], str]:
    """Split at the commas of the outermost level; return the parts and what follows the ``)``."""
    parts, depth, begin, quote = [], 0, 0, ""
    for position, character in enumerate(text):
        if quote:
            # Defaults are the only strings here; an escaped quote is preceded by a backslash.
            if character == quote and text[position - 1] != "\\":
                quote = ""
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}" and depth:
            depth -= 1
        elif depth == 0 and character in ",)":
            parts.append(text[begin:position])
            begin = position + 1
            if character == ")":
                return [part for part in parts if part.strip()], text[begin:]
    return [], ""
