"""A server that asks who calls: every method, with every kind of caller, at every address."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import struct
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from certificates import make_ca, make_pair
from tokens_file import make_token

import jitney_client
from jitney.access.entries import Rate
from jitney.access.file_edits import remove_tokens
from jitney.access.tokens import new_token
from jitney.app import Server
from jitney.config import (
    AccessSettings,
    DeviceSettings,
    LimitSettings,
    RepositorySettings,
    ServerSettings,
    Settings,
)
from jitney.errors import ConfigError
from jitney.testing.sim_model import SimModel, write_sim_model
from jitney.testing.sim_server import sim_commands
from jitney.transport.services import method_paths
from jitney_client.protocol import inference as pb
from jitney_client.protocol import jitney_v1 as own

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Metadata = tuple[tuple[str, str], ...]

CALL_TIMEOUT: Final = 20.0
NEEDS_OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
OIP: Final = "/inference.GRPCInferenceService/"
STATUS: Final = "/jitney.v1.Status/GetStatus"
HEALTH: Final = "/grpc.health.v1.Health/"
REFLECTION: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
ADMIN_METHODS: Final = {
    f"{OIP}{name}"
    for name in ("RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings")
}

ALL: Final = "anybody"
TABLE: Final[dict[str, str]] = {
    f"{OIP}ServerLive": ALL,
    f"{OIP}ServerReady": ALL,
    f"{OIP}ServerMetadata": "infer read admin",
    f"{OIP}ModelReady": "infer read",
    f"{OIP}ModelMetadata": "infer read",
    f"{OIP}ModelConfig": "infer read",
    f"{OIP}ModelInfer": "infer",
    f"{OIP}ModelStreamInfer": "infer",
    f"{OIP}ModelStatistics": "read",
    f"{OIP}RepositoryIndex": "read",
    f"{OIP}RepositoryModelLoad": "admin",
    f"{OIP}RepositoryModelUnload": "admin",
    f"{OIP}SystemSharedMemoryStatus": "infer",
    f"{OIP}SystemSharedMemoryRegister": "infer",
    f"{OIP}SystemSharedMemoryUnregister": "infer",
    f"{OIP}CudaSharedMemoryStatus": "infer",
    f"{OIP}CudaSharedMemoryRegister": "infer",
    f"{OIP}CudaSharedMemoryUnregister": "infer",
    f"{OIP}TraceSetting": "admin",
    f"{OIP}LogSettings": "admin",
    STATUS: "read",
    f"{HEALTH}Check": ALL,
    f"{HEALTH}Watch": ALL,
    f"{HEALTH}List": "read",
    REFLECTION: "read",
    f"{OIP}NoSuchMethod": "",
    "/no.such.Service/Method": "",
    "/grpc.channelz.v1.Channelz/GetServers": "",
}
"""Who may call what, written down once more than in the server, and not taken from there."""
CALLERS: Final = ("none", "wrong", "expired", "infer", "read", "admin")


def message_of(path: str) -> bytes:
    """Return a request of a method, about the model ``sim`` where it is about one."""
    if path in {f"{OIP}ModelInfer", f"{OIP}ModelStreamInfer"}:
        return infer_message("sim")
    name = path.rpartition("/")[2]
    if path.startswith(OIP) and name in pb.METHODS:
        request = pb.METHODS[name].request()
        for field in ("name", "model_name"):
            if field in request.DESCRIPTOR.fields_by_name and name.startswith(("Model", "Repo")):
                setattr(request, field, "sim")
        return request.SerializeToString()
    return b""


def infer_message(model: str) -> bytes:
    """Return a request to run a model on one row."""
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(struct.pack("<4f", 0, 1, 2, 3))
    return request.SerializeToString()


@asynccontextmanager
async def serving(folder: Path, **sections: Any) -> AsyncIterator[Server]:
    """Serve the models ``sim`` and ``secret`` for the length of a block."""
    for name in ("sim", "secret"):
        if not (folder / "models" / name).exists():
            write_sim_model(folder / "models", name, SimModel(alpha=0, beta=1e-4), max_rows=4)
    server = dict(sections.pop("server", {}))
    settings = Settings(
        server=ServerSettings(grpc_port=0, metrics_port=0, **server),
        access=AccessSettings(**sections.pop("access", {})),
        limits=LimitSettings(**sections.pop("limits", {})),
        devices=DeviceSettings(slot_bytes=1 << 16),
        repository=RepositorySettings(
            model_repository=(folder / "models",),
            model_control_mode="explicit",
            load_model="*",
        ),
    )
    commands = sim_commands(settings.devices, os.environ, 1)
    live = Server(settings, os.environ, lambda _: None, commands)
    try:
        await live.start()
        yield live
    finally:
        await live.stop(asyncio.Event())


async def call(
    channel: grpc.aio.Channel, path: str, message: bytes, metadata: Metadata = ()
) -> tuple[str, bytes | str]:
    """Make a call of any kind; return its code, and the first reply or the text of the error."""
    # A call with one message is the same on the wire whatever its method takes; but of a stream of
    # requests that is refused while it is written, gRPC's asyncio client may report that only.
    stream = channel.unary_stream(path)(message, timeout=CALL_TIMEOUT, metadata=metadata)
    try:
        reply = await stream.read()
    except grpc.aio.AioRpcError as error:
        return error.code().name, str(error.details())
    stream.cancel()
    return "OK", b"" if reply is grpc.aio.EOF else reply


def bearer(token: str) -> Metadata:
    """Return what is sent along with a call."""
    return (("authorization", f"Bearer {token}"),)


def callers_of(file: Path) -> dict[str, Metadata]:
    """Make a token for each kind of caller."""
    return {
        "none": (),
        "wrong": bearer(new_token()),
        "expired": bearer(make_token(file, "gone", ("infer", "read", "admin"), expires=1e9)),
        "infer": bearer(make_token(file, "i", ("infer",))),
        "read": bearer(make_token(file, "r", ("read",))),
        "admin": bearer(make_token(file, "a", ("admin",))),
    }


def expected_of(path: str, caller: str, *, main: bool) -> str:
    """Return what a call comes to: ``let in``, or the code with which it is refused."""
    if main and path in ADMIN_METHODS:
        return "PERMISSION_DENIED"
    if TABLE[path] == ALL:
        return "let in"
    if caller in {"none", "wrong", "expired"}:
        return "UNAUTHENTICATED"
    return "let in" if caller in TABLE[path].split() else "PERMISSION_DENIED"


async def matrix(target: str, callers: dict[str, Metadata]) -> dict[tuple[str, str], str]:
    """Return what every method comes to with every caller."""
    seen: dict[tuple[str, str], str] = {}
    async with grpc.aio.insecure_channel(target) as channel:
        for path in TABLE:
            for caller, metadata in callers.items():
                code, _ = await call(channel, path, message_of(path), metadata)
                refused = code in {"UNAUTHENTICATED", "PERMISSION_DENIED"}
                seen[path, caller] = code if refused else "let in"
    return seen


def test_every_method_with_every_caller(tmp_path: Path) -> None:
    """At one address for everything, all methods answer as the table says, unknown ones too."""
    file = tmp_path / "t.toml"
    callers = callers_of(file)

    async def run() -> dict[tuple[str, str], str]:
        access = {"tokens_file": str(file), "refusal_rate": 1e6}
        async with serving(tmp_path, access=access) as server:
            return await matrix(f"127.0.0.1:{server.listeners.port}", callers)

    expected = {(p, c): expected_of(p, c, main=False) for p in TABLE for c in CALLERS}
    assert expected == asyncio.run(run())
    assert set(method_paths()) <= set(TABLE)


def test_every_method_with_every_caller_beside_an_admin_socket(tmp_path: Path) -> None:
    """What changes the server is refused to all at the main address, and open at the socket.

    There all that exists is let in, whoever calls and whatever they show.
    """
    file, socket = tmp_path / "t.toml", tmp_path / "a.sock"
    callers = callers_of(file)

    async def run() -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], str], int]:
        access = {"tokens_file": str(file), "refusal_rate": 1e6}
        server = {"admin_address": f"unix:{socket}"}
        async with serving(tmp_path, access=access, server=server) as live:
            mode = stat.S_IMODE(socket.stat().st_mode)
            main = await matrix(f"127.0.0.1:{live.listeners.port}", callers)
            return main, await matrix(f"unix:{socket}", callers), mode

    main, there, mode = asyncio.run(run())
    assert {(p, c): expected_of(p, c, main=True) for p in TABLE for c in CALLERS} == main
    assert {(p, c): "let in" for p in TABLE for c in CALLERS} == there
    assert 0o600 == mode
    assert not socket.exists()


def test_an_admin_address_without_tokens(tmp_path: Path) -> None:
    """Nobody is asked who they are, and what changes the server is served there only."""

    async def run() -> dict[str, list[str]]:
        async with serving(tmp_path, server={"admin_address": "127.0.0.1:0"}) as live:
            assert live.listeners.admin is not None
            ports = {"main": live.listeners.port, "admin": live.listeners.admin.port}
            seen: dict[str, list[str]] = {}
            for name, port in ports.items():
                async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                    seen[name] = [
                        (await call(channel, path, message_of(path)))[0]
                        for path in (f"{OIP}ModelInfer", f"{OIP}LogSettings", f"{OIP}Nothing")
                    ]
            return seen

    assert {
        "main": ["OK", "PERMISSION_DENIED", "UNIMPLEMENTED"],
        "admin": ["OK", "OK", "UNIMPLEMENTED"],
    } == asyncio.run(run())


# -- models ---------------------------------------------------------------------------------------


def on_server(
    folder: Path,
    ask: Callable[[Callable[..., Awaitable[tuple[str, Any]]]], Awaitable[Any]],
    **sections: Any,
) -> Any:
    """Return what ``ask`` found out with ``call(path, message, metadata)``."""

    async def run() -> Any:
        async with (
            serving(folder, **sections) as live,
            grpc.aio.insecure_channel(f"127.0.0.1:{live.listeners.port}") as channel,
        ):

            async def one(path: str, message: bytes, metadata: Metadata = ()) -> tuple[str, Any]:
                return await call(channel, path, message, metadata)

            return await ask(one)

    return asyncio.run(run())


NAMED: Final[dict[str, Callable[[str], Any]]] = {
    f"{OIP}ModelReady": lambda name: pb.ModelReadyRequest(name=name),
    f"{OIP}ModelMetadata": lambda name: pb.ModelMetadataRequest(name=name),
    f"{OIP}ModelConfig": lambda name: pb.ModelConfigRequest(name=name),
    f"{OIP}ModelStatistics": lambda name: pb.ModelStatisticsRequest(name=name),
    f"{OIP}ModelInfer": lambda name: pb.ModelInferRequest.FromString(infer_message(name)),
    f"{OIP}RepositoryModelLoad": lambda name: pb.RepositoryModelLoadRequest(model_name=name),
    f"{OIP}RepositoryModelUnload": lambda name: pb.RepositoryModelUnloadRequest(model_name=name),
    f"{OIP}TraceSetting": lambda name: pb.TraceSettingRequest(model_name=name),
    STATUS: lambda name: own.GetStatusRequest(model_name=name),
    f"{HEALTH}Check": lambda name: health_pb2.HealthCheckRequest(service=name),
    f"{HEALTH}Watch": lambda name: health_pb2.HealthCheckRequest(service=name),
}
"""Every method whose request names a model."""


def test_what_is_not_for_the_caller_looks_the_same_whether_it_is_there(tmp_path: Path) -> None:
    """A model that the caller has no role for, and one that there is not: one answer, word by word.

    Models within its pattern are told apart, as for everybody.
    """
    file = tmp_path / "t.toml"
    token = bearer(make_token(file, "web", ("infer", "read", "admin"), ("s?m", "sim*")))

    async def ask(one: Callable[..., Awaitable[tuple[str, Any]]]) -> list[tuple[str, set[Any]]]:
        found = []
        for path, request in NAMED.items():
            answers = set()
            for name in ("secret", "nothing"):
                code, text = await one(path, request(name).SerializeToString(), token)
                answers.add((code, str(text).replace(name, "NAME")))
            found.append((path, answers))
        return found

    access = {"tokens_file": str(file), "refusal_rate": 1e6}
    for path, answers in on_server(tmp_path, ask, access=access):
        ((code, text),) = answers
        assert (path, "PERMISSION_DENIED") == (path, code)
        assert text.startswith("'web' may not ")


def test_lists_leave_out_what_the_caller_may_not_read(tmp_path: Path) -> None:
    """The index, statistics and the status of all models have those of the caller's alone."""
    file = tmp_path / "t.toml"
    some, every = (
        bearer(make_token(file, "r", ("read",), models)) for models in (("sim",), ("*",))
    )

    async def ask(one: Callable[..., Awaitable[tuple[str, Any]]]) -> list[list[list[str]]]:
        found = []
        for token in (some, every):
            _, index = await one(f"{OIP}RepositoryIndex", b"", token)
            _, statistics = await one(f"{OIP}ModelStatistics", b"", token)
            _, status = await one(STATUS, b"", token)
            found.append(
                [
                    [m.name for m in pb.RepositoryIndexResponse.FromString(index).models],
                    [m.name for m in pb.ModelStatisticsResponse.FromString(statistics).model_stats],
                    [m.name for m in own.ServerStatus.FromString(status).models],
                ]
            )
        return found

    found = on_server(tmp_path, ask, access={"tokens_file": str(file)})
    assert [[["sim"]] * 3, [["secret", "sim"]] * 3] == found


def test_what_concerns_all_models_takes_the_role_for_all(tmp_path: Path) -> None:
    """The admin of some models changes no settings of the others."""
    file = tmp_path / "t.toml"
    some = bearer(make_token(file, "a", ("admin", "read"), ("sim",)))

    async def ask(one: Callable[..., Awaitable[tuple[str, Any]]]) -> list[str]:
        calls = [
            (f"{OIP}TraceSetting", pb.TraceSettingRequest(model_name="sim")),
            (f"{OIP}TraceSetting", pb.TraceSettingRequest()),
            (f"{OIP}LogSettings", pb.LogSettingsRequest()),
            (f"{OIP}RepositoryModelUnload", pb.RepositoryModelUnloadRequest()),
            (f"{HEALTH}List", health_pb2.HealthListRequest()),
        ]
        return [(await one(path, r.SerializeToString(), some))[0] for path, r in calls]

    codes = on_server(tmp_path, ask, access={"tokens_file": str(file)})
    assert ["OK", *["PERMISSION_DENIED"] * 4] == codes


def test_each_request_of_a_stream_is_asked_about(tmp_path: Path) -> None:
    """A model that the caller may not run is refused in its place, and the stream goes on.

    When the token is revoked, so is the stream, though it was opened before.
    """
    file = tmp_path / "t.toml"
    token = make_token(file, "web", ("infer",), ("sim",))

    async def run() -> list[str]:
        access = {"tokens_file": str(file)}
        async with (
            serving(tmp_path, access=access) as live,
            grpc.aio.insecure_channel(f"127.0.0.1:{live.listeners.port}") as channel,
        ):
            stream = channel.stream_stream(f"{OIP}ModelStreamInfer")(
                timeout=CALL_TIMEOUT, metadata=bearer(token)
            )
            texts = []
            for model in ("sim", "secret", "nothing", "sim"):
                await stream.write(infer_message(model))
                reply = pb.ModelStreamInferResponse.FromString(await stream.read())
                texts.append(reply.error_message)
            remove_tokens(file, lambda _: True)
            assert live.doors.authority is not None
            await live.doors.authority.poll()
            await stream.write(infer_message("sim"))
            reply = pb.ModelStreamInferResponse.FromString(await stream.read())
            await stream.done_writing()
            return [*texts, reply.error_message]

    assert [
        "",
        "'web' may not run the model 'secret': it takes the role infer",
        "'web' may not run the model 'nothing': it takes the role infer",
        "",
        "the token is not one of this server's, or was revoked",
    ] == asyncio.run(run())


def test_other_streams_end_with_the_token_that_opened_them(tmp_path: Path) -> None:
    """Who watches a model, or asks the reflection, is told nothing more once the token is revoked.

    Probes need no token, so theirs go on.
    """
    file = tmp_path / "t.toml"
    token = bearer(make_token(file, "ops", ("read",)))
    question = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()

    async def run() -> list[str]:
        async with (
            serving(tmp_path, access={"tokens_file": str(file)}) as live,
            grpc.aio.insecure_channel(f"127.0.0.1:{live.listeners.port}") as channel,
        ):
            watch = channel.unary_stream(f"{HEALTH}Watch")
            model, probe = (
                watch(health_pb2.HealthCheckRequest(service=name).SerializeToString(), **how)
                for name, how in (("sim", {"metadata": token}), ("", {}))
            )
            asking = channel.stream_stream(REFLECTION)(metadata=token, timeout=CALL_TIMEOUT)
            await asking.write(question)
            for stream in (model, probe, asking):
                assert b"" != await asyncio.wait_for(stream.read(), CALL_TIMEOUT)
            remove_tokens(file, lambda _: True)
            assert live.doors.authority is not None
            await live.doors.authority.poll()
            await asking.write(question)
            await live.control.unload("sim")
            live.health.stop()
            ends = []
            for stream in (model, asking, probe):
                try:
                    reply = await asyncio.wait_for(stream.read(), CALL_TIMEOUT)
                    ends.append(str(health_pb2.HealthCheckResponse.FromString(reply)).strip())
                except grpc.aio.AioRpcError as error:
                    ends.append(error.code().name)
            return ends

    assert ["UNAUTHENTICATED", "UNAUTHENTICATED", "status: NOT_SERVING"] == asyncio.run(run())


def test_the_port_of_health_checks_tells_of_no_models(tmp_path: Path) -> None:
    """It asks for tokens as the main port does: probes need none, and the names of models do."""
    file = tmp_path / "t.toml"
    token = bearer(make_token(file, "ops", ("read",)))

    async def run() -> list[str]:
        access = {"tokens_file": str(file)}
        async with serving(tmp_path, access=access, server={"health_port": 0}) as live:
            assert live.listeners.health is not None
            target = f"127.0.0.1:{live.listeners.health.port}"
            async with grpc.aio.insecure_channel(target) as channel:
                found = []
                for method, name, shown in (
                    ("Check", "liveness", ()),
                    ("Check", "sim", ()),
                    ("Check", "nothing", ()),
                    ("List", "", ()),
                    ("Check", "sim", token),
                ):
                    request = health_pb2.HealthCheckRequest(service=name).SerializeToString()
                    code, _ = await call(channel, f"{HEALTH}{method}", request, shown)
                    found.append(code)
                return found

    refused = ["UNAUTHENTICATED"] * 3
    assert ["OK", *refused, "OK"] == asyncio.run(run())


# -- certificates ---------------------------------------------------------------------------------


@NEEDS_OPENSSL
def test_certificates_make_callers_known(tmp_path: Path) -> None:
    """By a name in them, over TLS; a token counts more, and a wrong one is not made up for."""
    ca = make_ca(tmp_path, "ca")
    server, web, other = (make_pair(tmp_path, name, ca) for name in ("server", "web", "other"))
    file = tmp_path / "t.toml"
    reader = bearer(make_token(file, "reader", ("read",)))
    text = file.read_text(encoding="utf-8")
    file.write_text(
        f"{text}[[certificate]]\ncn = 'web'\nroles = ['infer']\nmodels = ['sim']\n",
        encoding="utf-8",
    )
    paths = [f"{OIP}ModelInfer", STATUS, f"{OIP}NoSuchMethod", f"{OIP}ModelStreamInfer", REFLECTION]

    async def codes(port: int, pair: Any, metadata: Metadata) -> list[str]:
        credentials = grpc.ssl_channel_credentials(
            ca.certificate.read_bytes(), pair.key.read_bytes(), pair.certificate.read_bytes()
        )
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
            return [(await call(channel, path, message_of(path), metadata))[0] for path in paths]

    async def run() -> list[list[str]]:
        tls = {
            "tls_certificate": str(server.certificate),
            "tls_key": str(server.key),
            "tls_client_ca": str(ca.certificate),
        }
        async with serving(tmp_path, server=tls, access={"tokens_file": str(file)}) as live:
            port = live.listeners.port
            return [
                await codes(port, web, ()),
                await codes(port, other, ()),
                await codes(port, web, reader),
                await codes(port, web, bearer(new_token())),
            ]

    denied, unknown = "PERMISSION_DENIED", "UNAUTHENTICATED"
    assert [
        ["OK", denied, denied, "OK", denied],
        [unknown] * 5,
        [denied, "OK", denied, denied, "OK"],
        [unknown] * 5,
    ] == asyncio.run(run())


# -- rates and tenants ----------------------------------------------------------------------------


def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    """Over its rate a caller is refused, before its message is read; others are not concerned."""
    file = tmp_path / "t.toml"
    slow = bearer(make_token(file, "slow", rate=Rate(0.001, 2)))
    quick = bearer(make_token(file, "quick"))

    async def run() -> tuple[list[str], str | None, float]:
        access = {"tokens_file": str(file)}
        async with (
            serving(tmp_path, access=access) as live,
            grpc.aio.insecure_channel(f"127.0.0.1:{live.listeners.port}") as channel,
        ):
            path, message = f"{OIP}ModelInfer", infer_message("sim")
            seen = [(await call(channel, path, message, slow))[0] for _ in range(3)]
            seen.append((await call(channel, path, message, quick))[0])
            trailers: dict[str, str] = {}
            try:
                await channel.unary_unary(path)(message, metadata=slow, timeout=CALL_TIMEOUT)
            except grpc.aio.AioRpcError as error:
                trailers = {key: str(value) for key, value in error.trailing_metadata()}
            denied = live.metrics.access_denied.value(("ModelInfer", "rate_limited"))
            counted = live.metrics.requests.value(
                ("_unknown", "", "ModelInfer", "RESOURCE_EXHAUSTED")
            )
            assert (2, 2) == (denied, counted)
            return seen, trailers.get("jitney-reason"), float(trailers["grpc-retry-pushback-ms"])

    seen, reason, pushback = asyncio.run(run())
    assert ["OK", "OK", "RESOURCE_EXHAUSTED", "OK"] == seen
    assert ("RATE_LIMITED", 60_000) == (reason, pushback)


def test_refusals_in_a_loop_are_slowed_down_and_good_tokens_are_not(tmp_path: Path) -> None:
    """After five seconds' worth of them an address is told to wait; it is not locked out."""
    file = tmp_path / "t.toml"
    good = bearer(make_token(file, "web"))

    async def ask(one: Callable[..., Awaitable[tuple[str, Any]]]) -> list[str]:
        codes = [(await one(f"{OIP}ModelInfer", b"", bearer(new_token())))[0] for _ in range(7)]
        return [*codes, (await one(f"{OIP}ModelInfer", infer_message("sim"), good))[0]]

    access = {"tokens_file": str(file), "refusal_rate": 1.0}
    started = time.monotonic()
    codes = on_server(tmp_path, ask, access=access)
    if time.monotonic() - started < 60:  # the bucket fills while it runs
        assert ["UNAUTHENTICATED"] * 5 == codes[:5]
        assert "RESOURCE_EXHAUSTED" == codes[6]
    assert "OK" == codes[7]


def test_the_tenant_can_be_the_caller(tmp_path: Path) -> None:
    """Whoever is known has a share of their own, and cannot take another's by writing a name."""
    file = tmp_path / "t.toml"
    token = bearer(make_token(file, "web"))
    seen: list[str] = []

    async def run() -> None:
        sections = {"access": {"tokens_file": str(file)}, "limits": {"tenant_from": "principal"}}
        async with (
            serving(tmp_path, **sections) as live,
            grpc.aio.insecure_channel(f"127.0.0.1:{live.listeners.port}") as channel,
        ):
            live.engine.on_end(lambda entry, _: seen.append(entry.tenant))
            metadata = (*token, ("x-tenant", "somebody"))
            await call(channel, f"{OIP}ModelInfer", infer_message("sim"), metadata)

    asyncio.run(run())
    assert ["web"] == seen


# -- our client -----------------------------------------------------------------------------------


def test_the_client_shows_its_token_and_tells_refusals_apart(tmp_path: Path) -> None:
    """On the loopback address without encryption; what it may not ask does not keep it from more.

    Who may only infer still gets the model's contract, and a refusal has the type of its reason.
    """
    file = tmp_path / "t.toml"
    token = make_token(file, "web", ("infer",), ("sim",))
    slow = make_token(file, "slow", rate=Rate(1e-3, 1))
    row = np.ones((1, 4), np.float32)

    def use(port: int) -> list[str]:
        address, kinds = f"127.0.0.1:{port}", []

        def kind_of(call: Callable[[], object]) -> str:
            with pytest.raises(jitney_client.JitneyError) as caught:
                call()
            return type(caught.value).__name__

        with jitney_client.Client(address, token=token, timeout=CALL_TIMEOUT) as client:
            np.testing.assert_array_equal(row, client.infer("sim", row)["y"])
            kinds += [kind_of(lambda: client.infer("secret", {"x": row})), kind_of(client.models)]
        with jitney_client.Client(address, timeout=CALL_TIMEOUT) as client:
            kinds.append(kind_of(lambda: client.infer("sim", {"x": row})))
        options = {"token": lambda: slow, "retries": None, "check": False}
        with jitney_client.Client(address, timeout=CALL_TIMEOUT, **options) as client:
            client.infer("sim", {"x": row})
            kinds.append(kind_of(lambda: client.infer("sim", {"x": row})))
        return kinds

    async def run() -> list[str]:
        async with serving(tmp_path, access={"tokens_file": str(file)}) as live:
            return await asyncio.to_thread(use, live.listeners.port)

    assert ["AccessRefused", "AccessRefused", "Unauthenticated", "RateLimited"] == asyncio.run(
        run()
    )


# -- starting -------------------------------------------------------------------------------------


def test_a_socket_on_which_a_server_listens_is_not_taken(tmp_path: Path) -> None:
    """GRPC would take it without a word; what a killed server left behind is taken."""
    socket = tmp_path / "a.sock"
    server = {"admin_address": f"unix:{socket}"}

    async def run() -> str:
        async with serving(tmp_path, server=server):
            with pytest.raises(ConfigError) as caught:
                async with serving(tmp_path, server=server):
                    pass
            async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
                assert "OK" == (await call(channel, f"{OIP}ServerLive", b""))[0]
            return str(caught.value)

    assert f"--admin-address: another server listens on {socket}" == asyncio.run(run())


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A path that somebody mistook is not overwritten."""
    file = tmp_path / "a.sock"
    file.write_text("precious", encoding="utf-8")

    async def run() -> str:
        with pytest.raises(ConfigError) as caught:
            async with serving(tmp_path, server={"admin_address": f"unix:{file}"}):
                pass
        return str(caught.value)

    assert f"--admin-address: {file} is there, and no socket" == asyncio.run(run())
    assert "precious" == file.read_text(encoding="utf-8")
