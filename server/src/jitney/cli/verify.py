"""``jitney verify``: compares the files of models with their manifests and signatures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jitney.cli.failure import CommandError
from jitney.cli.table import printable
from jitney.errors import ConfigError, JitneyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.repository.integrity import Integrity
    from jitney.repository.units import Unit

__all__ = ["add_parser", "run"]

EPILOG = """\
Every file is read and hashed. Without a key, each folder needs a manifest.json (jitney manifest);
with one, a model.sig by one of the keys, and manifest.json is compared where there is one.

examples:
  jitney verify models/digits/1
  jitney verify digits --repository models
  jitney verify models --key key.pub --json

exit codes: 0 all files are as listed, 1 some are not, 2 wrong command line, folder or key
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "verify",
        help="compare the files of models with their manifests and signatures",
        description="Tell which files of a version, a model or a repository are missing, changed "
        "or not listed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="folder of a version, of a model, or of models; with --repository, a model's name, "
        "or NAME/VERSION",
    )
    parser.add_argument(
        "--repository", type=Path, metavar="DIR", help="folder in which the paths are"
    )
    parser.add_argument(
        "--key",
        type=Path,
        action="append",
        default=[],
        dest="keys",
        metavar="FILE",
        help="public key that signatures are checked with (PEM); repeated",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


class _Checked(NamedTuple):
    """A folder; ``problems`` are none where it is as it should be."""

    path: str
    files: int
    signer: str
    problems: Sequence[str]


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; return 0 where all is as it should be, else 1."""
    from jitney.repository.units import units_of  # noqa: PLC0415  # only here

    integrity = _integrity(arguments.keys)
    paths = [Path(arguments.repository or "", path) for path in arguments.paths]
    checked = [_check(unit, integrity) for path in paths for unit in units_of(path)]
    is_good = not any(unit.problems for unit in checked)
    if arguments.json:
        folders = [unit._asdict() for unit in checked]
        sys.stdout.write(json.dumps({"valid": is_good, "folders": folders}) + "\n")
    else:
        for unit in checked:
            for line in _lines(unit):
                sys.stdout.write(f"{printable(line)}\n")
    return 0 if is_good else 1


def _integrity(keys: Sequence[Path]) -> Integrity:
    from jitney.config import RepositorySettings  # noqa: PLC0415
    from jitney.repository.integrity import integrity_of  # noqa: PLC0415

    if not keys:
        return integrity_of(RepositorySettings(model_integrity="require"))
    try:
        settings = RepositorySettings(model_signature="require", model_signature_key=tuple(keys))
        return integrity_of(settings)
    except ConfigError as error:
        msg = str(error).replace("repository.model_signature_key", "--key")
        raise (CommandError if "pip install" in msg else ConfigError)(msg) from None


def _check(unit: Unit, integrity: Integrity) -> _Checked:
    """Compare one folder; what is demanded and not there is a problem like any other."""
    from jitney.repository.integrity import SIGNATURE_FILE  # noqa: PLC0415
    from jitney.repository.listing import LISTING_FILE  # noqa: PLC0415

    try:
        files = unit.contents.paths() - {LISTING_FILE, SIGNATURE_FILE}
        promise = integrity.read(unit.contents)
        problems: Sequence[str] = promise.problems(unit.contents)
    except JitneyError as error:
        return _Checked(unit.label, 0, "", [str(error)])
    return _Checked(unit.label, len(files), promise.signer, problems)


def _lines(unit: _Checked) -> Sequence[str]:
    if unit.problems:
        return [f"{unit.path}: {problem}" for problem in unit.problems]
    signed = f", signed by key {unit.signer[:16]}…" if unit.signer else ""
    return [f"{unit.path}: {unit.files} files as listed{signed}"]
