"""Compare our server with others: ``python -m benchmarks.compare``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import machine
from benchmarks.command import add_results, end_on_sigterm
from benchmarks.compare.contest import Contest
from benchmarks.compare.table import (
    model_document,
    model_text,
    peers_document,
    peers_text,
    point_text,
)
from benchmarks.comparison import Effort
from benchmarks.peers import loop
from benchmarks.peers.exhibits import EXHIBITS
from benchmarks.peers.registry import PEERS
from benchmarks.process import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.compare.figures import ModelResult
    from benchmarks.peers.exhibits import Exhibit
    from benchmarks.peers.peer import Peer

OURS = "jitney"
ASKED_ONLY = ("rayserve",)
"""Peers that nobody should start without knowing that."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; return 1 when a bar was missed, or a figure of ours is void."""
    options = _parser().parse_args(arguments)
    end_on_sigterm()
    effort = Effort(options.rounds, options.seconds)
    # Ours always: every ratio is to it.
    peers = [peer for name, peer in PEERS.items() if name in options.peers or name == OURS]
    facts = machine.describe()
    print(peers_text(peers), flush=True)
    results: dict[str, ModelResult] = {}
    failed = False
    for name in options.models:
        exhibit = EXHIBITS[name]
        if options.threads is not None:
            exhibit = dataclasses.replace(exhibit, threads=options.threads)
        concurrency = options.concurrency or exhibit.concurrency
        with_loop = exhibit.loop and loop.NAME in options.peers
        try:
            results[name] = _compare(exhibit, peers, concurrency, effort, with_loop=with_loop)
        except BenchmarkError as error:
            print(f"## {name}: failed\n\n{error}\n", file=sys.stderr)
            failed = True
    document = {
        **facts,
        "benchmark": "compare",
        "title": "our server beside others: the same models, inputs and callers, in turn",
        "arrivals": "closed loop: every caller sends its next request when the last was answered",
        **effort._asdict(),
        "peers": peers_document(peers),
        "models": {name: model_document(result) for name, result in results.items()},
    }
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "compare.json").write_text(json.dumps(document, indent=1) + "\n")
    return int(failed or any(map(_missed, results.values())))


def _compare(
    exhibit: Exhibit,
    peers: Sequence[Peer],
    concurrency: Sequence[int],
    effort: Effort,
    *,
    with_loop: bool,
) -> ModelResult:
    def say(text: str) -> None:
        print(f".. {text}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder, Contest(exhibit, Path(folder), say) as contest:
        for peer in peers:
            contest.admit(peer)
        if with_loop:
            contest.admit_loop()
        for many in concurrency:
            print(point_text(contest.run(many, effort)), flush=True)
        print(model_text(contest.result), flush=True)
        return contest.result


def _missed(result: ModelResult) -> bool:
    """Return whether our server took no part, has a void figure, or missed a bar."""
    ours = PEERS[OURS].title
    return ours in result.absent or any(
        point.places[ours].void or any(one.verdict == "miss" for one in point.ratios)
        for point in result.points
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    names = [*PEERS, loop.NAME]
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=names,
        default=[name for name in names if name not in ASKED_ONLY],
        metavar="PEER",
        help=f"of {', '.join(names)}; {OURS} takes part always, {', '.join(ASKED_ONLY)} only when "
        "named, as it listens on all interfaces",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        choices=tuple(EXHIBITS),
        default=tuple(EXHIBITS),
        metavar="MODEL",
        help=f"of {', '.join(EXHIBITS)}",
    )
    parser.add_argument(
        "--concurrency", nargs="+", type=int, metavar="N", help="calls in flight (by model)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="of PyTorch in every peer but ours (1 for small models, else one per core)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every point")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of each visit")
    add_results(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
