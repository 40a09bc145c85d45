"""A blocking client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
import numpy as np

from jitney_client.errors import InvalidReply, InvalidRequest, Unavailable, from_rpc_error
from jitney_client.protocol import inference, jitney_v1
from jitney_client.tensors import Bfloat16, Tensor, decode, decode_typed, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from jitney_client.protocol.binding import Method
    from jitney_client.protocol.message import Message
    from jitney_client.tensors import Array

    Parameter = bool | int | str | float

__all__ = ["Client", "InferResult"]

R = TypeVar("R", bound="Message")

# gRPC's default is 4 MiB for what is received. What fits is the server's business to say.
UNLIMITED: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)


class InferResult(Mapping[str, "Array"]):
    """The outputs of a call by name, in the model's order, and who computed them.

    Arrays are read-only views of the reply, but for BYTES (objects of type ``bytes``) and BF16
    (float32): copy before writing. ``model_version`` is the version that ran.
    """

    __slots__ = ("_arrays", "model_name", "model_version", "parameters", "request_id")

    def __init__(self, reply: inference.ModelInferResponse) -> None:
        self._arrays = _decode_outputs(reply)
        self.model_name = reply.model_name
        self.model_version = reply.model_version
        self.request_id = reply.id
        self.parameters: dict[str, Parameter] = {
            name: getattr(value, choice)
            for name, value in reply.parameters.items()
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


class Client:
    """A connection to one server; connects at the first call, and again after a failure.

    ``address`` is a gRPC target such as ``"127.0.0.1:8001"``. ``timeout`` bounds every call that
    does not give its own, in seconds; None waits as long as it takes. The server is told, and
    ends what still waits when it has passed. Without ``credentials`` nothing is encrypted.

    - May be used by several threads at once, not across a fork.
    - Every call raises a subclass of ``JitneyError`` when it fails.
    - Nothing is retried here: what is safe to repeat says so (``JitneyError.safe_to_retry``).
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: Sequence[tuple[str, int | str]] = (),
    ) -> None:
        options = [*UNLIMITED, *channel_options]
        self._address = address
        self._timeout = timeout
        self._channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        self._calls: dict[str, Callable[..., Any]] = {}
        self._only_inputs: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def __repr__(self) -> str:
        """Return the address."""
        return f"<Client {self._address}>"

    def close(self) -> None:
        """Close the connection; calls that are running end with ``Cancelled``."""
        self._channel.close()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array | Bfloat16] | Array | Bfloat16,
        *,
        version: str = "",
        outputs: Sequence[str] = (),
        request_id: str = "",
        parameters: Mapping[str, Parameter] | None = None,
        timeout: float | None = None,
    ) -> InferResult:
        """Run ``model`` once.

        :param inputs: arrays by name, the batch dimension included. One array alone is for models
            with one input, whose name is then asked for at the first call and remembered.
        :param version: empty for the server's choice.
        :param outputs: names of the outputs to return, empty for all.
        :param request_id: returned in the result.
        :raises TypeError: when the protocol has no datatype for an array.
        :raises ValueError: when one array is given for a model with several inputs.
        :raises JitneyError: when the call fails.
        """
        request = inference.ModelInferRequest(
            model_name=model, model_version=version, id=request_id
        )
        if isinstance(inputs, np.ndarray | Bfloat16):
            inputs = {self._only_input(model, version, timeout): inputs}
        for name, array in inputs.items():
            tensor = encode(array)
            request.inputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
            request.raw_input_contents.append(tensor.data)
        for name in outputs:
            request.outputs.add(name=name)
        for name, value in (parameters or {}).items():
            _set_parameter(request.parameters[name], value)
        method = inference.METHODS["ModelInfer"]
        try:
            reply = self._call(method, request, inference.ModelInferResponse, timeout)
        except InvalidRequest:
            # The model may have been replaced by one whose input has another name.
            self._only_inputs.pop((model, version), None)
            raise
        return InferResult(reply)

    def metadata(
        self, model: str, *, version: str = "", timeout: float | None = None
    ) -> inference.ModelMetadataResponse:
        """Return the names, datatypes and shapes of a model's inputs and outputs."""
        request = inference.ModelMetadataRequest(name=model, version=version)
        method = inference.METHODS["ModelMetadata"]
        return self._call(method, request, inference.ModelMetadataResponse, timeout)

    def config(
        self, model: str, *, version: str = "", timeout: float | None = None
    ) -> inference.ModelConfig:
        """Return a model's configuration in Triton's terms."""
        request = inference.ModelConfigRequest(name=model, version=version)
        method = inference.METHODS["ModelConfig"]
        return self._call(method, request, inference.ModelConfigResponse, timeout).config

    def statistics(
        self, model: str = "", *, version: str = "", timeout: float | None = None
    ) -> Sequence[inference.ModelStatistics]:
        """Return the counters of each ready version: of one model, or of all without a name."""
        request = inference.ModelStatisticsRequest(name=model, version=version)
        method = inference.METHODS["ModelStatistics"]
        return self._call(method, request, inference.ModelStatisticsResponse, timeout).model_stats

    def models(
        self, *, ready: bool = False, timeout: float | None = None
    ) -> Sequence[inference.RepositoryIndexResponse.ModelIndex]:
        """Return the state of every version in the repository, or only of those that are ready."""
        request = inference.RepositoryIndexRequest(ready=ready)
        method = inference.METHODS["RepositoryIndex"]
        return self._call(method, request, inference.RepositoryIndexResponse, timeout).models

    def server_ready(self, *, timeout: float | None = None) -> bool:
        """Return whether the server would take requests; False also when nobody answers there."""
        method = inference.METHODS["ServerReady"]
        request = inference.ServerReadyRequest()
        try:
            return self._call(method, request, inference.ServerReadyResponse, timeout).ready
        except Unavailable:
            return False

    def model_ready(self, model: str, *, version: str = "", timeout: float | None = None) -> bool:
        """Return whether a version of ``model`` is ready: any of them when none is named."""
        request = inference.ModelReadyRequest(name=model, version=version)
        method = inference.METHODS["ModelReady"]
        return self._call(method, request, inference.ModelReadyResponse, timeout).ready

    def status(self, model: str = "", *, timeout: float | None = None) -> jitney_v1.ServerStatus:
        """Return what the server says about itself, its devices and its models, or only one model.

        :raises NotSupported: when the server is not a jitney.
        """
        request = jitney_v1.GetStatusRequest(model_name=model)
        method = jitney_v1.METHODS["GetStatus"]
        return self._call(method, request, jitney_v1.ServerStatus, timeout)

    def _call(
        self, method: Method, request: Message, response: type[R], timeout: float | None
    ) -> R:
        call = self._calls.get(method.path)
        if call is None:
            call = self._calls[method.path] = self._channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=response.FromString,
            )
        try:
            reply: R = call(request, timeout=self._timeout if timeout is None else timeout)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        return reply

    def _only_input(self, model: str, version: str, timeout: float | None) -> str:
        key = (model, version)
        name = self._only_inputs.get(key)
        if name is None:
            names = [t.name for t in self.metadata(model, version=version, timeout=timeout).inputs]
            if len(names) != 1:
                msg = f"{model} has the inputs {', '.join(names)}: give the arrays by name"
                raise ValueError(msg)
            name = self._only_inputs[key] = names[0]
        return name


def _set_parameter(target: inference.InferParameter, value: Parameter) -> None:
    # bool first: it is a subclass of int.
    if isinstance(value, bool):
        target.bool_param = value
    elif isinstance(value, int):
        target.int64_param = value
    elif isinstance(value, str):
        target.string_param = value
    else:
        target.double_param = value


def _decode_outputs(reply: inference.ModelInferResponse) -> dict[str, Array]:
    """Return the arrays of a reply by name.

    :raises InvalidReply: when it contradicts the protocol.
    """
    arrays: dict[str, Array] = {}
    raw = list(reply.raw_output_contents)
    try:
        if raw and len(raw) != len(reply.outputs):
            msg = f"{len(reply.outputs)} outputs, and the bytes of {len(raw)}"
            raise ValueError(msg)  # noqa: TRY301  # one handler for all contradictions
        for index, output in enumerate(reply.outputs):
            arrays[output.name] = (
                decode(Tensor(output.datatype, tuple(output.shape), raw[index]))
                if raw
                else decode_typed(output.datatype, tuple(output.shape), output.contents)
            )
    except ValueError as error:
        msg = f"the reply of {reply.model_name!r} contradicts the protocol: {error}"
        raise InvalidReply(msg, code=grpc.StatusCode.OK) from error
    return arrays
