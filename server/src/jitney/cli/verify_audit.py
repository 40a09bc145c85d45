"""``jitney verify-audit``: tells whether the records of an audit log hang together."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jitney.cli.table import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jitney.audit.verification import Verdict

__all__ = ["add_parser", "run"]

EPILOG = """\
What it proves: nothing between the first and the last record was changed, removed, put in or moved
since the last one was written. What it does not: that the last is the last. Whoever may write the
file can cut off its end, or write it anew; give --anchor what the server's log said elsewhere
("audit anchor: record SEQ has the hash HASH"), and both are found.

examples:
  jitney verify-audit audit.jsonl
  jitney verify-audit audit.jsonl.* audit.jsonl --anchor 812:9f86d081884c…

exit codes: 0 the chain holds, 1 it is broken, 2 a file cannot be read, or the command line is wrong
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "verify-audit",
        help="check that an audit log was not changed",
        description="Read the files of an audit log, oldest first, and check that every record "
        "follows the one\nbefore it. The first break is told with its file and line.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="a file of the log; oldest first"
    )
    parser.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="SEQ:HASH",
        help="a record that must be there, as it was noted elsewhere; repeated",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; return 0 where the chain holds, else 1."""
    from jitney.audit.verification import read_anchor, verify  # noqa: PLC0415  # only here

    verdict = verify(arguments.files, map(read_anchor, arguments.anchor))
    if arguments.json:
        sys.stdout.write(json.dumps({"valid": not verdict.broken, **verdict._asdict()}) + "\n")
    else:
        for line in _lines(verdict):
            sys.stdout.write(f"{printable(line)}\n")
    return 1 if verdict.broken else 0


def _lines(verdict: Verdict) -> Iterator[str]:
    for note in verdict.notes:
        yield f"note: {note}"
    if verdict.broken:
        yield f"broken: {verdict.broken}"
        if verdict.records:
            yield f"records {verdict.first} to {verdict.last}, before that, hang together"
    elif not verdict.records:
        yield "no records"
    else:
        yield f"{verdict.records} records, {verdict.first} to {verdict.last}, hang together"
        if verdict.first > 1:
            yield f"they follow record {verdict.first - 1} with the hash {verdict.previous}"
        yield f"anchor {verdict.last}:{verdict.head}"
