"""Example inputs from NumPy's archives, as torch has them."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np
import torch

from jitney.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from jitney.runtime.tensors import Value

__all__ = ["read_npz"]


def read_npz(file: Path) -> dict[str, Value]:
    """Return the arrays of an ``.npz`` file by name; arrays of text become lists of texts.

    :raises ConfigError: when it cannot be read, or has an array that no tensor can hold (objects
        among them: they would be unpickled).
    """
    values: dict[str, Value] = {}
    name = ""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                msg = f"{file.name}: one array without a name; save it with numpy.savez(name=array)"
                raise ConfigError(msg)
            for name in arrays.files:
                array = arrays[name]
                if array.dtype.kind in "US":
                    values[name] = [str(text) for text in array.astype(np.str_).ravel()]
                else:
                    values[name] = torch.from_numpy(np.ascontiguousarray(array))
    except OSError as error:
        msg = f"{file.name}: cannot be read ({error.strerror or error})"
        raise ConfigError(msg) from None
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        where = f"{file.name}: {name}" if name else file.name
        msg = f"{where}: {error}"
        raise ConfigError(msg) from None
    return values
