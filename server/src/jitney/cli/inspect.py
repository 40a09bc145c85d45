"""``jitney inspect FILE``: what a model file says about itself, and what it lacks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from jitney.cli.table import amount, printable
from jitney.errors import ModelError
from jitney.repository.archive import Archive, Kind, read_archive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from jitney.signature import TensorSpec

__all__ = ["describe", "run"]

KIB = 1024


def run(file: Path) -> int:
    """Print what the file says; return 0, or 1 with a line on stderr if it cannot be read."""
    try:
        archive = read_archive(file)
    except ModelError as error:
        sys.stderr.write(f"jitney: {file.name}: {error}\n")
        return 1
    sys.stdout.write(describe(archive))
    return 0


def describe(archive: Archive) -> str:
    """Return the report, lines with a newline each.

    What the file wrote (names, code) is shown with control characters escaped, so that a file
    cannot move the cursor of the terminal that inspects it.
    """
    return "".join(f"{printable(line)}\n" for line in _lines(archive))


def _lines(archive: Archive) -> Iterator[str]:
    made = " (traced)" if archive.traced else ""
    yield f"kind         {archive.kind}{made}"
    yield f"size         {amount(archive.size)}"
    if archive.kind is not Kind.UNKNOWN:
        parts = ", ".join(f"{label} {amount(size)}" for label, size in archive.weights.items())
        yield f"weights      {amount(archive.weight_bytes)}" + (f" ({parts})" if parts else "")
    signature = archive.signature
    if signature is not None:
        if signature.description:
            yield f"description  {signature.description}"
        yield from _tensors("inputs", signature.inputs)
        yield from _tensors("outputs", signature.outputs)
        yield f"batches      {'yes' if signature.batched else 'no'}"
        rows = [sample.inputs[0].shape[0] for sample in archive.samples if sample.inputs[0].shape]
        counts = f" ({', '.join(map(str, rows))} rows)" if signature.batched and rows else ""
        yield f"samples      {len(archive.samples)}{counts}"
    elif archive.arguments:
        texts = (
            f"{name}: {type_}" + ("" if default is None else f" = {default}")
            for name, type_, default in archive.arguments
        )
        yield f"forward      ({', '.join(texts)}) -> {archive.returns}"
    for title, care in zip(_titles("care"), archive.cares, strict=False):
        times = f", {care.times} times" if care.times > 1 else ""
        yield f"{title}{care.operation} in {care.where}{times}: {care.why}"
    refused = [finding for finding in archive.findings if finding.refused]
    for title, finding in zip(_titles("refused"), refused, strict=False):
        yield f"{title}{finding.what} in {finding.where}: {finding.why}"
    for title, text in zip(_titles("missing"), archive.missing(), strict=False):
        yield f"{title}{text}"
    if signature is None and archive.kind is not Kind.UNKNOWN:
        yield ""
        yield from archive.skeleton().splitlines()


def _tensors(title: str, specs: Sequence[TensorSpec]) -> Iterator[str]:
    width = max(len(spec.name) for spec in specs)
    for head, spec in zip(_titles(title), specs, strict=False):
        shape = ", ".join(map(str, spec.shape))
        notes = ["optional"] if spec.optional else []
        if spec.low is not None or spec.high is not None:
            low, high = ("" if b is None else f"{b:g}" for b in (spec.low, spec.high))
            notes.append(f"{low}..{high}")
        if spec.labels:
            notes.append(f"{len(spec.labels)} labels")
        line = f"{head}{spec.name:{width}}  {spec.datatype.value} [{shape}]"
        yield line + (f"  {', '.join(notes)}" if notes else "")


def _titles(title: str) -> Iterator[str]:
    """Yield the title once and blanks for ever: the column of a list's further lines."""
    yield f"{title:13}"
    while True:
        yield " " * 13
