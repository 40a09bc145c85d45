"""A session full of mistakes, and a search for its secrets in all that it left behind."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from live_server import UP, wait_until
from tokens_file import make_token

from jitney.access.tokens import new_token
from jitney.testing.sim_model import SimModel, write_sim_model
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

OIP: Final = "/inference.GRPCInferenceService/"
CALL_TIMEOUT: Final = 20.0


def calls_with(token: str) -> Iterator[tuple[str, bytes, tuple[tuple[str, str], ...]]]:
    """Yield calls in which a token stands where it belongs, and where it does not."""
    metadata = (("authorization", f"Bearer {token}"),)
    infer = pb.ModelInferRequest(model_name="sim").SerializeToString()
    for shown in (metadata, (*metadata, *metadata), (("authorization", token),)):
        yield f"{OIP}ModelInfer", infer, shown
    yield f"{OIP}ModelInfer", pb.ModelInferRequest(model_name=token).SerializeToString(), metadata
    yield f"{OIP}ModelStreamInfer", infer, metadata
    yield f"{OIP}ModelMetadata", pb.ModelMetadataRequest(name=token).SerializeToString(), metadata
    yield f"{OIP}RepositoryModelLoad", b"\xff" + token.encode(), metadata
    request = pb.RepositoryModelLoadRequest(model_name=token)
    yield f"{OIP}RepositoryModelLoad", request.SerializeToString(), metadata
    settings = pb.LogSettingsRequest()
    settings.settings["log_verbose_level"].uint32_param = 3
    yield f"{OIP}LogSettings", settings.SerializeToString(), metadata
    yield f"{OIP}{token}", b"", metadata
    yield f"/{token}/Method", b"", ()


def make_calls(address: str, token: str) -> list[str]:
    """Make them all; return what the server answered to those that did not write the token."""
    answers = []
    with grpc.insecure_channel(address) as channel:
        for path, message, metadata in calls_with(token):
            call = channel.unary_stream(path)
            own_words = token.encode() in message or token in path
            try:
                replies = [*call(message, timeout=CALL_TIMEOUT, metadata=metadata)]
            except grpc.RpcError as error:
                trailers: Any = error.trailing_metadata()  # type: ignore[attr-defined]  # a call too
                text = f"{error.code()} {error.details()} {trailers}"  # type: ignore[attr-defined]
            else:
                text = str(replies)
            answers += [] if own_words else [text]
    return answers


def read_page(url: str, header: str) -> str:
    """Return the metrics page, or why there is none."""
    request = urllib.request.Request(url, headers={"Authorization": header})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=CALL_TIMEOUT) as reply:  # noqa: S310
            return str(reply.read().decode())
    except urllib.error.HTTPError as error:
        return f"{error} {error.headers} {error.read()!r}"


def test_no_secret_is_left_behind(tmp_path: Path) -> None:
    """Not in the log at its most talkative, the audit log, answers, metrics, or a command line."""
    write_sim_model(tmp_path / "models", "sim", SimModel(alpha=0, beta=1e-4), max_rows=4)
    file, audit, log = (tmp_path / name for name in ("t.toml", "audit.jsonl", "log"))
    good = make_token(file, "good", ("infer", "read", "admin"))
    few = make_token(file, "few", ("infer",), ("other",))
    expired = make_token(file, "old", ("infer",), expires=1e9)
    tokens = [good, few, expired, new_token()]
    flags = [
        *("-m", "jitney.testing.sim_server", f"--model-repository={tmp_path / 'models'}"),
        *("--grpc-port=0", "--metrics-port=0", "--log-level=debug", "--refusal-rate=1000"),
        *(f"--tokens-file={file}", f"--audit-file={audit}", "--tokens-poll-seconds=0.1"),
        *("--forward-metadata=.*", "--model-control-mode=explicit", "--load-model=*"),
    ]
    answers: list[str] = []
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, *flags], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdout is not None
    try:
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.strip() == UP:
                break
        address, page = (
            next(line.split()[1] for line in printed if line.startswith(word))
            for word in ("gRPC ", "metrics ")
        )
        command_line = Path(f"/proc/{process.pid}/cmdline").read_text(encoding="utf-8")
        for token in tokens:
            answers += make_calls(address, token)
            answers += [read_page(page, header) for header in (f"Bearer {token}", token)]
        # Somebody pastes a token in place of its hash.
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace('hash = "', f'hash = "{good} ', 1), encoding="utf-8")
        wait_until(lambda: b"hash: expected" in log.read_bytes(), "the broken file is noticed")
        answers.append(read_page(page, f"Bearer {good}"))
    finally:
        process.terminate()
        printed += process.stdout.readlines()
        process.wait(20)
        process.stdout.close()

    left = {
        "answers": "\n".join(answers),
        "output": "".join(printed),
        "command line": command_line,
        "log": log.read_text(encoding="utf-8"),
        "audit log": audit.read_text(encoding="utf-8"),
    }
    assert "jitney_access_denied_total" in left["answers"]
    assert "access.denied" in left["audit log"]
    secrets = [token.split("_", 2)[2] for token in tokens]
    assert [] == [(where, s) for where, text in left.items() for s in secrets if s in text]
