"""The commands' connection to a server, and their words for how a call ends."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from jitney.cli.failure import CommandError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from jitney_client import Client

__all__ = ["add_flags", "connect"]

ADDRESS: Final = "127.0.0.1:8001"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which server, and how long to wait for it."""
    parser.add_argument(
        "--address", default=ADDRESS, metavar="HOST:PORT", help=f"the server (default {ADDRESS})"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long one call may take (default 60)",
    )


@contextmanager
def connect(arguments: argparse.Namespace) -> Iterator[Client]:
    """Give a client of the server that the flags name.

    :raises CommandError: when a call inside fails, with the server's text.
    """
    import jitney_client  # noqa: PLC0415  # brings grpc and numpy along

    try:
        with jitney_client.Client(arguments.address, timeout=arguments.timeout) as client:
            yield client
    except jitney_client.Unavailable as error:
        # The same status also means "not ready", which the server says in its own words; these
        # are the words of a client that reached nobody.
        if "connect" not in str(error).lower():
            raise CommandError(str(error)) from None
        msg = f"no server answers at {arguments.address}; start one with: jitney serve"
        raise CommandError(msg) from None
    except jitney_client.DeadlineExceeded as error:
        msg = f"no answer within {arguments.timeout:g} seconds (--timeout): {error}"
        raise CommandError(msg) from None
    except jitney_client.JitneyError as error:
        raise CommandError(str(error)) from None
