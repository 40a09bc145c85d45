"""A server whose models are changed, swapped and forged under it, and its audit log."""

from __future__ import annotations

import json
import os
import shutil
import threading
from typing import TYPE_CHECKING, Self

import grpc
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hostile_models import RaisesAtLoad, X, Y
from live_server import LiveServer, launch, wait_until
from tiny_models import Plus, write_model

from jitney.audit.verification import verify
from jitney.cli import main
from jitney.testing.mutations import mutations
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROW = np.zeros((1, 4), np.float32)
MUTATIONS = 40


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Return the files of a pair of keys, the private one first."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


class Caller:
    """Calls a model again and again on a thread, and counts what it got."""

    def __init__(self, live: LiveServer, model: str) -> None:
        self.answers: set[float] = set()
        self.failures: list[str] = []
        self.calls = 0
        self._live = live
        self._model = model
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            self.calls += 1
            try:
                self.answers.add(float(self._live.client.infer(self._model, ROW)["y"][0, 0]))
            except Exception as error:  # noqa: BLE001  # whatever it is, the test shall see it
                self.failures.append(str(error))


def load(live: LiveServer, name: str) -> str:
    """Ask for a load; return why it was refused, empty where it was not."""
    try:
        live.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name))
    except grpc.RpcError as error:
        return str(error.details())  # type: ignore[attr-defined]  # of every error of a call
    return ""


def events(file: Path) -> list[tuple[str, dict[str, object]]]:
    """Return what an audit log holds."""
    records = [json.loads(line) for line in file.read_bytes().splitlines()]
    return [(record["event"], record["facts"]) for record in records]


def test_broken_new_versions_do_not_disturb_the_one_that_is_served(
    start: Callable[..., LiveServer], tmp_path: Path
) -> None:
    """R13: each of 40 wounds to the file is refused by its digest while callers are answered.

    The log of it all hangs together, and holds every refusal with the digest of what was there.
    """
    root, audit = tmp_path / "models", tmp_path / "audit.jsonl"
    file = write_model(root, "plus", Plus(1), [X], [Y])
    assert 0 == main(["manifest", str(root)])
    live = start(
        root, "--model-control-mode=explicit", "--load-model=plus", f"--audit-file={audit}"
    )
    good = file.read_bytes()
    with Caller(live, "plus") as caller:
        wounds = [data for data in mutations([good], 2 * MUTATIONS) if data != good][:MUTATIONS]
        for data in wounds:
            new = file.with_name("new")
            new.write_bytes(data)
            new.rename(file)
            assert "model.pt: not the file that manifest.json lists" in load(live, "plus")
    assert (set(), {1.0}) == (set(caller.failures), caller.answers)
    assert caller.calls > 0
    assert 0 == live.stop()
    heard = events(audit)
    refused = [facts for event, facts in heard if event == "model.refused"]
    assert len(wounds) == len(refused)
    assert all(len(str(facts["sha256"])) == 64 for facts in refused)
    assert ["server.start", "model.load"] == [event for event, _ in heard[:2]]
    assert ["server.stop", "server.stopped"] == [event for event, _ in heard[-2:]]
    assert "" == verify([audit]).broken


def test_only_what_is_signed_is_served(
    start: Callable[..., LiveServer], tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    """T20: unsigned, changed and extra files are refused, and the version before is served on."""
    root = tmp_path / "models"
    file = write_model(root, "plus", Plus(1), [X], [Y])
    assert 0 == main(["manifest", str(root), "--sign", str(keys[0])])
    live = start(
        root,
        "--model-control-mode=explicit",
        "--load-model=plus",
        "--model-signature=require",
        f"--model-signature-key={keys[1]}",
    )
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert "model.pt: not the file that manifest.json lists" in load(live, "plus")
    file.write_bytes(good)
    (file.parent / "extra").touch()
    assert "extra: not listed in m" in load(live, "plus")
    (file.parent / "extra").unlink()
    shutil.copytree(file.parent, file.parent.with_name("2"))
    (file.parent.with_name("2") / "model.sig").unlink()
    assert "not signed" in load(live, "plus")
    assert 1.0 == live.client.infer("plus", ROW)["y"][0, 0]
    assert 0 == main(["manifest", str(file.parent.with_name("2")), "--sign", str(keys[0])])
    assert "" == load(live, "plus")
    assert ["2"] == [m.version for m in live.client.models(ready=True)]


def test_the_scan_refuses_and_the_operator_allows(tmp_path: Path) -> None:
    """A file whose code runs at load reaches no worker, unless this very file is allowed."""
    root = tmp_path / "models"
    write_model(root, "wakes", RaisesAtLoad(), [X], [Y])
    with LiveServer(root, tmp_path / "log") as live:
        (model,) = live.client.models()
        assert "refused by the static scan: __setstate__ in code/" in model.reason
        digest = model.reason.rpartition(" ")[2]
        assert 0 == live.client.status().devices[0].restarts
    with LiveServer(root, tmp_path / "log2", f"--model-scan-allow={digest}") as live:
        (model,) = live.client.models()
        assert "torch cannot read the file (ValueError: not today)" in model.reason


def test_the_chain_survives_a_kill(start: Callable[..., LiveServer], tmp_path: Path) -> None:
    """After a kill -9, the next server goes on where the file ends, and says if a line is torn."""
    root, audit = tmp_path / "models", tmp_path / "audit.jsonl"
    write_model(root, "plus", Plus(1), [X], [Y])
    live = start(root, f"--audit-file={audit}", "--metrics")
    wait_until(lambda: live.metric("jitney_audit_records_total") >= 2, "the load is recorded")
    live.kill9()
    whole = len(events(audit))
    with audit.open("ab") as file:
        file.write(b'{"seq":3,"time":"20')
    live = start(root, f"--audit-file={audit}")
    assert 0 == live.stop()
    verdict = verify([audit])
    assert ("", 1) == (verdict.broken, len(verdict.notes))
    assert verdict.records > whole
    assert 0 == main(["verify-audit", str(audit)])


def test_changes_of_settings_are_recorded(start: Callable[..., LiveServer], tmp_path: Path) -> None:
    """What callers change, load and unload, with what they changed."""
    root, audit = tmp_path / "models", tmp_path / "audit.jsonl"
    write_model(root, "plus", Plus(1), [X], [Y])
    live = start(
        root, f"--audit-file={audit}", "--model-control-mode=explicit", "--load-model=plus"
    )
    request = pb.LogSettingsRequest()
    request.settings["log_verbose_level"].uint32_param = 1
    live.call("LogSettings", request)
    live.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="plus"))
    assert "" == load(live, "plus")
    assert 0 == live.stop()
    heard = events(audit)
    assert ("config.log", "verbose_level=1") in [(e, f.get("changed")) for e, f in heard]
    assert ["model.load", "model.unload", "model.load"] == [
        event for event, _ in heard if event.startswith("model.")
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where nobody may")
def test_a_log_that_cannot_be_written_keeps_the_server_from_starting(tmp_path: Path) -> None:
    """Whoever asked for an audit log is told, before anything is served."""
    (tmp_path / "models").mkdir()
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    command = launch(
        "serve", f"--model-repository={tmp_path / 'models'}", f"--audit-file={folder / 'audit'}"
    )
    _, errors = command.communicate(timeout=30)
    assert 2 == command.returncode
    assert "telemetry.audit_file: " in errors


def test_a_full_disk_does_not_reach_callers(
    start: Callable[..., LiveServer], tmp_path: Path
) -> None:
    """R28: on a device that is always full no record is kept; requests are, and an alarm rises."""
    root = tmp_path / "models"
    write_model(root, "plus", Plus(1), [X], [Y])
    live = start(root, "--audit-file=/dev/full")
    assert 1.0 == live.client.infer("plus", ROW)["y"][0, 0]
    wait_until(lambda: live.metric("jitney_audit_failing") == 1, "the alarm")
    assert 0 == live.metric("jitney_audit_records_total")
    assert 0 == live.stop()
