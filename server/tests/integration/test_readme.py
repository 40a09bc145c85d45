"""The examples of the README run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from live_server import LiveServer

ROOT = Path(__file__).resolve().parents[3]
ADDRESS = "127.0.0.1:8001"
"""Where `make serve` listens, and what the examples call."""
EXAMPLE = re.compile(r"^```python\n(.*?)^```.*?^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with the sample model that the examples call."""
    folder = tmp_path_factory.mktemp("samples")
    build = [sys.executable, ROOT / "models" / "build.py", "simple", f"--repository={folder}"]
    subprocess.run(build, check=True, capture_output=True)
    return folder


def test_the_examples_print_what_the_readme_says(
    samples: Path, start: Callable[..., LiveServer]
) -> None:
    """Each program in README.md, run against the sample model, prints the block that follows it."""
    pytest.importorskip("tritonclient")
    examples = EXAMPLE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    address = start(samples).address

    printed = [
        subprocess.run(
            [sys.executable, "-c", program.replace(ADDRESS, address)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for program, _ in examples
    ]

    assert [text for _, text in examples] == printed
    assert 2 == len(examples)
