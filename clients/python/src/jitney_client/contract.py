"""What a model takes and gives, as its server says; and whether a request keeps to it.

The texts are those of the server, which are those that the protocol's clients compare: an error is
the same one whoever found it first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import grpc

from jitney_client.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jitney_client.protocol import inference
    from jitney_client.tensors import TensorView

__all__ = ["Contract", "TensorContract"]

ANY: Final = -1
"""A size that varies."""


class TensorContract(NamedTuple):
    """An input or an output; ``shape`` has -1 for the batch and for what else varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


class Contract(NamedTuple):
    """The inputs and outputs of a model, in its own order.

    ``batched`` tells that the first dimension of every tensor counts rows, ``decoupled`` that a
    request has any number of replies. ``complete`` is False where the server offers no
    configuration: then neither of them is known, nor which inputs are optional.

    A request that passes may still be refused: how many rows a model takes at once, and which of
    its sizes have to be equal, only its server knows.
    """

    model: str
    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]
    batched: bool = False
    decoupled: bool = False
    complete: bool = False

    @classmethod
    def read(
        cls, metadata: inference.ModelMetadataResponse, config: inference.ModelConfig | None
    ) -> Contract:
        """Read it from the messages of a server; without ``config`` where it has none."""
        optional = {i.name for i in config.input if i.optional} if config is not None else set()

        def read_all(
            tensors: Iterable[inference.ModelMetadataResponse.TensorMetadata],
        ) -> tuple[TensorContract, ...]:
            return tuple(
                TensorContract(t.name, t.datatype, tuple(t.shape), t.name in optional)
                for t in tensors
            )

        return cls(
            metadata.name,
            read_all(metadata.inputs),
            read_all(metadata.outputs),
            batched=config is not None and config.max_batch_size > 0,
            decoupled=config is not None and config.model_transaction_policy.decoupled,
            complete=config is not None,
        )

    def only_input(self) -> str:
        """Return the name of the only input.

        :raises ValueError: when there are several.
        """
        if len(self.inputs) != 1:
            names = ", ".join(tensor.name for tensor in self.inputs)
            msg = f"{self.model} has the inputs {names}: give the arrays by name"
            raise ValueError(msg)
        return self.inputs[0].name

    def check(
        self,
        tensors: Mapping[str, TensorView],
        outputs: Sequence[str] = (),
        classified: Iterable[str] = (),
    ) -> None:
        """Check a request against it, in the order in which the server does.

        :param tensors: the inputs, by name.
        :param outputs: the outputs asked for; none for all.
        :param classified: those of them whose highest elements are asked for.
        :raises InvalidRequest: naming the input or output, what was expected and what came.
        """
        model = self.model
        known = {spec.name for spec in self.inputs}
        for name in tensors:
            if name not in known:
                msg = f"unexpected inference input '{name}' for model '{model}'"
                raise _invalid(msg)
        if self.complete and len(tensors) < len(self.inputs):
            self._check_missing(tensors)
        rows = -1
        for spec in self.inputs:
            tensor = tensors.get(spec.name)
            if tensor is None:
                continue
            self._check_tensor(tensor, spec)
            if self.batched:
                rows = self._check_rows(spec.name, tensor.shape[0], rows)
        if outputs:
            self._check_outputs(outputs, classified)

    def _check_missing(self, tensors: Mapping[str, TensorView]) -> None:
        missing = [s.name for s in self.inputs if s.name not in tensors and not s.optional]
        if not missing:
            return
        least = sum(not spec.optional for spec in self.inputs)
        expected = f"{least} inputs"
        if least != len(self.inputs):
            expected = f"number of inputs between {least} and {len(self.inputs)}"
        msg = (
            f"expected {expected} but got {len(tensors)} inputs for model '{self.model}'. "
            f"Got input(s) {_listed(tensors)}, but missing required input(s) {_listed(missing)}. "
            "Please provide all required input(s)."
        )
        raise _invalid(msg)

    def _check_tensor(self, tensor: TensorView, spec: TensorContract) -> None:
        if tensor.datatype != spec.datatype:
            msg = (
                f"inference input '{spec.name}' data-type is '{tensor.datatype}', "
                f"but model '{self.model}' expects '{spec.datatype}'"
            )
            raise _invalid(msg)
        if tensor.shape == spec.shape:
            return
        fits = len(tensor.shape) == len(spec.shape) and all(
            want in (ANY, have) for have, want in zip(tensor.shape, spec.shape, strict=True)
        )
        if not fits:
            msg = (
                f"unexpected shape for input '{spec.name}' for model '{self.model}'. "
                f"Expected [{_joined(spec.shape)}], got [{_joined(tensor.shape)}]."
            )
            raise _invalid(msg)

    def _check_rows(self, name: str, have: int, rows: int) -> int:
        if have < 1:
            msg = f"inference request batch-size must be >= 1 for '{self.model}', got {have}"
            raise _invalid(msg)
        if rows not in (-1, have):
            msg = (
                f"input '{name}' batch-size does not match other inputs for '{self.model}': "
                f"{have} rows, the others have {rows}"
            )
            raise _invalid(msg)
        return have

    def _check_outputs(self, outputs: Sequence[str], classified: Iterable[str]) -> None:
        datatypes = {spec.name: spec.datatype for spec in self.outputs}
        seen = set()
        for name in outputs:
            if name not in datatypes:
                msg = f"unexpected inference output '{name}' for model '{self.model}'"
                raise _invalid(msg)
            if name in seen:
                msg = f"output '{name}' already exists in request"
                raise _invalid(msg)
            seen.add(name)
        for name in classified:
            datatype = datatypes[name]
            if datatype not in {"FP32", "FP64"} and "INT" not in datatype:
                msg = f"class result not available for output due to unsupported type '{datatype}'"
                raise _invalid(msg)


def _invalid(text: str) -> InvalidRequest:
    return InvalidRequest(text, code=grpc.StatusCode.INVALID_ARGUMENT, reason="BAD_INPUT")


def _listed(names: Iterable[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"


def _joined(sizes: Iterable[int]) -> str:
    return ",".join(map(str, sizes))
