"""``config.pbtxt``: a ModelConfig in the text format of protocol buffers, read strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf import json_format, text_format

from jitney.errors import ConfigError
from jitney.repository.manifest import TRITON_FILE_NAME
from jitney.repository.side_files import read_text
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["merge_json", "parse_config", "read_config"]

OVERRIDE: Final = "config"
"""The parameter of RepositoryModelLoad that holds JSON."""

NO_OBJECT: Final = "expected a JSON object"
TOO_DEEP: Final = "too deeply nested"
MAX_SHOWN: Final = 300
"""Characters of the parser's text that ours repeats: it may quote whole lines of the file."""


def read_config(path: Path) -> pb.ModelConfig:
    """Read a ``config.pbtxt``; ``path`` must have been resolved, a symbolic link is refused.

    :raises ConfigError: with the line and column of what is wrong.
    :raises ModelError: when the file cannot be read.
    """
    return parse_config(read_text(path))


def parse_config(text: str) -> pb.ModelConfig:
    """Read the text of a ``config.pbtxt``.

    :raises ConfigError: with the line and column of what is wrong.
    """
    config = pb.ModelConfig()
    try:
        # As protobuf's own parser in C++, which Triton uses, this takes a byte order mark.
        text_format.Parse(text.removeprefix("\ufeff"), config)
    except text_format.ParseError as error:
        raise _wrong(TRITON_FILE_NAME, str(error)) from None
    except RecursionError:
        raise _wrong(TRITON_FILE_NAME, TOO_DEEP) from None
    return config


def merge_json(text: str, config: pb.ModelConfig) -> None:
    """Merge a ModelConfig in JSON into ``config``, as RepositoryModelLoad is given one.

    Scalars that it names are set, lists and maps replaced, messages merged.

    :raises ConfigError: when it is no such JSON; ``config`` may have been changed then.
    """
    if not text.lstrip().startswith("{"):  # json_format takes an empty list for an empty message
        raise _wrong(OVERRIDE, NO_OBJECT)
    try:
        json_format.Parse(text, config)
    except json_format.ParseError as error:
        raise _wrong(OVERRIDE, str(error)) from None


def _wrong(source: str, text: str) -> ConfigError:
    shown = " ".join(text.split())
    return ConfigError(f"{source}: {shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + '…'}")
