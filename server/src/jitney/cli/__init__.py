"""The ``jitney`` command: one file per subcommand, each importing what it needs when it runs.

Exit codes: 0 done; 1 failed (the server, the model or the call); 2 the command line, the settings
or an input file is wrong; 3 done but for some rows of a file (``predict``); 130 interrupted. Errors
are one line on stderr; where a defect of jitney itself may be behind one, ``--traceback`` shows the
whole story.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from jitney.cli import (
    bench,
    import_triton,
    infer,
    manifest,
    pack,
    predict,
    profile,
    serve,
    status,
    token,
    verify,
    verify_audit,
)
from jitney.cli.failure import CommandError
from jitney.errors import ConfigError, JitneyError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
"""What shells give for a process that SIGINT ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code.

    :param argv: the arguments without the program's name; None takes those of the process.
    """
    try:
        arguments = make_parser().parse_args(argv)
    except SystemExit as end:  # argparse has printed the help, or what is wrong
        return end.code if isinstance(end.code, int) else USAGE
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()  # so that a closed pipe is noticed here
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough of it. The interpreter flushes once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ConfigError as error:
        return _explain(str(error), USAGE, arguments)
    except (CommandError, JitneyError) as error:
        return _explain(str(error), FAILED, arguments)
    except Exception as error:  # noqa: BLE001  # the outermost boundary: whatever is left is a bug
        text = f"unexpected {type(error).__name__}: {error} (--traceback shows where)"
        return _explain(text, FAILED, arguments)
    return code


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser: argparse.ArgumentParser = _Parser(
        prog="jitney",
        description="Serves TorchScript models over gRPC, and talks to such servers.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong command line, settings or input file",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="print the version of jitney and exit"
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the program an error came from"
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve.add_parser(subparsers)
    pack.add_parser(subparsers)
    _add_inspect(subparsers)
    profile.add_parser(subparsers)
    import_triton.add_parser(subparsers)
    infer.add_parser(subparsers)
    predict.add_parser(subparsers)
    bench.add_parser(subparsers)
    status.add_parser(subparsers)
    token.add_parser(subparsers)
    manifest.add_parser(subparsers)
    verify.add_parser(subparsers)
    verify_audit.add_parser(subparsers)
    return parser


class _Parser(argparse.ArgumentParser):
    """Shows no secret that somebody wrote where it does not belong; so do its subcommands."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit."""
        super().error(_masked(message))


def _masked(text: str) -> str:
    from jitney.access.tokens import masked  # noqa: PLC0415  # only where something went wrong

    return masked(text)


class _Version(argparse.Action):
    """Prints the version; argparse's own action wants it before anybody asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit."""
        import jitney  # noqa: PLC0415  # reading the installed version takes longer than parsing

        sys.stdout.write(f"jitney {jitney.__version__}\n")
        parser.exit()


def _add_inspect(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="tell what a model file contains, without running it",
        description="Tell a model file's signature, size, the operators that deserve care, and "
        "what is missing\nfor serving it. Nothing in the file is executed.",
        epilog="example:\n  jitney inspect models/digits/1/model.pt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a .pt file")
    parser.set_defaults(run=_run_inspect)


def _run_inspect(arguments: argparse.Namespace) -> int:
    from jitney.cli import inspect  # noqa: PLC0415  # reads archives; no other command does

    return inspect.run(arguments.file)


def _explain(text: str, code: int, arguments: argparse.Namespace) -> int:
    if arguments.traceback:
        traceback.print_exc()
    sys.stderr.write(f"jitney: error: {_masked(text)}\n")
    return code
