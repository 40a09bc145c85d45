"""``jitney pack``: writes a model's contract and some of its answers into its file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jitney.cli.failure import CommandError
from jitney.cli.manifest import add_key_flags, read_key
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.repository.manifest import ModelManifest
    from jitney.repository.signature import Signer
    from jitney.signature import TensorSpec

__all__ = ["add_parser", "run"]

EPILOG = """\
A tensor is NAME:DATATYPE[SHAPE]. N is the batch dimension, another name or -1 is a size that
varies (equal names are equal sizes), and :LOW..HIGH bounds the values that samples are made of.

The model is run, to make its samples and to prove the new file: pack only what you trust.

examples:
  jitney pack model.pt -o packed.pt --input 'image:FP32[N,1,8,8]' --output 'logits:FP32[N,10]'
  jitney pack model.pt -o packed.pt --input 'ids:INT64[N,L]:0..30521' --samples texts.npz
  jitney pack model.pt -o packed.pt --toml model.toml --labels labels.txt
  jitney pack model.pt -o models/digits/1/model.pt --sign key.pem
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "pack",
        help="write a model's signature and samples into its file",
        description="Copy a TorchScript file and write into the copy what it takes and gives,\nits "
        "labels, and a few samples that the server checks it against whenever it is loaded.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a TorchScript file (.pt)")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="the file to write"
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        dest="inputs",
        metavar="TENSOR",
        help="an input, in the order of the model's arguments; repeated",
    )
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        dest="outputs",
        metavar="TENSOR",
        help="an output; repeated; all are found out by running the model where none is given",
    )
    parser.add_argument(
        "--toml", type=Path, metavar="FILE", help="take inputs and outputs from a model.toml"
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="names of the output's classes, one per line"
    )
    parser.add_argument(
        "--samples",
        type=Path,
        action="append",
        metavar="FILE",
        help="example inputs by name (.npz), one sample per file; repeated; made up if not given",
    )
    parser.add_argument("--description", default="", metavar="TEXT", help="what the model does")
    parser.add_argument(
        "--manifest",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="write a manifest.json of the file's folder as well; so where nothing is said if the "
        "folder is a version's, as in models/NAME/1/model.pt",
    )
    add_key_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the packed file and say what is in it."""
    signer = read_key(arguments)  # before anything that takes time
    manifest = _read_toml(arguments.toml)
    inputs = _either("input", arguments.inputs, manifest.inputs)
    outputs = _either("output", arguments.outputs, manifest.outputs)
    labels = _read_text(arguments.labels).splitlines() if arguments.labels else None
    try:
        from jitney.packing.npz import read_npz  # noqa: PLC0415  # torch takes seconds to import
        from jitney.packing.pack import pack  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        msg = "packing runs the model and needs torch: pip install 'jitney[server]'"
        raise CommandError(msg) from None
    samples = None
    if arguments.samples:
        samples = [read_npz(file) for file in arguments.samples]
    signature = pack(
        arguments.model,
        arguments.out,
        inputs=inputs,
        outputs=outputs or None,
        samples=samples,
        labels=labels,
        description=arguments.description or manifest.description,
    )
    from jitney.notation import write_tensor  # noqa: PLC0415  # only now worth its import

    takes, gives = (", ".join(map(write_tensor, s)) for s in (signature.inputs, signature.outputs))
    size = arguments.out.stat().st_size
    sys.stdout.write(f"{arguments.out}: {takes} -> {gives} ({size} bytes)\n")
    _list_folder(arguments, signer)
    return 0


def _list_folder(arguments: argparse.Namespace, signer: Signer | None) -> None:
    """Write the manifest of the folder of the new file, and its signature, where asked for."""
    from jitney.packing.listing import write_manifest  # noqa: PLC0415  # only here
    from jitney.repository.units import is_version, unit_of  # noqa: PLC0415

    folder = arguments.out.resolve().parent
    wanted = is_version(folder) if arguments.manifest is None else arguments.manifest
    if wanted or signer is not None:
        count = write_manifest(unit_of(folder), signer)
        sys.stdout.write(f"{count} files listed{' and signed' if signer else ''}\n")


def _read_toml(file: Path | None) -> ModelManifest:
    from jitney.repository.manifest import ModelManifest  # noqa: PLC0415  # light
    from jitney.repository.manifest_reader import parse_manifest  # noqa: PLC0415
    from jitney.repository.side_files import reader_of  # noqa: PLC0415

    if file is None:
        return ModelManifest()
    folder = file.resolve().parent
    return parse_manifest(_read_text(file), reader_of(folder, str(folder)))


def _either(
    side: str, flags: Sequence[str], specs: Sequence[TensorSpec] | None
) -> Sequence[TensorSpec | str]:
    if flags and specs is not None:
        msg = f"--{side}: given beside --toml, whose file has [[{side}]] tables; leave one out"
        raise ConfigError(msg)
    return flags or specs or ()


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"{file}: cannot be read ({error.strerror})"
        raise ConfigError(msg) from None
    except UnicodeDecodeError:
        msg = f"{file}: not UTF-8 text"
        raise ConfigError(msg) from None
