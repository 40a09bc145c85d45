"""Paths that stay below a folder, and files that are opened without being led elsewhere.

A model repository is often written by other people than those who run the server.
Names are checked against an allowlist, paths by where they *really* lead: a string prefix
would let ``/models-private`` pass for ``/models``, and a check of the name alone knows nothing of
symbolic links.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import Final

from jitney.errors import ModelError

__all__ = ["open_regular", "real_path", "safe_model_name"]

# "\Z" and not "$", which also matches before a newline at the end.
_NAME: Final = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,128}\Z", re.ASCII)


RESERVED: Final = frozenset({"readiness", "liveness", "_unknown"})


def safe_model_name(name: str) -> bool:
    """Whether a model may have this name, wherever the name came from.

    Letters, digits, ``_``, ``.`` and ``-``, 1 to 128 of them and no dot in front: such a name is
    one folder below the root, whatever follows from it. Three names mean something else to health
    checks and metrics.
    """
    return _NAME.match(name) is not None and name not in RESERVED


def real_path(path: Path, real_root: str) -> str:
    """Return where ``path`` leads, with every symbolic link resolved; nothing is opened.

    :param real_root: the folder that it must stay in, itself resolved.
    :raises ModelError: when it leads elsewhere, or nowhere.
    """
    try:
        real = os.path.realpath(path, strict=True)
    except OSError as error:
        msg = f"{path.name}: {_plain(error)}"
        raise ModelError(msg) from None
    except ValueError:  # a NUL in it, or what no file system can write
        msg = f"{path.name!a}: cannot be the name of a file"
        raise ModelError(msg) from None
    if os.path.commonpath((real_root, real)) != real_root:
        msg = f"{path.name}: leads out of the model repository, and is not followed"
        raise ModelError(msg)
    return real


def open_regular(path: Path | str) -> int:
    """Open a regular file for reading and return its descriptor, which the caller closes.

    The last component may not be a symbolic link: resolve the path first. A pipe or a device is
    refused instead of waited for, and what is checked is what was opened.

    :raises ModelError: when it cannot be opened, or is something else.
    """
    name = Path(path).name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        msg = f"{name}: {_plain(error)}"
        raise ModelError(msg) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        msg = f"{name}: not a regular file"
        raise ModelError(msg)
    return descriptor


def _plain(error: OSError) -> str:
    # str(error) holds the whole path, which callers must not see.
    if error.errno == errno.ENOENT:
        return "there is no such file"
    if error.errno == errno.ELOOP:
        return "a symbolic link, or a loop of them"
    return f"cannot be read ({error.strerror})"
