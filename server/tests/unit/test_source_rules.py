"""What the source of the server and of the client may never contain."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[3]
SOURCES: Final = [ROOT / "server/src", ROOT / "clients/python/src"]

MODULES: Final = {
    "pickle": "loading one is running it",
    "cPickle": "loading one is running it",
    "dill": "loading one is running it",
    "cloudpickle": "loading one is running it",
    "joblib": "it loads pickles",
    "shelve": "it loads pickles",
    "marshal": "it is not made for what others wrote",
    "multiprocessing": "its queues and pipes send pickles",
    "yaml": "its loader makes objects",
    "requests": "nothing is fetched from where a model or a caller says",
    "urllib.request": "nothing is fetched from where a model or a caller says",
    "http.client": "nothing is fetched from where a model or a caller says",
    "ftplib": "nothing is fetched from where a model or a caller says",
}
CALLS: Final = {"eval", "exec", "compile", "__import__"}


def forbidden(source: str) -> Iterator[str]:
    """Yield what a source has that it may not have, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            names = []
        for name in names:
            if name in MODULES or name.partition(".")[0] in MODULES:
                yield f"{node.lineno}: import of {name}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS:
                yield f"{node.lineno}: {called}"
            if called == "torch.load" and not any(
                word.arg == "weights_only" and ast.unparse(word.value) == "True"
                for word in node.keywords
            ):
                yield f"{node.lineno}: torch.load without weights_only=True"
            if called in {"np.load", "numpy.load"} and any(
                word.arg == "allow_pickle" and ast.unparse(word.value) != "False"
                for word in node.keywords
            ):
                yield f"{node.lineno}: {called} that may load pickles"


def test_nothing_is_unpickled_evaluated_or_fetched() -> None:
    """The ways in which other servers of models ran what strangers sent them."""
    found = [
        f"{path.relative_to(ROOT)}:{what}"
        for folder in SOURCES
        for path in sorted(folder.rglob("*.py"))
        for what in forbidden(path.read_text(encoding="utf-8"))
    ]

    assert [] == found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch.multiprocessing, multiprocessing.pool",
        "from urllib.request import urlopen",
        "from urllib import request",
        "import yaml as y",
        "eval('1')",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    """A search that finds nothing anywhere would be as content."""
    assert [] != list(forbidden(source))


@pytest.mark.parametrize("source", ["model.eval()", "re.compile('x')", "import urllib.parse"])
def test_the_search_finds_nothing_else(source: str) -> None:
    """Methods of those names are other things."""
    assert [] == list(forbidden(source))
