r"""Many requests over one call, and models with many replies: ``python stream.py [HOST:PORT]``.

Serve the sample models and ``clients/python/examples/models`` for it:

    jitney serve --model-repository models/repository \
                 --model-repository clients/python/examples/models
"""

from __future__ import annotations

import sys

import numpy as np

from jitney_client import Client


def main(address: str) -> None:
    """Send a hundred requests without waiting in between, and read a decoupled model."""
    one = np.ones((1, 16), np.int32)
    with Client(address) as client, client.stream(max_in_flight=32) as stream:
        # submit() returns at once; result() waits for the reply of this request.
        sent = [stream.submit("simple", {"INPUT0": one * n, "INPUT1": one}) for n in range(100)]
        print(sum(int(request.result()["OUTPUT0"][0, 0]) for request in sent))

        # A decoupled model answers as often as it likes.
        inputs = {
            "IN": np.array([3, 1, 2], np.int32),
            "DELAY": np.zeros(3, np.uint32),
            "WAIT": np.zeros(1, np.uint32),
        }
        for reply in stream.submit("repeat", inputs):
            print("reply", int(reply["OUT"][0]))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001")
