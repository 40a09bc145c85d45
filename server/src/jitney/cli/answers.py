"""A model's answer as text: JSON, arrays, classes, or vectors and how near they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from jitney.cli.table import printable, table
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from jitney.cli.arrays import Array
    from jitney_client import InferResult

__all__ = ["as_arrays", "as_classes", "as_json", "as_vectors", "read_labels"]

TOP: Final = 3
"""Classes shown per image."""

HEAD: Final = 6
"""Elements shown of a vector."""

SHOWN: Final = 100
"""Elements of an array that are shown in full."""

MATRIX: Final = 2


def as_json(result: InferResult) -> str:
    """Return the whole answer as one JSON object.

    Bytes are written as text, with escapes for what is not UTF-8. Numbers that JSON lacks are
    written as Python does: NaN, Infinity.
    """
    outputs = {
        name: {"shape": list(array.shape), "data": _decoded(array).tolist()}
        for name, array in result.items()
    }
    answer = {"model": result.model_name, "version": result.model_version, "outputs": outputs}
    return json.dumps(answer) + "\n"


def as_arrays(result: InferResult) -> str:
    """Return each output with its shape; large ones are shortened."""
    return "".join(f"{line}\n" for line in _array_lines(result))


def _array_lines(result: InferResult) -> Iterator[str]:
    yield f"{result.model_name}, version {result.model_version}"
    for name, array in result.items():
        kind = "bytes" if array.dtype == np.object_ else array.dtype.name
        yield f"{printable(name)}: {kind} {list(array.shape)}"
        text = np.array2string(_decoded(array), threshold=SHOWN, max_line_width=96)
        yield from (f"  {printable(line)}" for line in text.splitlines())


def as_classes(result: InferResult, titles: Sequence[str], labels: Sequence[str] = ()) -> str:
    """Return the likeliest classes of each row, or the arrays where there is nothing like scores.

    :param titles: what each row is.
    :param labels: names of the classes; without, their numbers.
    :raises ConfigError: when there are labels for another number of classes.
    """
    scores = _matrix(result, len(titles))
    if scores is None:
        return as_arrays(result)
    if labels and len(labels) != scores.shape[1]:
        msg = f"--labels: {len(labels)} names for {scores.shape[1]} classes"
        raise ConfigError(msg)
    rows = []
    for title, shares in zip(titles, _probabilities(scores), strict=True):
        best = np.argsort(-shares, kind="stable")[:TOP]
        names = [labels[i] if labels else str(i) for i in best]
        texts = [f"{name} {shares[i]:.1%}" for name, i in zip(names, best, strict=True)]
        rows.append((title, names[0], ", ".join(texts)))
    return "".join(f"{line}\n" for line in table(("IMAGE", "LABEL", "PROBABILITIES"), rows))


def as_vectors(result: InferResult, texts: Sequence[str]) -> str:
    """Return the beginning of each row's vector and, for several, the cosines between them."""
    vectors = _matrix(result, len(texts))
    if vectors is None:
        return as_arrays(result)
    lines = []
    for number, (text, vector) in enumerate(zip(texts, vectors, strict=True), 1):
        head = " ".join(f"{value:+.4f}" for value in vector[:HEAD])
        more = " ..." if vector.size > HEAD else ""
        length = float(np.linalg.norm(vector))
        lines.append(f"{number}  {printable(text)}")
        lines.append(f"   {head}{more}  ({vector.size} values, length {length:.4f})")
    if len(texts) > 1:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = vectors / np.where(lengths == 0, 1, lengths)
        numbers = [str(number) for number in range(1, len(texts) + 1)]
        cosines = (
            (number, *(f"{value:.3f}" for value in row))
            for number, row in zip(numbers, unit @ unit.T, strict=True)
        )
        lines += ["", *table(("cosine", *numbers), list(cosines))]
    return "".join(f"{line}\n" for line in lines)


def read_labels(file: Path) -> tuple[str, ...]:
    """Read one name per line.

    :raises ConfigError: when the file cannot be read.
    """
    try:
        return tuple(file.read_text(encoding="utf-8").splitlines())
    except OSError as error:
        msg = f"--labels {file}: {error.strerror}"
        raise ConfigError(msg) from None
    except UnicodeDecodeError:
        msg = f"--labels {file}: not UTF-8 text"
        raise ConfigError(msg) from None


def _matrix(result: InferResult, rows: int) -> Array | None:
    """Return the first output that is a row of several numbers for each of ``rows``."""
    for array in result.values():
        fits = array.ndim == MATRIX and len(array) == rows and array.shape[1] > 1
        if fits and array.dtype.kind == "f":
            return array.astype(np.float64)
    return None


def _probabilities(scores: Array) -> Array:
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        return scores  # they are probabilities already
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _decoded(array: Array) -> Array:
    if array.dtype != np.object_:
        return array
    texts: list[Any] = [bytes(item).decode("utf-8", "backslashreplace") for item in array.ravel()]
    return np.array(texts, dtype=np.object_).reshape(array.shape)
