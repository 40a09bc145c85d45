"""How signatures meet the arguments and results of ``forward``."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from runtime_models import FromDict, Scaled, Sums, Texts, Twice, fp32
from torch import nn

from jitney.datatypes import DataType
from jitney.errors import InferenceFailed, ModelError
from jitney.runtime.binding import Binding, bind
from jitney.runtime.program import Program
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


def test_names_may_say_the_position_of_an_argument() -> None:
    """``INPUT__1`` is the second argument, wherever it stands in the signature."""
    signature = Signature(
        (fp32("INPUT__1", "N", 1), fp32("INPUT__0", "N", 1)), (fp32("difference", "N", 1),)
    )

    binding, program = scripted(Sums(), signature)

    assert program([B, A])[0] == torch.tensor([[2.0]])
    assert binding.warnings == ()


def test_positions_count_the_arguments_that_nobody_names() -> None:
    """``forward(x, scale, shift)`` has its shift at position 2; the scale keeps its default."""
    outputs = (fp32("y", "N", 1), fp32("same", "N", 1))
    signature = Signature((fp32("x__0", "N", 1), fp32("x__2", "N", 1)), outputs)

    binding, program = scripted(Scaled(), signature)

    assert (binding.arguments, program([A, B])[0]) == ((0, (2.0,), 1), torch.tensor([[7.0]]))


def test_the_names_of_arguments_come_before_positions() -> None:
    """An author may have called an argument ``x__1``."""
    signature = Signature((fp32("x__1", "N", 1), fp32("x__0", "N", 1)), (fp32("y", "N", 1),))

    _, program = scripted(Crossed(), signature)

    assert program([A, B])[0] == torch.tensor([[2.0]])


def test_names_that_do_not_all_say_a_position_are_matched_in_order() -> None:
    """As with Triton, where that contradicts none of them."""
    signature = Signature((fp32("x__0", "N", 1), fp32("other", "N", 1)), (fp32("sum", "N", 1),))

    binding, program = scripted(Sums(), signature)

    assert program([A, B])[0] == torch.tensor([[4.0]])
    assert binding.warnings == (
        "inputs are matched with the model's arguments by position: x__0 → a, other → b",
    )


def test_outputs_may_be_a_few_of_those_returned_by_their_positions() -> None:
    """In any order; the names of a packed tuple, in order, cost nothing."""
    inputs = (fp32("x", "N", 1),)

    one, second = scripted(Scaled(), Signature(inputs, (fp32("y__1", "N", 1),)))
    two, swapped = scripted(
        Scaled(), Signature(inputs, (fp32("y__1", "N", 1), fp32("y__0", "N", 1)))
    )
    whole, _ = scripted(Scaled(), Signature(inputs, (fp32("y__0", "N", 1), fp32("y__1", "N", 1))))

    assert (one.results, second([A])) == ((1,), [A])
    assert (two.results, swapped([A])) == ((1, 0), [A, torch.tensor([[6.0]])])
    assert whole.results == ()


def test_plain_names_of_outputs_may_leave_out_the_last_with_a_warning() -> None:
    """As with Triton: what a traced model returns beside its scores is often not asked for."""
    binding, program = scripted(
        Scaled(), Signature((fp32("x", "N", 1),), (fp32("scores", "N", 1),))
    )

    assert program([A]) == [torch.tensor([[6.0]])]
    assert binding.warnings == (
        "outputs are matched with what the model returns by position: scores of 2",
    )


def test_a_list_that_is_too_short_for_a_position_is_told_when_it_runs() -> None:
    """Its length is not known before."""
    signature = Signature((fp32("a", "N", 1), fp32("b", "N", 1)), (fp32("y__1", "N", 1),))

    _, program = scripted(FromDict(), signature)

    with pytest.raises(InferenceFailed, match="output number 1: the model returned only 1"):
        program([A, B])


def test_a_single_dict_argument_gets_all_inputs() -> None:
    """Its keys are the names of the signature."""
    signature = Signature((fp32("a", "N", 1), fp32("b", "N", 1)), (fp32("y", "N", 1),))

    _, program = scripted(FromDict(), signature)

    assert program([A, B])[0] == torch.tensor([[4.0]])


class Crossed(nn.Module):
    """Arguments whose names look like the wrong positions."""

    def forward(self, x__1: torch.Tensor, x__0: torch.Tensor) -> torch.Tensor:
        """Return their difference."""
        return x__1 - x__0


X, Y, A_THIRD = fp32("x", "N", 1), fp32("y", "N", 1), fp32("z", "N", 1)
WORDS = TensorSpec("text", DataType.BYTES, ("N",))


@pytest.mark.parametrize(
    ("module", "inputs", "outputs", "text"),
    [
        (Twice(), (X, fp32("z", "N", 1)), (Y,), r"the signature has 2 inputs, x, z; .*x: Tensor"),
        (Sums(), (X,), (Y,), r"the signature has 1 inputs, x; the model is forward\(a: Tensor"),
        (Sums(), (fp32("a", "N", 1),), (Y,), "the argument 'b' has no default and no input"),
        (Twice(), (X,), (Y, X), "the signature has 2 outputs, the model returns one"),
        (Scaled(), (X,), (Y, X, A_THIRD), "the signature has 3 outputs, the model returns 2"),
        (Twice(), (WORDS,), (Y,), r"'x' is Tensor, and a BYTES input needs List\[str\]"),
        (Texts(), (X,), (WORDS, Y), r"'text' is List\[str\], and a FP32 input needs Tensor"),
        (
            Sums(),
            (fp32("x__0", "N", 1), fp32("x__2", "N", 1)),
            (Y,),
            "input 'x__2' says position 2, and there are 2 arguments of the model, counted from 0",
        ),
        (
            Sums(),
            (fp32("x__1", "N", 1), fp32("y__1", "N", 1)),
            (Y,),
            "input 'x__1' and 'y__1' say the same position",
        ),
        (
            Sums(),
            (fp32("x__1", "N", 1), fp32("mask", "N", 1)),
            (Y,),
            "input 'x__1' says position 1 and stands at 0; end all names in __<position>, or none",
        ),
        (Scaled(), (X,), (fp32("y__2", "N", 1),), "'y__2' says position 2, and there are 2 res"),
        (Twice(), (X,), (fp32("y__1", "N", 1),), "'y__1' says position 1, and there are 1 res"),
        (
            Scaled(),
            (fp32("x__0", "N", 1), fp32("x__1", "N", 1)),
            (Y, X),
            "'scale' is float, and a FP32 input needs",
        ),
        (Texts(), (WORDS,), (Y, WORDS), r"'y' is FP32, which is a Tensor, not List\[str\]"),
        (
            Twice(),
            (TensorSpec("x", DataType.FP32, ("N", 1), optional=True),),
            (Y,),
            r"'x' has no default, so .* write x: Optional\[Tensor\] = None in the model, or remove",
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
