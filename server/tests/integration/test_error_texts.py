"""What a caller reads of an error is about its call, and never about the machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import bad_contents
import bad_requests
import grpc
import pytest
from live_server import CALL_TIMEOUT, LiveServer

from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSIDE = re.compile(
    r"Traceback|File \"|\.py\b|\.so\b|line \d+|0x[0-9a-f]{6}|/proc|/dev/shm|/tmp|memfd|/home|/root"
    r"|site-packages|\bpid\b|google\.protobuf|cygrpc"
)
HOSTILE = (
    *("", " ", "x\ny", "x\r\ny", "\x1b[31mred\x1b[0m", "\x00", "../../etc/passwd", "/etc/passwd"),
    *("%s%n", "{0}", "é" * 2000, "a" * 30_000, "\u202e", "-1", "9" * 40),
)


def failures(server: LiveServer) -> Iterator[str]:
    """Yield the texts of every kind of refusal."""
    for case in (*bad_requests.CASES, *bad_contents.CASES):
        given = case.request
        message = given if isinstance(given, bytes) else given.SerializeToString()
        yield from _text(server, "ModelInfer", message)
    for name, method in pb.METHODS.items():
        if name in ("ModelInfer", "ModelStreamInfer"):
            continue
        for message in (b"\xff" * 9, bytes(1 << 17), b"\x0b" * 1000):
            yield from _text(server, name, message)
        for text in HOSTILE:
            for field in method.request.DESCRIPTOR.fields:
                if field.type == field.TYPE_STRING and not field.is_repeated:
                    request = method.request(**{field.name: text})
                    yield from _text(server, name, request.SerializeToString())


def _text(server: LiveServer, name: str, message: bytes) -> Iterator[str]:
    call = server.channel.unary_unary(pb.METHODS[name].path)
    try:
        call(message, timeout=CALL_TIMEOUT)
    except grpc.RpcError as error:
        assert error.code() not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), name  # noqa: PT017  # many calls
        yield error.details() or ""


def test_no_text_tells_of_the_machine(server: LiveServer, repository: Path) -> None:
    """No path, process, address or traceback, but for what the caller wrote itself; all short."""
    texts = list(failures(server))

    assert len(texts) > 200
    assert 4096 > max(len(text.encode()) for text in texts)
    given = [text for text in HOSTILE if "/" in text]
    for text in texts:
        for own in given:
            text = text.replace(own, "")  # noqa: PLW2901  # less of it
        assert not INSIDE.search(text), text
        assert str(repository) not in text


@pytest.mark.parametrize("count", [100_000, 1_000_000])
def test_many_small_parts_are_refused_before_they_are_parsed(
    server: LiveServer, count: int
) -> None:
    """Empty entries of a map, empty requested outputs: forty times their size, if one looked."""
    before = server.metric("jitney_server_private_bytes")
    request: Any = pb.ModelInferRequest(model_name="simple").SerializeToString()
    codes = []
    for name, message in (("LogSettings", b"\x0a\x00"), ("TraceSetting", b"\x0a\x00")):
        with pytest.raises(grpc.RpcError) as caught:
            server.channel.unary_unary(pb.METHODS[name].path)(message * count, timeout=CALL_TIMEOUT)
        codes.append(caught.value.code().name)
    for field in (b"\x2a\x00", b"\x32\x00"):  # inputs, outputs
        with pytest.raises(grpc.RpcError) as caught:
            server.infer_raw(request + field * min(count, 1_000_000))
        codes.append(caught.value.code().name)

    assert {"INVALID_ARGUMENT"} == set(codes) - {"RESOURCE_EXHAUSTED"}
    assert server.metric("jitney_server_private_bytes") - before < 64 << 20
