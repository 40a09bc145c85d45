"""Names and paths that lead elsewhere, wherever the server takes a name from."""

from __future__ import annotations

import functools
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.config import RepositorySettings
from jitney.errors import JitneyError
from jitney.repository.load_request import check_name, read_load_request
from jitney.repository.repository import Repository
from jitney.repository.scan import scan_model
from jitney.repository.side_files import reader_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["NameReader", "corpus"]

SECRET: Final = "swordfish"  # noqa: S105  # what must not be read
PARTS: Final = (
    *("..", ".", "/", "//", "\\", "%2e%2e", "%2f", "..%00", "\0", "\n", "\t", " ", "~", "-", ":"),
    *("\u2024\u2024", "\uff0e\uff0e", "\u2215", "\uff0f", "\ud800", "ß", "CON", "file:", "C:"),
    *("etc", "passwd", "proc", "self", "environ", "dev", "shm", "model", "link", "out", "1"),
    *("secret", "labels.txt", "model.toml", "jitney.json", "x" * 200),
)
_active: list[NameReader] = []


class NameReader:
    """A repository with links out of it beside a secret; it knows what is opened where.

    ``uses`` are the places that take a name. Python tells (``sys.audit``) whenever a file is opened
    or a folder listed. What is opened outside of the repository while a name is looked at is the
    fault.
    """

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="fuzz", ignore_cleanup_errors=True)
        base = Path(self._scratch.name).resolve()
        self._root = base / "models"
        model = self._root / "model" / "1"
        model.mkdir(parents=True)
        (base / "secret").write_text(SECRET)
        (base / "models-private").mkdir()
        (base / "models-private" / "secret").write_text(SECRET)
        (model / "model.pt").write_bytes(b"")
        (self._root / "model" / "labels.txt").write_text("a\nb\n")
        (self._root / "model" / "link").symlink_to(base / "secret")
        (self._root / "out").symlink_to(base)
        (self._root / "link").symlink_to("../models-private")
        repository = Repository()
        repository.add("model")
        settings = RepositorySettings(model_control_mode="explicit", allow_model_uploads=True)
        read = reader_of(self._root / "model", str(self._root))
        self.uses: tuple[Callable[[str], object], ...] = (
            lambda name: scan_model([self._root], name),
            check_name,
            lambda name: repository.resolve(name, name),
            lambda name: read_load_request(
                "model", {"config": "{}", f"file:{name}": b""}, settings
            ),
            lambda name: read_load_request("model", {name: name}, settings),
            read,
        )
        self._opened: list[str] = []
        self._watching = False
        _active.append(self)
        _install()

    def read(self, data: bytes) -> bool:
        """Use a name in every place that takes one; raise where something outside was opened."""
        name = data.decode("utf-8", "surrogateescape")
        taken = False
        self._watching = True
        try:
            for use in self.uses:
                try:
                    found = use(name)
                except JitneyError:
                    continue
                assert found != SECRET.encode(), "the secret was read"
                taken = taken or found is not None
        finally:
            self._watching = False
        opened, self._opened = self._opened, []
        assert not opened, f"opened {opened[0]!r}"
        return taken

    def settle(self) -> None:
        """Forget this reader; its hook has nobody to tell any more."""
        _active.remove(self)
        self._scratch.cleanup()

    def note(self, path: object) -> None:
        """Note that something is opened, unless it is where it may be."""
        if not self._watching or isinstance(path, int):
            return
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else repr(path)
        real = os.path.realpath(text)
        if os.path.commonpath((real, str(self._root))) != str(self._root):
            self._opened.append(text)


@functools.cache
def _install() -> None:
    """Be told of what Python opens; for good, as nothing takes such a hook away."""
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event in {"open", "os.listdir", "os.scandir"}:
        for reader in _active:
            reader.note(arguments[0])


def corpus() -> Sequence[bytes]:
    """Return names made of what leads elsewhere, some hundreds of them."""
    rng = random.Random(7)  # noqa: S311  # not a secret
    made = ["".join(rng.choices(PARTS, k=rng.randint(1, 5))) for _ in range(500)]
    absolute = ["/etc/passwd", "/proc/self/environ", "../secret", "out/secret", "link/secret"]
    return [name.encode("utf-8", "surrogatepass") for name in [*absolute, *PARTS, *made]]
