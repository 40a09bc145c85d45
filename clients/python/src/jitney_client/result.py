"""What a request is answered with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc

from jitney_client.classification import ClassScore, read_classes
from jitney_client.errors import InvalidReply
from jitney_client.tensors import TensorView, decode, decode_typed

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jitney_client.options import Parameter
    from jitney_client.protocol import inference
    from jitney_client.tensors import Array, Buffer

__all__ = ["InferResult", "Timing"]

FINAL: Final = "triton_final_response"
NOWHERE: Final[Mapping[str, Array]] = {}


class Timing(NamedTuple):
    """How long each stage took on the server, in seconds.

    ``queue`` runs from the request's arrival to the start of its batch, ``compute_input`` until its
    rows are on the device, ``compute_infer`` until the model returned, ``compute_output`` until the
    outputs are back, ``total`` from arrival to the reply. What the network took is in none of them.
    """

    queue: float
    compute_input: float
    compute_infer: float
    compute_output: float
    total: float


STAGES: Final = tuple(f"jitney_{stage}_seconds" for stage in Timing._fields)
"""The parameters of a reply that hold them."""


class InferResult(Mapping[str, "Array"]):
    """The outputs of a request by name, in the model's order, and who computed them.

    Arrays are read-only views of the reply, but for BYTES (objects of type ``bytes``) and BF16
    (float32): copy before writing. A view of a large reply keeps all of it, and may start at any
    address, which NumPy does not mind.

    ``classes`` has, by output and row, what ``top_k`` asked for.
    """

    __slots__ = ("_arrays", "_reply", "classes")

    def __init__(
        self,
        reply: inference.ModelInferResponse,
        raw: Sequence[Buffer] | None = None,
        *,
        classified: Collection[str] = (),
        elsewhere: Mapping[str, Array] = NOWHERE,
    ) -> None:
        """Read a reply.

        :param raw: its raw tensors, where they were cut out of it.
        :param classified: outputs that hold classes.
        :param elsewhere: outputs whose elements are not in the message but in shared memory.
        :raises InvalidReply: when it contradicts the protocol.
        """
        # What is rarely asked for is read when it is: of all that a call costs on the caller's
        # side, reading the reply was most.
        self._reply = reply
        self.classes: dict[str, list[list[ClassScore]]] = {}
        try:
            tensors = reply.raw_output_contents if raw is None else raw
            self._arrays = _decode_outputs(reply, tensors, elsewhere)
            for name in classified:
                self.classes[name] = read_classes(self._arrays[name])
        except (KeyError, ValueError) as error:
            msg = f"the reply of {reply.model_name!r} contradicts the protocol: {error}"
            raise InvalidReply(msg, code=grpc.StatusCode.OK) from error

    @classmethod
    def of(cls, reply: inference.ModelInferResponse, arrays: dict[str, Array]) -> InferResult:
        """Return a result whose outputs were read already, and have no classes."""
        result = cls.__new__(cls)
        result._reply, result._arrays = reply, arrays  # noqa: SLF001  # its own
        result.classes = {}
        return result

    @property
    def model_name(self) -> str:
        """The model that ran."""
        return self._reply.model_name

    @property
    def model_version(self) -> str:
        """The version that ran."""
        return self._reply.model_version

    @property
    def request_id(self) -> str:
        """The id of the request."""
        return self._reply.id

    @property
    def parameters(self) -> dict[str, Parameter]:
        """What else the server says about the request, by name; timings are in ``timing``."""
        parameters = self._all_parameters()
        parameters.pop(FINAL, None)
        if all(key in parameters for key in STAGES):
            for key in STAGES:
                del parameters[key]
        return parameters

    @property
    def timing(self) -> Timing | None:
        """How long each stage took on the server; None unless that was asked for."""
        parameters = self._all_parameters()
        if not all(key in parameters for key in STAGES):
            return None
        return Timing(*(float(parameters[key]) for key in STAGES))

    def _all_parameters(self) -> dict[str, Parameter]:
        return {
            name: getattr(value, choice)
            for name, value in self._reply.parameters.items()
            if (choice := value.WhichOneof("parameter_choice"))
        }

    def __getitem__(self, name: str) -> Array:
        """Return the output called ``name``.

        :raises KeyError: when the reply has no such output; the text names those it has.
        """
        try:
            return self._arrays[name]
        except KeyError:
            msg = f"no output {name!r}; the reply has {', '.join(self._arrays)}"
            raise KeyError(msg) from None

    def __contains__(self, name: object) -> bool:
        """Return whether the reply has an output called ``name``."""
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._arrays)

    def __len__(self) -> int:
        """Return the number of outputs."""
        return len(self._arrays)

    def __repr__(self) -> str:
        """Return the model, its version and the outputs' dtypes and shapes."""
        outputs = ", ".join(f"{n}: {a.dtype}{list(a.shape)}" for n, a in self._arrays.items())
        return f"<InferResult {self.model_name}/{self.model_version} {outputs}>"


def _decode_outputs(
    reply: inference.ModelInferResponse, raw: Sequence[Buffer], elsewhere: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the arrays of a reply by name.

    :raises ValueError: when it contradicts the protocol.
    """
    outputs = reply.outputs
    if raw and len(raw) != len(outputs):
        msg = f"{len(outputs)} outputs, and the bytes of {len(raw)}"
        raise ValueError(msg)
    arrays: dict[str, Array] = {}
    for index, output in enumerate(outputs):
        name, datatype, shape = output.name, output.datatype, tuple(output.shape)
        if name in elsewhere:
            arrays[name] = elsewhere[name]
        elif raw:
            arrays[name] = decode(TensorView(datatype, shape, raw[index]))
        else:
            arrays[name] = decode_typed(datatype, shape, output.contents)
    return arrays
