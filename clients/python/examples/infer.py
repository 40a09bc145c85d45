"""One call, its options, and what may go wrong: ``python infer.py [HOST:PORT]``.

Runs against ``make serve``.
"""

from __future__ import annotations

import sys

import numpy as np

from jitney_client import Client, InvalidRequest, ModelNotFound, Unavailable


def main(address: str) -> None:
    """Call the sample model ``simple``."""
    a = np.arange(16, dtype=np.int32).reshape(1, 16)
    b = np.ones((1, 16), np.int32)
    # The timeout is for every call that has none of its own; the server is told, too.
    with Client(address, timeout=5.0) as client:
        client.wait_until_ready("simple")

        result = client.infer("simple", {"INPUT0": a, "INPUT1": b})
        print(result)
        print("sum:", result["OUTPUT0"][0, :4], "by version", result.model_version)

        result = client.infer(
            "simple",
            {"INPUT0": a, "INPUT1": b},
            outputs=["OUTPUT1"],
            request_id="example-1",
            priority=1,
            timeout=2.0,
            timing=True,
        )
        assert result.timing is not None
        print(list(result), result.request_id, "took some time:", result.timing.total > 0)

        # Wrong dtypes and shapes are found before anything is sent.
        try:
            client.infer("simple", {"INPUT0": a.astype(np.float32), "INPUT1": b})
        except InvalidRequest as error:
            print("refused:", error)
        try:
            client.infer("simpel", {"INPUT0": a, "INPUT1": b})
        except ModelNotFound as error:
            print("refused:", error)
        except Unavailable as error:
            # Not ready, or not there. It was tried a few times before it is raised.
            print("try later:", error)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001")
