"""``jitney manifest``: lists the files of models with their digests, and signs them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jitney.cli.failure import CommandError
from jitney.cli.table import printable
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from jitney.repository.signature import Signer

__all__ = ["add_key_flags", "add_parser", "read_key", "run"]

EPILOG = """\
A version's folder gets a manifest.json, and so does a model's for the files beside its versions
(model.toml, labels, warm-up data). A server takes such a folder for exactly what is listed, or not
at all. Where files change, write it anew.

--sign writes a model.sig beside it, as OpenSSF Model Signing has it (model_signing verify key).
A key is made with:
  openssl ecparam -name prime256v1 -genkey -noout -out key.pem
  openssl ec -in key.pem -pubout -out key.pub

examples:
  jitney manifest models/digits              the model and all of its versions
  jitney manifest models/digits/2            one version
  jitney manifest models --sign key.pem      a whole repository, signed
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "manifest",
        help="list the files of models with their digests, or sign them",
        description="Write a manifest.json with the size and the SHA-256 of every file into each "
        "folder.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="folder of a version, of a model, or of models",
    )
    add_key_flags(parser)
    parser.set_defaults(run=run)


def add_key_flags(parser: argparse.ArgumentParser) -> None:
    """Add what tells the key to sign with."""
    parser.add_argument(
        "--sign", type=Path, metavar="KEY", help="private key to sign with (PEM, P-256/384/521)"
    )
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="file with the key's passphrase"
    )


def read_key(arguments: argparse.Namespace) -> Signer | None:
    """Return the key to sign with, None for none.

    :raises ConfigError: when it cannot be read.
    """
    if arguments.sign is None:
        if arguments.passphrase_file is not None:
            msg = "--passphrase-file: needs --sign"
            raise ConfigError(msg)
        return None
    try:
        from jitney.repository.signature import read_signer  # noqa: PLC0415  # only to sign
    except ModuleNotFoundError as error:
        if error.name != "cryptography":
            raise
        msg = "--sign needs cryptography: pip install 'jitney[server]'"
        raise CommandError(msg) from None
    passphrase = None
    if arguments.passphrase_file is not None:
        try:
            passphrase = arguments.passphrase_file.read_bytes().rstrip(b"\r\n")
        except OSError as error:
            msg = f"--passphrase-file {arguments.passphrase_file}: {error.strerror}"
            raise ConfigError(msg) from None
    return read_signer(arguments.sign, passphrase)


def run(arguments: argparse.Namespace) -> int:
    """Write the manifests, and say what was written."""
    from jitney.packing.listing import write_manifest  # noqa: PLC0415  # only here
    from jitney.repository.units import units_of  # noqa: PLC0415

    signer = read_key(arguments)
    done = " and signed" if signer else ""
    for path in arguments.paths:
        for unit in units_of(path):
            count = write_manifest(unit, signer)
            sys.stdout.write(f"{printable(unit.label)}: {count} files listed{done}\n")
    return 0
