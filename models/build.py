"""Build the sample models into ``models/repository``: all of them, or those that are named.

    python models/build.py            # all
    python models/build.py digits     # one

A model is rebuilt only when its script has changed since.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE: Final = Path(__file__).resolve().parent
REPOSITORY: Final = HERE / "repository"
SOURCES: Final = HERE.parent / "server" / "src"
MODELS: Final = ("simple", "digits", "minilm", "resnet18")


class Builder(Protocol):
    """What a script ``build_NAME.py`` offers."""

    def build(self, folder: Path) -> None:
        """Write ``folder/1/model.pt`` and what belongs beside it."""


def is_current(folder: Path, digest: str) -> bool:
    """Return whether the model was built by a script of this digest."""
    stamp = folder / ".built"
    return (folder / "1" / "model.pt").exists() and stamp.exists() and stamp.read_text() == digest


def build(name: str, *, repository: Path = REPOSITORY, force: bool = False) -> Path:
    """Build one model unless it is current; return its folder."""
    folder = repository / name
    digest = hashlib.sha256((HERE / f"build_{name}.py").read_bytes()).hexdigest()
    if not force and is_current(folder, digest):
        print(f"{name}: up to date")
        return folder
    print(f"{name}: building")
    started = time.perf_counter()
    (folder / "1").mkdir(parents=True, exist_ok=True)
    builder: Builder = importlib.import_module(f"build_{name}")
    builder.build(folder)
    (folder / ".built").write_text(digest)
    size = (folder / "1" / "model.pt").stat().st_size / 1e6
    print(f"{name}: done, {size:.1f} MB in {time.perf_counter() - started:.1f} s")
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description="Build the sample models.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--force", action="store_true", help="build what is up to date, too")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="where to build")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in MODELS]:
        parser.error(f"no model {unknown[0]!r}; there are {', '.join(MODELS)}")
    failed = 0
    for name in options.names or MODELS:
        try:
            build(name, repository=options.repository, force=options.force)
        except BuildError as error:
            # The others are built all the same: they need nothing of this one.
            print(f"{name}: {error}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


class BuildError(Exception):
    """A model cannot be built here; the text says what is missing."""


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(SOURCES)]
    # The scripts import BuildError from `build`; as the main program this module is another one.
    sys.modules["build"] = sys.modules["__main__"]
    raise SystemExit(main())
