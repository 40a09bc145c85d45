"""Many calls at the same time, without threads: ``python asynchronous.py [HOST:PORT]``.

Runs against ``make serve``. ``AsyncClient`` has the methods of ``Client``, to be awaited.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np

from jitney_client import AsyncClient


async def main(address: str) -> None:
    """Call the sample model ``simple`` ten times at once."""
    one = np.ones((1, 16), np.int32)
    async with AsyncClient(address, timeout=5.0) as client:
        calls = [client.infer("simple", {"INPUT0": one * n, "INPUT1": one}) for n in range(10)]
        results = await asyncio.gather(*calls)
        print([int(result["OUTPUT0"][0, 0]) for result in results])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001"))
