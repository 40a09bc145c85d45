"""A model that keeps state between requests: ``python sequence.py [HOST:PORT]``.

It calls a model ``sum`` with one input ``x``, FP32 ``[N, 1]``, that adds up what a sequence sends;
docs/models.md says how such a model is written.
"""

from __future__ import annotations

import sys

import numpy as np

from jitney_client import Client, Sequence


def main(address: str) -> None:
    """Run two sequences, one in the midst of the other."""
    with Client(address, timeout=5.0) as client:
        ones, tens = Sequence(), Sequence()
        for _ in range(3):
            # The first next() starts the sequence.
            client.infer("sum", np.full((1, 1), 1, np.float32), **ones.next())
            client.infer("sum", np.full((1, 1), 10, np.float32), **tens.next())
        for sequence in (ones, tens):
            result = client.infer("sum", np.zeros((1, 1), np.float32), **sequence.last())
            print(float(result["y"][0, 0]))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001")
