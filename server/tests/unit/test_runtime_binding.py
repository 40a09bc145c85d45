"""How signatures meet the arguments and results of ``forward``."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from runtime_models import FromDict, Scaled, Sums, Texts, Twice, fp32
from torch import nn

from jitney.datatypes import DataType
from jitney.errors import ModelError
from jitney.runtime.binding import Binding, Program, bind
from jitney.signature import Signature, TensorSpec


def scripted(module: nn.Module, signature: Signature) -> tuple[Binding, Program]:
    """Script a module and bind it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.jit.script(module.eval())
    binding = bind(program.forward.schema, signature)
    return binding, Program("plain", program, binding)


A, B = torch.tensor([[3.0]]), torch.tensor([[1.0]])


def test_inputs_go_to_the_arguments_of_their_names() -> None:
    """The order of the signature does not matter where the names agree."""
    signature = Signature(
        (fp32("b", "N", 1), fp32("a", "N", 1)),
        (fp32("difference", "N", 1), fp32("sum", "N", 1)),
    )

    binding, program = scripted(Sums(), signature)

    assert [v.item() for v in program([B, A]) if isinstance(v, torch.Tensor)] == [2.0, 4.0]
    assert binding.warnings == ()


def test_other_names_are_matched_in_order_with_a_warning() -> None:
    """The warning says what became of each name."""
    signature = Signature((fp32("left", "N", 1), fp32("b", "N", 1)), (fp32("difference", "N", 1),))

    binding, program = scripted(Sums(), signature)

    assert program([A, B])[0] == torch.tensor([[2.0]])
    assert binding.warnings == (
        "inputs are matched with the model's arguments by position: left → a",
    )


def test_arguments_that_nobody_names_keep_their_defaults() -> None:
    """A default between two inputs is filled in; trailing ones are left to the model."""
    outputs = (fp32("y", "N", 1), fp32("same", "N", 1))

    first, plain = scripted(Scaled(), Signature((fp32("x", "N", 1),), outputs))
    second, shifted = scripted(
        Scaled(), Signature((fp32("x", "N", 1), fp32("shift", "N", 1)), outputs)
    )

    assert (first.arguments, plain([A])[0]) == ((0,), torch.tensor([[6.0]]))
    assert (second.arguments, shifted([A, B])[0]) == ((0, (2.0,), 1), torch.tensor([[7.0]]))


def test_an_optional_input_may_be_left_out() -> None:
    """None is passed where the argument allows it."""
    shift = TensorSpec("shift", DataType.FP32, ("N", 1), optional=True)
    signature = Signature((fp32("x", "N", 1), shift), (fp32("y", "N", 1), fp32("same", "N", 1)))

    _, program = scripted(Scaled(), signature)

    assert program([A, None])[0] == torch.tensor([[6.0]])


def test_a_single_dict_argument_gets_all_inputs() -> None:
    """Its keys are the names of the signature."""
    signature = Signature((fp32("a", "N", 1), fp32("b", "N", 1)), (fp32("y", "N", 1),))

    _, program = scripted(FromDict(), signature)

    assert program([A, B])[0] == torch.tensor([[4.0]])


X, Y = fp32("x", "N", 1), fp32("y", "N", 1)
WORDS = TensorSpec("text", DataType.BYTES, ("N",))


@pytest.mark.parametrize(
    ("module", "inputs", "outputs", "text"),
    [
        (Twice(), (X, fp32("z", "N", 1)), (Y,), r"the signature has 2 inputs, x, z; .*x: Tensor"),
        (Sums(), (X,), (Y,), r"the signature has 1 inputs, x; the model is forward\(a: Tensor"),
        (Sums(), (fp32("a", "N", 1),), (Y,), "the argument 'b' has no default and no input"),
        (Twice(), (X,), (Y, X), "the signature has 2 outputs, the model returns one"),
        (Scaled(), (X,), (Y,), "the signature has 1 outputs, the model returns 2"),
        (Twice(), (WORDS,), (Y,), r"'x' is Tensor, and a BYTES input needs List\[str\]"),
        (Texts(), (X,), (WORDS, Y), r"'text' is List\[str\], and a FP32 input needs Tensor"),
        (Texts(), (WORDS,), (Y, WORDS), r"'y' is FP32, which is a Tensor, not List\[str\]"),
        (
            Twice(),
            (TensorSpec("x", DataType.FP32, ("N", 1), optional=True),),
            (Y,),
            r"an optional FP32 input needs Optional\[Tensor\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_models_own_arguments(
    module: nn.Module, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], text: str
) -> None:
    """The text says what the model takes and gives, and what to write."""
    with pytest.raises(ModelError, match=text) as caught:
        scripted(module, Signature(inputs, outputs))

    assert caught.value.reason == "MODEL_SIGNATURE"
    assert "Write one input per tensor argument" in str(caught.value)
