"""``jitney serve``: settings from flags, environment and a file; then the server."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from jitney.cli.failure import CommandError
from jitney.config import add_flags, flag_values, load_settings

__all__ = ["add_parser", "run"]

EPILOG = """\
Every setting is a flag, an environment variable and a key of the settings file; the first of these
that has it decides. For example, --grpc-port 9001 is JITNEY_SERVER_GRPC_PORT=9001, or
  [server]
  grpc_port = 9001

examples:
  jitney serve --model-repository models/repository
  jitney serve --device cuda:0,cuda:1 --max-queue-delay-ms 2
  jitney serve --config jitney.toml --log-level debug
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "serve",
        help="serve every model of a repository",
        description="Serve the models of one or more repositories: folders that hold one folder "
        "per model,\nwith its versions as MODEL/1/model.pt.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (TOML)")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop; return the server's exit code."""
    settings = load_settings(flag_values(arguments), os.environ, arguments.config)
    try:
        from jitney.serving import serve  # noqa: PLC0415  # brings the whole server along
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "jitney":
            raise
        msg = f"the package {package} is missing: pip install 'jitney[server]'"
        raise CommandError(msg) from None
    return serve(settings, os.environ)
