"""What models take and give, and which requests keep to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jitney_client import InvalidRequest
from jitney_client.contract import Contract, TensorContract
from jitney_client.protocol import inference
from jitney_client.tensors import encode_view

FP32 = np.float32
CONTRACT = Contract(
    "m",
    (
        TensorContract("a", "FP32", (-1, 3)),
        TensorContract("b", "INT64", (-1, -1)),
        TensorContract("c", "FP32", (-1,), optional=True),
    ),
    (TensorContract("y", "FP32", (-1, 3)), TensorContract("t", "BYTES", (-1,))),
    batched=True,
    complete=True,
)
A, B = np.zeros((2, 3), FP32), np.zeros((2, 5), np.int64)


def check(contract: Contract = CONTRACT, *outputs: str, **arrays: Any) -> None:
    """Check arrays against a contract."""
    contract.check({name: encode_view(array) for name, array in arrays.items()}, outputs, outputs)


@pytest.mark.parametrize("arrays", [{"a": A, "b": B}, {"b": B, "a": A, "c": np.zeros(2, FP32)}])
def test_what_fits_passes(arrays: Any) -> None:
    """The order of the inputs does not matter, and optional ones may be missing."""
    check(**arrays)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"a": A, "b": B, "z": A}, "unexpected inference input 'z' for model 'm'"),
        (
            {"a": A},
            (
                "expected number of inputs between 2 and 3 but got 1 inputs for model 'm'. Got "
                "input(s) ['a'], but missing required input(s) ['b']. Please provide all required "
                "input(s)."
            ),
        ),
        (
            {},
            (
                "expected number of inputs between 2 and 3 but got 0 inputs for model 'm'. Got "
                "input(s) [], but missing required input(s) ['a','b']. Please provide all required "
                "input(s)."
            ),
        ),
        (
            {"a": B, "b": B},
            "inference input 'a' data-type is 'INT64', but model 'm' expects 'FP32'",
        ),
        (
            {"a": np.zeros((2, 4), FP32), "b": B},
            "unexpected shape for input 'a' for model 'm'. Expected [-1,3], got [2,4].",
        ),
        (
            {"a": np.zeros(3, FP32), "b": B},
            "unexpected shape for input 'a' for model 'm'. Expected [-1,3], got [3].",
        ),
        (
            {"a": A[:0], "b": B[:0]},
            "inference request batch-size must be >= 1 for 'm', got 0",
        ),
        (
            {"a": A, "b": B[:1]},
            "input 'b' batch-size does not match other inputs for 'm': 1 rows, the others have 2",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arrays: Any, text: str) -> None:
    """The text names the input, what was expected and what came."""
    with pytest.raises(InvalidRequest) as caught:
        check(**arrays)
    assert (text, "BAD_INPUT") == (str(caught.value), caught.value.reason)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (("y", "z"), "unexpected inference output 'z' for model 'm'"),
        (("y", "y"), "output 'y' already exists in request"),
        (("t",), "class result not available for output due to unsupported type 'BYTES'"),
    ],
)
def test_outputs_are_checked(outputs: tuple[str, ...], text: str) -> None:
    """Outputs have to exist, once, and to be numbers where classes are wanted."""
    with pytest.raises(InvalidRequest, match=text):
        check(CONTRACT, *outputs, a=A, b=B)


def test_without_a_batch_there_are_no_rows() -> None:
    """A model without batch dimension may have inputs of different first sizes."""
    check(CONTRACT._replace(batched=False), a=A, b=B[:1])


def test_it_is_read_from_the_servers_messages() -> None:
    """Names, datatypes and shapes are in the metadata, the rest in the configuration."""
    metadata = inference.ModelMetadataResponse(name="m")
    metadata.inputs.add(name="a", datatype="FP32", shape=[-1, 3])
    metadata.outputs.add(name="y", datatype="BF16", shape=[-1])
    config = inference.ModelConfig(max_batch_size=4)
    config.input.add(name="a", optional=True)
    config.model_transaction_policy.decoupled = True
    a, y = TensorContract("a", "FP32", (-1, 3)), TensorContract("y", "BF16", (-1,))
    assert Contract("m", (a,), (y,)) == Contract.read(metadata, None)
    expected = Contract(
        "m", (a._replace(optional=True),), (y,), batched=True, decoupled=True, complete=True
    )
    assert expected == Contract.read(metadata, config)
