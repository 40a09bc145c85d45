"""Large tensors without copying them through a socket: ``python shared_memory.py [HOST:PORT]``.

For a server on the same machine that allows it:

    jitney serve --model-repository clients/python/examples/models --allow-client-shm true

Nothing has to be said on the client's side: it is used where the server offers it, for tensors of
256 KiB and more whose size is known. True, instead of "auto", makes it an error where it is not.
"""

from __future__ import annotations

import sys

import numpy as np

from jitney_client import Client


def main(address: str) -> None:
    """Send 8 MiB back and forth."""
    image = np.arange(1 << 21, dtype=np.float32).reshape(1, 1 << 21)
    with Client(address, timeout=10.0, shared_memory=True) as client:
        result = client.infer("large", image)
        # A view of the shared memory: it is used again when nobody has the array any more.
        print(result["y"].nbytes, bool((result["y"] == image).all()))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001")
