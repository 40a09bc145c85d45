"""Images as a model takes them: resized, scaled, channels first."""

from __future__ import annotations

import struct
import zlib
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

__all__ = ["read_images"]

MODES: Final = {1: "L", 3: "RGB"}
RANK: Final = 4


def read_images(
    files: Sequence[Path],
    metadata: inference.ModelMetadataResponse,
    *,
    white: float | None = None,
    invert: bool = False,
) -> dict[str, Input]:
    """Return a batch of images for a model with one input ``[N, C, H, W]``.

    :param white: the value of a white pixel; None takes 1, and 255 for models that take UINT8.
    :raises ConfigError: when the model takes something else, or a file is no image.
    """
    tensor = metadata.inputs[0] if len(metadata.inputs) == 1 else None
    datatype = DataType(tensor.datatype) if tensor else DataType.BYTES
    shape = tuple(tensor.shape) if tensor else ()
    if (
        tensor is None
        or len(shape) != RANK
        or shape[1] not in MODES
        or not (datatype.is_float or datatype is DataType.UINT8)
    ):
        msg = "--image: the model does not take images: expected one input [N, 1 or 3, H, W]"
        raise ConfigError(msg)
    if white is None:
        white = 1.0 if datatype.is_float else 255.0
    pixels = [_read(file, shape[1], (shape[3], shape[2])) for file in files]
    if len({image.shape for image in pixels}) > 1:
        msg = "--image: the model takes any size, but the images of one batch must have the same"
        raise ConfigError(msg)
    batch = np.stack(pixels).astype(np.float32) / 255
    batch = (1 - batch if invert else batch) * np.float32(white)
    if not datatype.is_float:
        batch = batch.round().astype(np.int64)
    return {tensor.name: cast(batch, datatype, "--image")}


def _read(file: Path, channels: int, size: tuple[int, int]) -> Array:
    """Return one image as uint8 ``[C, H, W]``; -1 in ``size`` (width, height) keeps its own."""
    try:
        from PIL import Image  # noqa: PLC0415  # not everybody sends images
    except ModuleNotFoundError:
        msg = "--image needs pillow: pip install pillow"
        raise CommandError(msg) from None
    try:
        with Image.open(file) as opened:
            image = opened.convert(MODES[channels])
    except OSError as error:
        msg = f"--image {file}: {error.strerror or 'not an image'}"
        raise ConfigError(msg) from None
    except Image.DecompressionBombError as error:
        msg = f"--image {file}: too large: {error}"
        raise ConfigError(msg) from None
    except (ValueError, SyntaxError, EOFError, struct.error, zlib.error):  # of damaged ones
        msg = f"--image {file}: not an image"
        raise ConfigError(msg) from None
    width, height = (
        wanted if wanted > 0 else own for wanted, own in zip(size, image.size, strict=True)
    )
    # Means of areas: exact for an image that was enlarged by a whole factor, and without the
    # overshoot of the sharper filters.
    image = image.resize((width, height), Image.Resampling.BOX)
    pixels = np.asarray(image, dtype=np.uint8).reshape(height, width, channels)
    return pixels.transpose(2, 0, 1)
