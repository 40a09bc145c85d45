"""``jitney infer``: one call to a model, with inputs from files, images, texts or the line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jitney.cli import connection
from jitney.cli.failure import CommandError
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.cli.arrays import Input
    from jitney_client.protocol import inference

__all__ = ["add_parser", "run"]

TOKENIZER = Path("models/repository/minilm/tokenizer.json")
EPILOG = """\
examples:
  jitney infer digits --image models/repository/digits/examples/4.png
  jitney infer minilm --text "A bus is late." --text "The coach is delayed." --text "I like tea."
  jitney infer simple --input INPUT0='[[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]]' \\
                      --input INPUT1=@second.npy --json
  jitney infer simple --input both.npz
  jitney infer counter --input x='[[1]]' --parameter sequence_id=7 --parameter sequence_start=true

Images need pillow, texts for a model that takes token numbers need tokenizers:
  pip install pillow tokenizers
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "infer",
        help="ask a model",
        description="Send one request to a model and print its answer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    parser.add_argument("--version", default="", metavar="N", help="its version (server's choice)")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        dest="inputs",
        metavar="NAME=VALUE",
        help="an input, as JSON or as @FILE.npy, with its batch dimension; or FILE.npz, for all "
        "inputs that it has an array of; repeated",
    )
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        dest="outputs",
        metavar="NAME",
        help="an output to ask for (default all); repeated",
    )
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        dest="parameters",
        metavar="NAME=VALUE",
        help="a parameter of the request: true, false, a number or a text; repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    connection.add_flags(parser)
    _add_image_flags(parser.add_argument_group("images, for models that take [N,C,H,W]"))
    _add_text_flags(parser.add_argument_group("texts"))
    parser.set_defaults(run=run)


def _add_image_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--image",
        action="extend",
        nargs="+",
        default=[],
        type=Path,
        dest="images",
        metavar="FILE",
        help="images, resized to what the model takes; several are a batch",
    )
    group.add_argument(
        "--white",
        type=float,
        metavar="VALUE",
        help="what a white pixel becomes (default 1, or 255 for UINT8); black is 0",
    )
    group.add_argument("--invert", action="store_true", help="swap black and white first")
    group.add_argument(
        "--labels", type=Path, metavar="FILE", help="names of the classes, one per line"
    )


def _add_text_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--text",
        action="extend",
        nargs="+",
        default=[],
        dest="texts",
        metavar="TEXT",
        help="texts; several are a batch",
    )
    group.add_argument(
        "--tokenizer",
        type=Path,
        default=TOKENIZER,
        metavar="FILE",
        help=f"tokenizer.json of a model that takes token numbers (default {TOKENIZER})",
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask the model and print what it says."""
    kinds = {"--input": arguments.inputs, "--image": arguments.images, "--text": arguments.texts}
    given = [flag for flag, values in kinds.items() if values]
    if len(given) != 1:
        msg = f"give the inputs with one of --input, --image and --text; got {len(given)} of them"
        raise ConfigError(msg)
    parameters = _parameters(arguments.parameters)
    from jitney.cli import answers  # noqa: PLC0415  # numpy, after the command line is right
    from jitney_client import NotSupported  # noqa: PLC0415

    labels = answers.read_labels(arguments.labels) if arguments.labels else ()
    with connection.connect(arguments) as client:
        metadata = client.metadata(arguments.model, version=arguments.version)
        inputs = _inputs(arguments, metadata)
        try:
            result = client.infer(
                arguments.model,
                inputs,
                version=arguments.version,
                outputs=arguments.outputs,
                parameters=parameters,
            )
        except NotSupported as error:
            if "decoupled" not in str(error):
                raise
            msg = (
                f"{error}: it answers one request with any number of replies, which only come on a "
                "stream, as tritonclient.grpc opens one"
            )
            raise CommandError(msg) from None
    if arguments.json:
        text = answers.as_json(result)
    elif arguments.images:
        text = answers.as_classes(result, [str(file) for file in arguments.images], labels)
    elif arguments.texts:
        text = answers.as_vectors(result, arguments.texts)
    else:
        text = answers.as_arrays(result)
    sys.stdout.write(text)
    return 0


def _parameters(given: Sequence[str]) -> dict[str, bool | int | float | str]:
    """Read ``NAME=VALUE`` for each parameter of a request.

    A value that JSON would take as a number or a truth is one; ``'"7"'`` is a text.

    :raises ConfigError: when it is no such text.
    """
    parameters: dict[str, bool | int | float | str] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name or name in parameters:
            msg = f"--parameter {text[:60]!r}: expected NAME=VALUE, each name once"
            raise ConfigError(msg)
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = value
        parameters[name] = parsed if isinstance(parsed, bool | int | float | str) else value
        number = parameters[name]
        if isinstance(number, int) and not -(1 << 63) <= number < 1 << 63:
            msg = f"--parameter {name}: the protocol has numbers of 64 bits only"
            raise ConfigError(msg)
    return parameters


def _inputs(
    arguments: argparse.Namespace, metadata: inference.ModelMetadataResponse
) -> Mapping[str, Input]:
    if arguments.images:
        from jitney.cli.images import read_images  # noqa: PLC0415  # needs pillow

        return read_images(
            arguments.images, metadata, white=arguments.white, invert=arguments.invert
        )
    if arguments.texts:
        from jitney.cli.texts import read_texts  # noqa: PLC0415  # may need tokenizers

        return read_texts(arguments.texts, metadata, arguments.tokenizer)
    from jitney.cli.arrays import read_inputs  # noqa: PLC0415  # numpy

    return read_inputs(arguments.inputs, metadata)
