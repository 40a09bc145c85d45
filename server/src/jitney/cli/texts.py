"""Texts as a model takes them: as they are, or as token numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from jitney.cli.arrays import Array, Input, cast
from jitney.cli.failure import CommandError
from jitney.datatypes import DataType
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jitney_client.protocol import inference

__all__ = ["read_texts"]

MAX_TOKENS: Final = 512
"""Longer texts are cut: encoders of this kind have no positions beyond."""


def read_texts(
    texts: Sequence[str], metadata: inference.ModelMetadataResponse, tokenizer: Path
) -> dict[str, Input]:
    """Return a batch of texts for a model that takes BYTES, or the numbers of a tokenizer.

    The inputs of the latter are known by their customary names: ``input_ids``, ``attention_mask``
    and ``token_type_ids``, each ``[N, L]``.

    :param tokenizer: a ``tokenizer.json``; not opened for a model that takes BYTES.
    :raises ConfigError: when the model takes something else, or there is no such file.
    """
    datatypes = {tensor.name: DataType(tensor.datatype) for tensor in metadata.inputs}
    if list(datatypes.values()) == [DataType.BYTES]:
        (tensor,) = metadata.inputs
        # [N] or [N, 1], the two shapes in use for one text per row.
        shape = (len(texts), *(1 for _ in tensor.shape[1:]))
        return {tensor.name: np.array(texts, dtype=np.object_).reshape(shape)}
    known = {"input_ids", "attention_mask", "token_type_ids"}
    if "input_ids" not in datatypes or not set(datatypes) <= known:
        msg = (
            "--text: the model does not take texts: expected one input of BYTES, or input_ids, "
            f"attention_mask and token_type_ids; it has {', '.join(datatypes)}"
        )
        raise ConfigError(msg)
    tokens = _tokenize(texts, tokenizer)
    return {
        name: cast(tokens[name], datatype, f"--text: {name}")
        for name, datatype in datatypes.items()
    }


def _tokenize(texts: Sequence[str], file: Path) -> dict[str, Array]:
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415  # not everybody sends texts
    except ModuleNotFoundError:
        msg = "--text needs tokenizers for this model: pip install tokenizers"
        raise CommandError(msg) from None
    try:
        content = file.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"--tokenizer {file}: {error.strerror}; name the tokenizer.json of the model"
        raise ConfigError(msg) from None
    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception:  # noqa: BLE001  # the library raises plain Exception for a broken file
        msg = f"--tokenizer {file}: not a tokenizer.json"
        raise ConfigError(msg) from None
    # The file may ask for a fixed length; the batch needs no more than its longest text.
    padding = tokenizer.padding or {}
    tokenizer.enable_padding(
        pad_id=padding.get("pad_id", tokenizer.token_to_id("[PAD]") or 0),
        pad_token=padding.get("pad_token", "[PAD]"),
    )
    tokenizer.enable_truncation(MAX_TOKENS)
    encoded = tokenizer.encode_batch(list(texts))
    return {
        "input_ids": np.array([one.ids for one in encoded]),
        "attention_mask": np.array([one.attention_mask for one in encoded]),
        "token_type_ids": np.array([one.type_ids for one in encoded]),
    }
