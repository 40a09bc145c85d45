"""On which devices a model is loaded."""

from __future__ import annotations

import pytest

from jitney.builtin import BuiltinSpec
from jitney.errors import ModelError
from jitney.repository.manifest import ModelManifest
from jitney.repository.placing import place
from jitney.sequence import SequenceConfig

CPU = ("cpu",)
GPUS = ("cuda:0", "cuda:1")


@pytest.mark.parametrize(
    ("asked", "there", "chosen"),
    [
        ((), CPU, CPU),
        ((), GPUS, GPUS),
        (("cpu",), CPU, CPU),
        (("cuda",), GPUS, GPUS),
        (("cuda:1",), GPUS, ("cuda:1",)),
        (("cuda:1", "cuda:0"), GPUS, GPUS),
        (("cpu", "cuda"), GPUS, GPUS),
        (("cpu", "cuda"), ("cuda:0", "cpu"), ("cuda:0", "cpu")),
    ],
)
def test_a_model_is_loaded_where_it_may_be(
    asked: tuple[str, ...], there: tuple[str, ...], chosen: tuple[str, ...]
) -> None:
    """By kind or by name; where nobody said, everywhere."""
    assert (chosen, ()) == place(ModelManifest(devices=asked), there)


@pytest.mark.parametrize("asked", [("cuda",), ("cuda:0",), ("cuda:0", "cuda:1")])
def test_without_any_gpu_the_cpu_does(asked: tuple[str, ...]) -> None:
    """With a warning: the folder was written for another machine."""
    chosen, [warning] = place(ModelManifest(devices=asked), CPU)
    assert (CPU, True) == (chosen, "is served on cpu" in warning)


def test_without_the_cpu_the_gpus_do() -> None:
    """Likewise where a model that was kept on the CPU meets a server that drives GPUs."""
    chosen, [warning] = place(ModelManifest(devices=("cpu",)), GPUS)
    assert (GPUS, True) == (chosen, "is served on cuda:0, cuda:1" in warning)


@pytest.mark.parametrize(
    ("asked", "there", "text"),
    [
        (("cuda:0", "cuda:7"), GPUS, "it asks for cuda:7, and this server has cuda:0, cuda:1"),
    ],
)
def test_what_is_not_there_is_refused(
    asked: tuple[str, ...], there: tuple[str, ...], text: str
) -> None:
    """It says what is asked for, and what there is."""
    with pytest.raises(ModelError, match=text):
        place(ModelManifest(devices=asked), there)


def test_a_model_with_sequences_has_one_device() -> None:
    """Its state lives there."""
    chosen, [warning] = place(ModelManifest(sequence=SequenceConfig()), GPUS)
    assert (("cuda:0",), True) == (chosen, "cuda:0 alone" in warning)
    assert (CPU, ()) == place(ModelManifest(sequence=SequenceConfig()), CPU)


def test_a_built_in_model_has_a_device_of_its_own() -> None:
    """None of the server's is named."""
    manifest = ModelManifest(builtin=BuiltinSpec("identity"), devices=("cuda",))
    assert ((), ()) == place(manifest, CPU)
