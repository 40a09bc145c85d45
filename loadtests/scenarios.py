"""What users of the sample models send, and whether what they get back is right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    Array = np.ndarray[Any, np.dtype[Any]]
    Arrays = Mapping[str, Array]

__all__ = ["SCENARIOS", "Case", "Scenario", "WrongAnswer", "chosen", "mix_of"]

EXAMPLES = Path(__file__).resolve().parents[1] / "models" / "repository" / "digits" / "examples"
PIXELS = 8
TOLERANCE = 1e-3
"""Of the largest value of an output: what another batch size may change in floating point."""
CASES = 8


class WrongAnswer(Exception):
    """A reply came in time and with status OK, and is not the answer."""


class Case(NamedTuple):
    """Inputs, and a check that raises ``WrongAnswer`` for outputs that do not belong to them."""

    inputs: Arrays
    check: Callable[[Arrays], None]


class Scenario(NamedTuple):
    """What is sent to a model. ``make`` returns its cases; ``ask`` gets the answer to one input."""

    model: str
    weight: int
    make: Callable[[Callable[[Arrays], Arrays]], list[Case]]


def simple(_: object) -> list[Case]:
    """Return sums and differences, which can be checked to the last bit."""
    rng = np.random.default_rng(1)

    def case() -> Case:
        a, b = rng.integers(-100, 100, (2, 1, 16), dtype=np.int32)

        def check(outputs: Arrays) -> None:
            if not np.array_equal(outputs["OUTPUT0"], a + b):
                msg = "OUTPUT0 is not the sum"
                raise WrongAnswer(msg)
            if not np.array_equal(outputs["OUTPUT1"], a - b):
                msg = "OUTPUT1 is not the difference"
                raise WrongAnswer(msg)

        return Case({"INPUT0": a, "INPUT1": b}, check)

    return [case() for _ in range(CASES)]


def digits(_: object) -> list[Case]:
    """Return the example images, each of which has to be read as the digit that it shows."""
    from PIL import Image  # noqa: PLC0415  # for this model only

    def case(digit: int) -> Case:
        large = np.asarray(Image.open(EXAMPLES / f"{digit}.png").convert("L"), np.float32)
        step = len(large) // PIXELS  # each pixel was enlarged to a square of them
        image = (large[::step, ::step] / 255).reshape(1, 1, PIXELS, PIXELS)

        def check(outputs: Arrays) -> None:
            read = int(outputs["scores"].argmax())
            if read != digit:
                msg = f"the image of a {digit} was read as a {read}"
                raise WrongAnswer(msg)

        return Case({"image": image}, check)

    return [case(digit) for digit in range(10)]


def minilm(ask: Callable[[Arrays], Arrays]) -> list[Case]:
    """Return texts of several lengths, as token numbers; long and short ones share no batch."""
    rng = np.random.default_rng(2)

    def inputs(length: int) -> Arrays:
        ids = rng.integers(1000, 30_000, (1, length), dtype=np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    return [_compared(inputs(length), ask) for length in (8, 8, 16, 16, 16, 32, 32, 64)]


def resnet18(ask: Callable[[Arrays], Arrays]) -> list[Case]:
    """Return images of noise: its weights are random, so that others would tell no more."""
    rng = np.random.default_rng(3)
    shape = (1, 3, 224, 224)
    return [_compared({"image": rng.standard_normal(shape, np.float32)}, ask) for _ in range(2)]


def _compared(inputs: Arrays, ask: Callable[[Arrays], Arrays]) -> Case:
    """Return a case whose answer has to be the one that it gets now, while nobody else calls."""
    right = {name: np.array(array) for name, array in ask(inputs).items()}

    def check(outputs: Arrays) -> None:
        for name, expected in right.items():
            got = outputs[name]
            if got.shape != expected.shape:
                msg = f"{name} has the shape {list(got.shape)}, expected {list(expected.shape)}"
                raise WrongAnswer(msg)
            worst = float(np.abs(got - expected).max())
            if not worst <= TOLERANCE * float(np.abs(expected).max()):
                msg = f"{name} differs from the answer to the same input alone"
                raise WrongAnswer(msg)

    return Case(inputs, check)


SCENARIOS = {
    scenario.model: scenario
    for scenario in (
        Scenario("simple", 8, simple),
        Scenario("digits", 8, digits),
        Scenario("minilm", 3, minilm),
        Scenario("resnet18", 1, resnet18),
    )
}


def mix_of(text: str) -> dict[str, int]:
    """Return the weights of a text such as ``simple=3,digits=1``; empty for all with their own.

    :raises ValueError: when it is none.
    """
    if not text:
        return {name: scenario.weight for name, scenario in SCENARIOS.items()}
    mix = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        if name not in SCENARIOS or not (weight or "1").isdecimal() or weight == "0":
            msg = f"--mix {text!r}: expected MODEL=WEIGHT,… with models {', '.join(SCENARIOS)}"
            raise ValueError(msg)
        mix[name] = int(weight or 1)
    return mix


def chosen(mix: Mapping[str, int], random: Random) -> str:
    """Return a model, drawn by its weight."""
    return random.choices(list(mix), list(mix.values()))[0]
