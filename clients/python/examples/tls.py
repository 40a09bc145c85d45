"""An encrypted connection on which both sides show who they are.

``python tls.py HOST:PORT CA CERTIFICATE KEY``, for a server that was started with
``--tls-certificate``, ``--tls-key`` and ``--tls-client-ca``.
"""

from __future__ import annotations

import sys

import numpy as np

from jitney_client import Client, Tls


def main(address: str, ca: str, certificate: str, key: str) -> None:
    """Call the sample model ``simple``."""
    tls = Tls(ca=ca, certificate=certificate, key=key)
    # On an encrypted connection a token may go along as well: token="...".
    with Client(address, timeout=5.0, tls=tls) as client:
        one = np.ones((1, 16), np.int32)
        result = client.infer("simple", {"INPUT0": one, "INPUT1": one})
        print(result["OUTPUT0"][0, :3])


if __name__ == "__main__":
    main(*sys.argv[1:])
