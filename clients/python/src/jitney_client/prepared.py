"""A request, ready to be sent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from jitney_client.framing import id_field, join_request
from jitney_client.protocol import inference
from jitney_client.reply_memory import ReplyMemory
from jitney_client.tensors import DTYPES, Bfloat16, encode_view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney_client.contract import Contract
    from jitney_client.options import RequestOptions
    from jitney_client.tensors import Array, TensorView

    Inputs = Mapping[str, Array | Bfloat16] | Array | Bfloat16

__all__ = ["LARGE", "Head", "Prepared", "encode_inputs", "write_head"]

LARGE: Final = 1 << 18
"""Bytes of a tensor from which on shared memory is faster than the message: as fast at half of it,
twice as fast at twice of it (measured)."""
MICROSECONDS: Final = 1e6
BF16_BYTES: Final = 2


class Head(NamedTuple):
    """Everything about a request but its id and its tensors' elements.

    ``data`` is its message so far. ``output_sizes`` are the bytes of each output that shall be
    returned, 0 where that is not known, and ``large`` tells that some tensor has many.
    ``classified`` are the outputs of which classes are wanted; ``sequenced`` tells that the request
    belongs to a sequence; ``replies`` remembers what such requests are answered with.
    """

    model: str
    version: str
    data: bytes
    output_sizes: Mapping[str, int]
    large: bool
    classified: tuple[str, ...]
    sequenced: bool
    replies: ReplyMemory


class Prepared(NamedTuple):
    """A request: its head, its tensors in the head's order, and its id."""

    head: Head
    tensors: list[TensorView]
    request_id: str

    def message(self, *more: bytes) -> bytes:
        """Return the whole request, serialised.

        :param more: what else belongs to its head, serialised.
        """
        head = [self.head.data, *more]
        if self.request_id:
            head += id_field(self.request_id)
        return join_request(head, self.tensors)


def encode_inputs(inputs: Inputs) -> dict[str, TensorView]:
    """Return the tensors by name; one array alone has none yet, which is ``""``.

    :raises TypeError: when the protocol has no datatype for an array.
    """
    if isinstance(inputs, np.ndarray | Bfloat16):
        return {"": encode_view(inputs)}
    return {name: encode_view(array) for name, array in inputs.items()}


def write_head(
    model: str,
    tensors: Mapping[str, TensorView],
    options: RequestOptions,
    contract: Contract | None,
) -> Head:
    """Check a request and write its head.

    :param contract: what it has to keep to; None checks nothing, and needs the inputs' names.
    :raises InvalidRequest: when it does not keep to the contract.
    :raises ValueError: when one array is given for a model with several inputs, or an option has a
        value that it cannot have.
    """
    if tensors.keys() == {""}:
        if contract is None:
            msg = f"the server does not tell what {model} takes: give the arrays by name"
            raise ValueError(msg)
        tensors = {contract.only_input(): tensors[""]}
    outputs, top_k = tuple(options.get("outputs", ())), options.get("top_k") or {}
    outputs += tuple(name for name in top_k if name not in outputs)
    if contract is not None:
        contract.check(tensors, outputs, top_k)
    version = options.get("version", "")
    request = inference.ModelInferRequest(model_name=model, model_version=version)
    for name, tensor in tensors.items():
        request.inputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
    for name in outputs:
        output = request.outputs.add(name=name)
        if name in top_k:
            output.parameters["classification"].int64_param = top_k[name]
    sequenced = _set_parameters(request, options)
    sizes = {} if contract is None else _output_sizes(contract, tensors)
    sizes = {n: 0 if n in top_k else sizes.get(n, 0) for n in outputs or sizes}
    largest = max([*sizes.values(), *(tensor.nbytes for tensor in tensors.values())], default=0)
    return Head(
        model,
        version,
        request.SerializeToString(),
        sizes,
        largest >= LARGE,
        tuple(top_k),
        sequenced,
        ReplyMemory(),
    )


def _output_sizes(contract: Contract, tensors: Mapping[str, TensorView]) -> dict[str, int]:
    """Return the bytes of each output, 0 where nobody can know them before."""
    rows = 1
    if contract.batched:
        rows = next((tensor.shape[0] for tensor in tensors.values()), 0)
    sizes = {}
    for spec in contract.outputs:
        dims = spec.shape[1:] if contract.batched else spec.shape
        dtype = DTYPES.get(spec.datatype)
        item = BF16_BYTES if spec.datatype == "BF16" else dtype.itemsize if dtype else 0
        # Without a configuration, the first dimension may be that of the batch, which varies.
        sizes[spec.name] = 0 if min(dims, default=0) < 0 else rows * math.prod(dims) * item
    return sizes


def _set_parameters(request: inference.ModelInferRequest, options: RequestOptions) -> bool:
    """Set a request's own parameters; return whether it belongs to a sequence."""
    for name, value in (options.get("parameters") or {}).items():
        _set(request.parameters[name], value)
    if priority := options.get("priority"):
        request.parameters["priority"].uint64_param = priority
    if (timeout := options.get("queue_timeout")) is not None:
        if timeout <= 0:
            msg = f"queue_timeout: expected seconds above 0, got {timeout}"
            raise ValueError(msg)
        # Not 0, which would mean that there is none.
        request.parameters["timeout"].int64_param = max(1, round(timeout * MICROSECONDS))
    if options.get("timing"):
        request.parameters["jitney_timing"].bool_param = True
    sequence = options.get("sequence_id")
    if not sequence:
        return False
    _set(request.parameters["sequence_id"], sequence)
    request.parameters["sequence_start"].bool_param = options.get("sequence_start", False)
    request.parameters["sequence_end"].bool_param = options.get("sequence_end", False)
    return True


def _set(target: inference.InferParameter, value: object) -> None:
    # bool first: it is a subclass of int.
    if isinstance(value, bool):
        target.bool_param = value
    elif isinstance(value, int):
        target.int64_param = value
    elif isinstance(value, str):
        target.string_param = value
    elif isinstance(value, float):
        target.double_param = value
    else:
        msg = f"a parameter is a bool, an int, a str or a float, got {type(value).__name__}"
        raise TypeError(msg)
