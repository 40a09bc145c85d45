"""Certificates are checked before they are used, and exchanged while the server runs."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from certificates import Pair, make_ca, make_pair

from jitney.config import LimitSettings, ServerSettings
from jitney.errors import ConfigError
from jitney.transport.certificates import PemFiles, check, read_files
from jitney.transport.server import GrpcServer, channel_options
from jitney.transport.tls import CertificateWatch

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400.0


class Notebook:
    """An audit log that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def record(self, event: str, *, principal: str = "", **facts: Any) -> None:
        """Remember."""
        assert not principal
        self.events.append((event, facts))


class Bench:
    """A watch over files that tests write; ``now`` is its wall clock."""

    def __init__(self, folder: Path, pair: Pair, ca: Pair | None = None) -> None:
        self.pair = Pair(folder / "in_use.pem", folder / "in_use.key")
        self.put(pair)
        self.audit = Notebook()
        self.now = time.time()
        roots = str(ca.certificate) if ca else ""
        settings = ServerSettings(
            tls_certificate=str(self.pair.certificate),
            tls_key=str(self.pair.key),
            tls_client_ca=roots,
        )
        self.watch = CertificateWatch(settings, self.audit, lambda: self.now)

    def put(self, pair: Pair) -> None:
        """Exchange both files, one after the other."""
        for source, target in zip(pair, self.pair, strict=True):
            target.write_bytes(source.read_bytes())
            # Within the same tick of the file system's clock it would look the same.
            os.utime(target, ns=(time.time_ns(), time.time_ns()))

    def poll(self) -> None:
        """Look often enough to see what stays."""
        self.watch.poll()
        self.watch.poll()

    def figures(self) -> dict[str, float]:
        """Return what the metrics page shows."""
        return {
            " ".join((reading.name, *labels)): value
            for reading in self.watch.readings()
            for labels, value in reading.read()
        }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where certificates are."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ca(folder: Path) -> Pair:
    """Return what signs."""
    return make_ca(folder, "ca")


@pytest.fixture(scope="module")
def first(folder: Path, ca: Pair) -> Pair:
    """Return a certificate."""
    return make_pair(folder, "first", ca)


@pytest.fixture(scope="module")
def second(folder: Path, ca: Pair) -> Pair:
    """Return another one."""
    return make_pair(folder, "second", ca)


@pytest.fixture
def bench(tmp_path: Path, first: Pair) -> Bench:
    """Return a watch over the first."""
    return Bench(tmp_path, first)


# -- what is right --------------------------------------------------------------------------------


def test_a_chain_is_as_long_as_it_is(folder: Path, ca: Pair) -> None:
    """The server's certificate, those above it, and the root, if somebody put it there."""
    middle = make_ca(folder, "middle", ca)
    above = middle.certificate.read_bytes() + ca.certificate.read_bytes()
    pair = make_pair(folder, "leaf", middle, days=(-1, 9), above=above)

    found = check(PemFiles(pair.certificate.read_bytes(), pair.key.read_bytes()), time.time())

    assert 64 == len(found.fingerprint)
    assert found.not_after == pytest.approx(time.time() + 2 * DAY, abs=60)  # that of the others


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"days": (-3, -1)}, "server.tls_certificate: that of CN=wrong is valid from "),
        ({"days": (1, 3)}, "server.tls_certificate: that of CN=wrong is valid from "),
        ({"above": "first"}, "server.tls_certificate: that of CN=wrong is not signed by the next"),
        ({"key": "first"}, "server.tls_key: this is not the key of the certificate"),
        ({"key": b"no key"}, "server.tls_key: expected a private key in PEM form, without"),
        ({"chain": b"nothing"}, "server.tls_certificate: expected certificates in PEM form"),
        ({"chain": b""}, "server.tls_certificate: expected certificates in PEM form"),
        ({"roots": b"nothing"}, "server.tls_client_ca: expected certificates in PEM form"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_what_is_wrong_is_named(
    folder: Path, ca: Pair, first: Pair, change: dict[str, Any], text: str
) -> None:
    """Each fault has a text that says which setting it is about."""
    above = first.certificate.read_bytes() if "above" in change else b""
    pair = make_pair(folder, "wrong", ca, days=change.get("days", (-1, 2)), above=above)
    key = first.key.read_bytes() if change.get("key") == "first" else change.get("key")
    files = PemFiles(
        change.get("chain", pair.certificate.read_bytes()),
        key or pair.key.read_bytes(),
        change.get("roots"),
    )

    with pytest.raises(ConfigError) as caught:
        check(files, time.time())

    assert str(caught.value).startswith(text)
    assert "PRIVATE" not in str(caught.value) + repr(files)


def test_a_certificate_cut_in_the_middle_is_none(first: Pair) -> None:
    """Whatever a half-written file holds, it is refused."""
    chain, key = first.certificate.read_bytes(), first.key.read_bytes()

    for end in range(0, len(chain) - 2, 7):
        with pytest.raises(ConfigError):
            check(PemFiles(chain[:end], key), time.time())


# -- while it runs --------------------------------------------------------------------------------


def test_a_new_pair_is_taken_up(bench: Bench, second: Pair) -> None:
    """Once it stayed as it is from one look to the next; then metrics and audit say so."""
    before = bench.watch.current
    bench.put(second)
    bench.watch.poll()
    assert before is bench.watch.current
    bench.watch.poll()

    assert second.certificate.read_bytes() == bench.watch.current.files.chain
    assert 1 == bench.figures()["jitney_tls_rotations taken"]
    ((event, facts),) = bench.audit.events
    assert ("tls.rotated", before.fingerprint) == (event, facts["before"])


def test_half_of_a_new_pair_is_waited_for(bench: Bench, second: Pair) -> None:
    """Between the two files of a pair nothing is broken yet."""
    bench.pair.certificate.write_bytes(second.certificate.read_bytes())
    bench.watch.poll()
    bench.pair.key.write_bytes(second.key.read_bytes())
    bench.poll()

    assert ("", 0, 1) == (bench.watch.broken, bench.watch.refusals, bench.watch.rotations)


def test_what_is_broken_changes_nothing(
    bench: Bench, second: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """The last good pair stays, one record says why, and the next good one makes up for it."""
    before = bench.watch.current
    bench.pair.key.write_bytes(b"rubbish")
    bench.poll()
    bench.poll()

    assert before is bench.watch.current
    assert (1, 1) == (
        bench.figures()["jitney_tls_files_broken"],
        bench.figures()["jitney_tls_rotations refused"],
    )
    assert ["tls.broken"] == [event for event, _ in bench.audit.events]
    assert "the last good one stays: server.tls_key: expected a private key" in caplog.text
    bench.put(second)
    bench.poll()
    assert ("", 0) == (bench.watch.broken, bench.figures()["jitney_tls_files_broken"])
    assert ["tls.broken", "tls.rotated"] == [event for event, _ in bench.audit.events]


def test_a_file_that_is_gone_is_no_reason_to_stop(bench: Bench, first: Pair) -> None:
    """It is as broken as any other, until it is back; then nothing was new after all."""
    bench.pair.certificate.unlink()
    bench.poll()
    assert bench.watch.broken.startswith("server.tls_certificate: cannot read")
    bench.put(first)
    bench.poll()

    assert ("", 0) == (bench.watch.broken, bench.watch.rotations)


def test_a_certificate_that_is_not_valid_yet_is_taken_up_when_it_is(
    bench: Bench, folder: Path, ca: Pair
) -> None:
    """Its issuer's clock may be ahead of ours; that is no reason to change the files again."""
    ahead = make_pair(folder, "ahead", ca, days=(2 / 24, 2))
    bench.put(ahead)
    bench.poll()
    assert bench.watch.broken.startswith("server.tls_certificate: that of CN=ahead is valid from")
    bench.now += 3600
    bench.poll()
    assert ["tls.broken"] == [event for event, _ in bench.audit.events]

    bench.now += 2 * 3600
    bench.watch.poll()

    assert ahead.certificate.read_bytes() == bench.watch.current.files.chain
    assert ["tls.broken", "tls.rotated"] == [event for event, _ in bench.audit.events]


def test_files_that_become_readable_are_taken_up(
    bench: Bench, second: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes them as another user may give them away afterwards, as they are."""

    def refuse(_: ServerSettings) -> PemFiles:
        msg = "server.tls_key: cannot read 'in_use.key': Permission denied"
        raise ConfigError(msg)

    bench.put(second)
    with monkeypatch.context() as patch:
        patch.setattr("jitney.transport.tls.read_files", refuse)  # the tests may run as root
        bench.poll()
    assert "server.tls_key: cannot read 'in_use.key': Permission denied" == bench.watch.broken
    bench.pair.key.chmod(0o640)
    bench.poll()

    assert ("", 1) == (bench.watch.broken, bench.watch.rotations)


def test_a_folder_that_is_turned_round_is_seen(tmp_path: Path, first: Pair, second: Pair) -> None:
    """As Kubernetes exchanges secrets: a link to a folder points to another one."""
    for name, pair in (("one", first), ("two", second)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tls.crt").write_bytes(pair.certificate.read_bytes())
        (tmp_path / name / "tls.key").write_bytes(pair.key.read_bytes())
    link = tmp_path / "now"
    link.symlink_to("one")
    settings = ServerSettings(tls_certificate=str(link / "tls.crt"), tls_key=str(link / "tls.key"))
    watch = CertificateWatch(settings, Notebook())
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(link)
    watch.poll()
    watch.poll()

    assert second.certificate.read_bytes() == watch.current.files.chain


def test_the_end_is_told_a_week_before(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a day from then on, and in a gauge always; also when it is over."""
    ca = make_ca(folder, "long")
    bench = Bench(tmp_path, make_pair(folder, "ending", ca, days=(-1, 8)))
    caplog.set_level(logging.WARNING)
    end = bench.figures()["jitney_tls_certificate_end_seconds"]
    assert end == pytest.approx(time.time() + 8 * DAY, abs=60)

    bench.watch.poll()
    assert not caplog.messages
    for hours in (26, 30, 51, 24 * 8 + 12):
        bench.now = time.time() + hours * 3600
        bench.watch.poll()

    assert [
        "the certificate for TLS ends in 6.9 days",
        "the certificate for TLS ends in 5.9 days",
        "the certificate for TLS ended 0.5 days ago",
    ] == caplog.messages


def test_what_is_out_of_date_at_the_start_is_refused(
    tmp_path: Path, folder: Path, ca: Pair
) -> None:
    """There is nothing yet to fall back to."""
    pair = make_pair(folder, "over", ca, days=(-2, -1))

    with pytest.raises(ConfigError, match="CN=over is valid from"):
        Bench(tmp_path, pair)


def test_files_that_cannot_be_read_are_named_by_their_setting(folder: Path) -> None:
    """Before the port is open."""
    missing = str(folder / "missing")

    with pytest.raises(ConfigError) as caught:
        read_files(ServerSettings(tls_certificate=missing, tls_key=missing))

    expected = f"server.tls_certificate: cannot read {missing!r}: No such file or directory"
    assert expected == str(caught.value)


# -- those who encrypt ----------------------------------------------------------------------------


def served_by(port: int, ca: Pair) -> bytes:
    """Return the certificate that a port shows, in PEM form."""
    context = ssl.create_default_context(cafile=str(ca.certificate))
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as encrypted,
    ):
        return ssl.DER_cert_to_PEM_cert(encrypted.getpeercert(binary_form=True) or b"").encode()


def test_connections_made_after_a_change_get_the_new_certificate(
    bench: Bench, ca: Pair, first: Pair, second: Pair
) -> None:
    """On every port that has its credentials, and without another start."""

    async def run() -> list[bytes]:
        servers = [
            GrpcServer(
                [],
                "127.0.0.1:0",
                channel_options(LimitSettings(), 1 << 20),
                flag="--grpc-port",
                credentials=bench.watch.credentials(),
            )
            for _ in range(2)
        ]
        shown = []
        for server in servers:
            await server.start()
        for pair in (first, second, first):
            bench.put(pair)
            bench.poll()
            shown += [await asyncio.to_thread(served_by, s.port, ca) for s in servers]
        for server in servers:
            await server.stop(0)
        return shown

    expected = [pair.certificate.read_bytes() for pair in (first, second, first) for _ in range(2)]
    assert expected == asyncio.run(run())


def test_the_context_follows_the_certificate(bench: Bench, second: Pair) -> None:
    """It is made once for each, and those in use stay as they are."""
    one = bench.watch.context()
    assert one is bench.watch.context()
    bench.put(second)
    bench.poll()

    assert one is not bench.watch.context()
    assert ssl.CERT_NONE is bench.watch.context().verify_mode


def test_callers_certificates_are_asked_for_where_there_are_roots(
    tmp_path: Path, first: Pair, ca: Pair
) -> None:
    """Of who reads metrics as of who calls."""
    assert ssl.CERT_REQUIRED is Bench(tmp_path, first, ca).watch.context().verify_mode


def test_gone_roots_are_refused_like_anything_else(tmp_path: Path, first: Pair, ca: Pair) -> None:
    """Nobody is let in without a certificate because a file is broken."""
    roots = tmp_path / "roots.pem"
    roots.write_bytes(ca.certificate.read_bytes())
    bench = Bench(tmp_path, first, Pair(roots, roots))
    roots.write_bytes(b"")
    bench.poll()

    assert "server.tls_client_ca: expected certificates in PEM form" == bench.watch.broken
    assert ca.certificate.read_bytes() == bench.watch.current.files.roots
    assert isinstance(bench.watch.credentials(), grpc.ServerCredentials)
