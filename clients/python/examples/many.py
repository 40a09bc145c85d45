"""A long list, a few requests at a time, results in order: ``python many.py [HOST:PORT]``.

Runs against ``make serve``. On a terminal it shows a bar.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from jitney_client import Client, InferResult

if TYPE_CHECKING:
    from collections.abc import Iterator


def rows() -> Iterator[dict[str, np.ndarray]]:
    """Yield requests, one of which is wrong. They are taken as they are needed."""
    for n in range(200):
        dtype = np.float64 if n == 50 else np.int32
        yield {"INPUT0": np.full((1, 16), n, dtype), "INPUT1": np.ones((1, 16), np.int32)}


def main(address: str) -> None:
    """Score all rows; one that fails is reported, and not the end."""
    total = 0
    with Client(address, timeout=5.0) as client:
        results = client.infer_many(
            "simple", rows(), concurrency=8, progress=True, return_errors=True
        )
        for number, result in enumerate(results):
            if isinstance(result, InferResult):
                total += int(result["OUTPUT0"][0, 0])
            else:
                print(f"row {number}: {result}")
    print("total:", total)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001")
