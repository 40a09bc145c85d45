"""``jitney token``: makes, lists and revokes what callers are known by."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["add_parser"]

VARIABLE: Final = "JITNEY_ACCESS_TOKENS_FILE"
EPILOG: Final = """\
examples:
  jitney token create web --file tokens.toml --role infer --model 'digits*' --expires 90d
  jitney token create ci --file tokens.toml --role infer --role read --rate 50 --out ci.token
  jitney token list --file tokens.toml
  jitney token revoke web --file tokens.toml
  jitney serve --tokens-file tokens.toml
  jitney status --token-file ci.token
"""
ROLES: Final = ("infer", "read", "admin")
"""As ``access.principal`` has them; a test compares."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "token",
        help="make, list and revoke the tokens that callers show",
        description="Make, list and revoke the tokens by which a server knows its callers. The "
        "file has what\ntokens are known by again and never tokens themselves; a server that runs "
        "with it takes\nchanges up by itself.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = _action(actions, "create", "make a token and print it, once", "create")
    create.add_argument("name", metavar="NAME", help="who will show it")
    create.add_argument(
        "--role",
        action="append",
        choices=ROLES,
        required=True,
        dest="roles",
        help="what for: infer runs models, read asks about them and the server, admin loads and "
        "unloads and changes what is logged; repeated. None includes another",
    )
    create.add_argument(
        "--model",
        action="append",
        dest="models",
        metavar="PATTERN",
        help="for which models, by name; * and ? stand for anything; repeated (default: for all)",
    )
    create.add_argument(
        "--expires",
        default="90d",
        metavar="WHEN",
        help="90d, 12h, 30m, a day such as 2030-01-31, or never (default 90d)",
    )
    create.add_argument(
        "--rate", type=float, metavar="N", help="requests a second that it is good for"
    )
    create.add_argument(
        "--burst", type=float, metavar="N", help="as many at once (default: a second's worth)"
    )
    create.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the token into a new file that only you can read, instead of printing it",
    )
    _action(actions, "list", "tell which tokens there are", "list_all")
    revoke = _action(actions, "revoke", "remove a token, or all of one name", "revoke")
    revoke.add_argument("which", metavar="NAME|ID", help="a name, or the id of one token")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_: str,
    run: str,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help_, description=help_, allow_abbrev=False)
    parser.add_argument(
        "--file",
        type=Path,
        default=os.environ.get(VARIABLE),
        metavar="FILE",
        help=f"the server's --tokens-file (default: {VARIABLE})",
    )
    parser.set_defaults(run=_runner(run))
    return parser


def _runner(name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from jitney.cli import token_actions  # noqa: PLC0415  # no other command needs it

        code: int = getattr(token_actions, name)(arguments)
        return code

    return run
