"""``jitney import-triton``: writes a ``model.toml`` for each model of a Triton repository."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.cli.failure import CommandError
from jitney.cli.table import printable
from jitney.errors import ConfigError, JitneyError
from jitney.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jitney_client.protocol import inference as pb

__all__ = ["add_parser", "run"]

CONFIG: Final = "config.pbtxt"
TARGET: Final = "model.toml"
EPILOG = """\
jitney serve reads config.pbtxt as it stands, so nothing has to be imported: do it to go on with
one file that says all that jitney can do. A model.toml wins over the config.pbtxt beside it.

Lines that begin with "!" say why a model cannot be served, those with "-" what has no equivalent.
Whether a model's file is what its configuration says is proved when a server loads it.

examples:
  jitney import-triton models --dry-run        only tell
  jitney import-triton models                  write models/NAME/model.toml
  jitney import-triton models -o imported      write imported/NAME/model.toml, and nothing else

exit codes: 0 every model can be served, 1 some cannot, 2 wrong command line or folder
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "import-triton",
        help="write a model.toml for each model of a Triton repository",
        description="Read the config.pbtxt of every model in a repository, write the model.toml "
        "that means the\nsame, and tell what has no equivalent. No model is loaded, and no other "
        "file is changed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "repository", type=Path, metavar="REPO", help="folder that holds one folder per model"
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="OUT",
        help="write into folders of this one, which are made, instead of beside config.pbtxt",
    )
    parser.add_argument("--dry-run", action="store_true", help="write nothing, only tell")
    parser.add_argument(
        "--force", action="store_true", help=f"write also where there is a {TARGET} already"
    )
    parser.set_defaults(run=run)


class _Imported(NamedTuple):
    """What became of one model: the text of its file, unless it cannot be served."""

    name: str
    text: str | None
    refusals: Sequence[str]
    remarks: Sequence[str]


def run(arguments: argparse.Namespace) -> int:
    """Write the files and tell about each model."""
    out: Path = arguments.out or arguments.repository
    served = total = 0
    for imported in _models(arguments.repository):
        if isinstance(imported, str):
            _say(f"{imported}: left alone, there is no {CONFIG} in it")
            continue
        total += 1
        served += imported.text is not None
        target = out / imported.name / TARGET
        _say(f"{imported.name}: {_written(imported, target, arguments)}")
        for mark, texts in (("!", imported.refusals), ("-", imported.remarks)):
            for text in texts:
                _say(f"  {mark} {text.removeprefix(f'{CONFIG}: ')}")
    if not total:
        msg = f"{arguments.repository}: there is no model with a {CONFIG} in it"
        raise CommandError(msg)
    _say(f"{served} of {total} models can be served, if their files are what {CONFIG} says")
    return 0 if served == total else 1


def _say(line: str) -> None:
    sys.stdout.write(f"{printable(line)}\n")


def _models(repository: Path) -> Iterator[_Imported | str]:
    """Yield the models that have a configuration, by name, and the names of other folders."""
    try:
        root = os.path.realpath(repository, strict=True)
        names = sorted(entry.name for entry in Path(root).iterdir())
    except OSError as error:
        msg = f"{repository}: cannot be listed ({error.strerror})"
        raise ConfigError(msg) from None
    for name in names:
        if name.startswith("."):
            continue
        if os.path.lexists(Path(root, name, CONFIG)):
            yield _imported(root, name)
        elif Path(root, name).is_dir() and not os.path.lexists(Path(root, name, TARGET)):
            yield ascii(name)[1:-1]


def _imported(root: str, name: str) -> _Imported:
    # Reading configurations takes protobuf, which no other command waits for.
    from jitney.repository.containment import real_path, safe_model_name  # noqa: PLC0415
    from jitney.repository.manifest_writer import manifest_to_toml  # noqa: PLC0415
    from jitney.repository.side_files import reader_of  # noqa: PLC0415
    from jitney.repository.triton.mapping import convert  # noqa: PLC0415
    from jitney.repository.triton.text import read_config  # noqa: PLC0415

    if not safe_model_name(name):
        why = "not a model's name: use letters, digits, '_', '.' or '-', and no '.' in front"
        return _Imported(ascii(name)[1:-1], None, [why], [])
    try:
        folder = Path(real_path(Path(root, name), root))
        config = read_config(Path(real_path(folder / CONFIG, root)))
    except JitneyError as error:
        return _Imported(name, None, [str(error)], [])
    found = convert(config, name, read_file=reader_of(folder, root))
    remarks = [*found.warnings, *_only_shown(config)]
    if found.manifest is None:
        return _Imported(name, None, found.refusals, remarks)
    labels = {output.name: output.label_filename for output in config.output}
    files = {output: file for output, file in labels.items() if file}
    head = [f"# Written by jitney import-triton from {CONFIG}."]
    head += [f"# {printable(text)}" for text in remarks]
    text = "\n".join(head) + "\n\n" + manifest_to_toml(found.manifest, files)
    return _Imported(name, text, (), remarks)


def _only_shown(config: pb.ModelConfig) -> Iterator[str]:
    """Yield what config.pbtxt can show to clients and model.toml cannot."""
    for i, tensor in enumerate(config.input):
        if tensor.format:
            yield (
                f"{CONFIG}: input[{i}].format is shown to clients only where {CONFIG} is what is "
                f"served: {TARGET} has no key for it"
            )


def _written(imported: _Imported, target: Path, arguments: argparse.Namespace) -> str:
    """Write the file, unless there are reasons not to; return what was done."""
    if imported.text is None:
        return "cannot be served"
    if arguments.dry_run:
        return "can be served"
    if os.path.lexists(target) and not arguments.force:
        return f"{target} is there already and is kept (--force writes it anew)"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, imported.text)
    except OSError as error:
        msg = f"{target}: cannot be written ({error.strerror})"
        raise CommandError(msg) from None
    return f"{target} written"
