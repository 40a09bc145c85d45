"""A small server that is made of the client's own stubs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import grpc

from jitney_client.protocol import inference, jitney_v1

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jitney_client.protocol.message import Message

__all__ = ["Failure", "FakeServer"]

FINAL = "triton_final_response"


class Failure(NamedTuple):
    """How a call shall end."""

    code: grpc.StatusCode
    text: str
    trailer: tuple[tuple[str, str], ...] = ()


class FakeServer:
    """A server that echoes: output ``<name>_out`` is input ``<name>``.

    It tells the inputs of the models in ``models`` (each FP32 ``[-1, 2]``), and of no others.

    ``reply`` replaces the reply of ModelInfer. ``failures`` are what the next calls end with, one
    each; ``failure`` is what all end with. A call to the model ``slow`` waits for ``release``. A
    stream answers ``repeat`` three times, ``wrong`` with an error, ``end`` with the end of the
    call, and everything else as ModelInfer does.

    ``requests`` records what came, ``metadata`` and ``deadlines`` what came along.
    """

    def __init__(self, *, serving: bool | None = None) -> None:
        """Start it.

        :param serving: what it answers to who watches its health; None has no such service.
        """
        self.requests: list[Any] = []
        self.deadlines: list[float | None] = []
        self.metadata: list[dict[str, str]] = []
        self.reply: inference.ModelInferResponse | None = None
        self.failure: Failure | None = None
        self.failures: list[Failure] = []
        self.release = threading.Event()
        self.ready = True
        self.config: inference.ModelConfig | None = inference.ModelConfig()
        self.models = {"one": ["x"], "two": ["a", "b"]}
        self.traces = {
            "trace_level": ["OFF"],
            "trace_rate": ["1000"],
            "trace_count": ["-1"],
            "log_frequency": ["0"],
            "trace_mode": ["triton"],
        }
        self._server = grpc.server(
            ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)]
        )
        for service, methods in (
            (inference.SERVICE, inference.METHODS),
            (jitney_v1.SERVICE, jitney_v1.METHODS),
        ):
            handlers = {
                name: self._handler(name, methods[name]) for name in methods if hasattr(self, name)
            }
            self._server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(service, handlers)]
            )
        if serving is not None:
            self._server.add_generic_rpc_handlers([self._health(serving=serving)])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _health(self, *, serving: bool) -> grpc.GenericRpcHandler:
        def watch(_: bytes, __: grpc.ServicerContext) -> Iterator[bytes]:
            yield b"\x08\x01" if serving else b"\x08\x02"  # HealthCheckResponse.status
            self.release.wait()

        return grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health", {"Watch": grpc.unary_stream_rpc_method_handler(watch)}
        )

    def _handler(self, name: str, method: Any) -> grpc.RpcMethodHandler:
        make: Callable[..., grpc.RpcMethodHandler] = (
            grpc.stream_stream_rpc_method_handler
            if method.client_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(
            getattr(self, name) if method.client_streaming else self._handle,
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let waiting calls go, and end."""
        self.release.set()
        self._server.stop(None).wait()

    @property
    def infers(self) -> list[inference.ModelInferRequest]:
        """The requests that were to run a model."""
        return [r for r in self.requests if isinstance(r, inference.ModelInferRequest)]

    @property
    def names(self) -> list[str]:
        """What was asked for, in turn."""
        return [type(request).__name__.removesuffix("Request") for request in self.requests]

    def _note(self, request: Message, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.deadlines.append(context.time_remaining())
        self.metadata.append(dict(context.invocation_metadata()))

    def _handle(self, request: Message, context: grpc.ServicerContext) -> Message:
        self._note(request, context)
        failure = self.failures.pop(0) if self.failures else self.failure
        name = type(request).__name__.removesuffix("Request")
        if failure is None and name in {"ModelMetadata", "ModelConfig"}:
            known = getattr(request, "name", "") in self.models
            if not known or (name == "ModelConfig" and self.config is None):
                failure = Failure(grpc.StatusCode.UNIMPLEMENTED, "not told")
        if failure is not None:
            context.set_trailing_metadata(failure.trailer)
            context.abort(failure.code, failure.text)
        reply: Message = getattr(self, name)(request)
        return reply

    def ModelInfer(self, request: inference.ModelInferRequest) -> inference.ModelInferResponse:
        """Echo."""
        if request.model_name == "slow":
            self.release.wait(10)
        if self.reply is not None:
            return self.reply
        reply = inference.ModelInferResponse(
            model_name=request.model_name, model_version="3", id=request.id
        )
        reply.parameters["seconds"].double_param = 0.5
        for tensor in request.inputs:
            reply.outputs.add(
                name=f"{tensor.name}_out", datatype=tensor.datatype, shape=tensor.shape
            )
        reply.raw_output_contents.extend(request.raw_input_contents)
        return reply

    def ModelStreamInfer(
        self, requests: Iterator[inference.ModelInferRequest], context: grpc.ServicerContext
    ) -> Iterator[inference.ModelStreamInferResponse]:
        """Answer each request in turn."""
        for request in requests:
            self._note(request, context)
            match request.model_name:
                case "end":
                    context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
                case "wrong":
                    yield inference.ModelStreamInferResponse(
                        error_message="something is wrong",
                        infer_response=inference.ModelInferResponse(id=request.id),
                    )
                case "repeat":
                    for _ in range(3):
                        yield self._stream_reply(request, last=False)
                    end = inference.ModelInferResponse(id=request.id)
                    end.parameters[FINAL].bool_param = True
                    yield inference.ModelStreamInferResponse(infer_response=end)
                case _:
                    yield self._stream_reply(request, last=True)

    def _stream_reply(
        self, request: inference.ModelInferRequest, *, last: bool
    ) -> inference.ModelStreamInferResponse:
        reply = self.ModelInfer(request)
        reply.parameters[FINAL].bool_param = last
        return inference.ModelStreamInferResponse(infer_response=reply)

    def ModelMetadata(
        self, request: inference.ModelMetadataRequest
    ) -> inference.ModelMetadataResponse:
        """Return the input names of the table."""
        reply = inference.ModelMetadataResponse(name=request.name, versions=["3"])
        for name in self.models[request.name]:
            reply.inputs.add(name=name, datatype="FP32", shape=[-1, 2])
            reply.outputs.add(name=f"{name}_out", datatype="FP32", shape=[-1, 2])
        return reply

    def ModelConfig(self, request: inference.ModelConfigRequest) -> inference.ModelConfigResponse:
        """Return a configuration with the name and a batch limit."""
        config = inference.ModelConfig(name=request.name, max_batch_size=4)
        if self.config is not None:
            config.MergeFrom(self.config)
        return inference.ModelConfigResponse(config=config)

    def ModelStatistics(
        self, request: inference.ModelStatisticsRequest
    ) -> inference.ModelStatisticsResponse:
        """Return one row."""
        row = inference.ModelStatistics(name=request.name or "all", inference_count=5)
        return inference.ModelStatisticsResponse(model_stats=[row])

    def RepositoryIndex(
        self, request: inference.RepositoryIndexRequest
    ) -> inference.RepositoryIndexResponse:
        """Return one ready model, and one that failed unless only ready ones are wanted."""
        reply = inference.RepositoryIndexResponse()
        reply.models.add(name="one", version="3", state="READY")
        if not request.ready:
            reply.models.add(name="bad", version="1", state="UNAVAILABLE", reason="broken")
        return reply

    def RepositoryModelLoad(
        self, _: inference.RepositoryModelLoadRequest
    ) -> inference.RepositoryModelLoadResponse:
        """Do nothing."""
        return inference.RepositoryModelLoadResponse()

    def RepositoryModelUnload(
        self, _: inference.RepositoryModelUnloadRequest
    ) -> inference.RepositoryModelUnloadResponse:
        """Do nothing."""
        return inference.RepositoryModelUnloadResponse()

    def ServerMetadata(
        self, _: inference.ServerMetadataRequest
    ) -> inference.ServerMetadataResponse:
        """Return a name."""
        return inference.ServerMetadataResponse(name="fake", extensions=["statistics"])

    def ServerReady(self, _: inference.ServerReadyRequest) -> inference.ServerReadyResponse:
        """Return what is set."""
        return inference.ServerReadyResponse(ready=self.ready)

    def ModelReady(self, request: inference.ModelReadyRequest) -> inference.ModelReadyResponse:
        """Return whether the table has the model."""
        return inference.ModelReadyResponse(ready=request.name in self.models)

    def TraceSetting(
        self, request: inference.TraceSettingRequest
    ) -> inference.TraceSettingResponse:
        """Keep what is set, forget what has no value, and return all that is set now."""
        for key, setting in request.settings.items():
            self.traces[key] = list(setting.value) or ["0"]
        reply = inference.TraceSettingResponse()
        for key, values in self.traces.items():
            reply.settings[key].value.extend(values)
        return reply

    def LogSettings(self, request: inference.LogSettingsRequest) -> inference.LogSettingsResponse:
        """Return the settings of the request, and nothing else."""
        reply = inference.LogSettingsResponse()
        for key, setting in request.settings.items():
            # Equal messages of two RPCs are no message of one class.
            reply.settings[key].MergeFromString(setting.SerializeToString())
        return reply

    def GetStatus(self, request: jitney_v1.GetStatusRequest) -> jitney_v1.ServerStatus:
        """Return one model."""
        model = jitney_v1.ModelStatus(name=request.model_name, version=3)
        return jitney_v1.ServerStatus(version="0.1.0", models=[model])
