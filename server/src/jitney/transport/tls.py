"""The certificate in force: watched, exchanged while the server runs, given to who encrypts."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from jitney.clock import wall_seconds
from jitney.errors import ConfigError
from jitney.telemetry.reading import Reading
from jitney.transport.certificates import Certificates, check, read_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.audit import Audit
    from jitney.clock import Clock
    from jitney.config import ServerSettings

__all__ = ["CertificateWatch"]

log = logging.getLogger(__name__)

PERIOD: Final = 1.0
"""Seconds between two looks at the files: as many calls of ``stat`` as there are files."""
SOON: Final = 7 * 86_400
"""Seconds before its end at which a certificate is warned about."""
AGAIN: Final = 86_400
"""Seconds between two such warnings."""
RETRY: Final = 30.0
"""Seconds between two attempts with files that cannot be used and do not change."""


class CertificateWatch:
    """The certificate that new connections get; existing ones keep theirs.

    ``poll`` looks at the files. New ones come into force when they stayed the same from one look to
    the next (whoever writes them may be half-way through) and pass ``certificates.check``. Whatever
    is wrong with them, the last good ones stay in force, and log, metrics and audit say so; once,
    until the files change again. They are tried again now and then, as time alone may put them
    right: a certificate becomes valid, a descriptor is free again.

    Invariant: ``current`` was right when it was taken up.
    """

    def __init__(
        self,
        settings: ServerSettings,
        audit: Audit,
        now: Callable[[], float] = wall_seconds,
    ) -> None:
        """Read the files.

        :param now: seconds since the epoch, which is what certificates count in.
        :raises ConfigError: when they cannot be used; there is nothing yet to fall back to.
        """
        self._settings = settings
        self._audit = audit
        self._now = now
        self._seen = self._seeing = self._stamps()
        self._made: tuple[Certificates, ssl.SSLContext] | None = None
        self._warned_at = -float(AGAIN)
        self._tried_at = 0.0
        self.current: Certificates = check(read_files(settings), now())
        self.broken = ""
        """Why the files cannot be used that are there now; empty while they can."""
        self.rotations = 0
        self.refusals = 0
        self._task: asyncio.Task[None] | None = None
        self._warn_if_it_ends()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        state = f"broken: {self.broken}" if self.broken else "good"
        return f"<CertificateWatch {self.current.fingerprint[:12]}, files {state}>"

    # -- for those who encrypt ------------------------------------------------------------------

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a gRPC port encrypts with; every handshake has the certificate then in force.

        Callers' certificates are asked for, and checked against the roots, if there are roots.
        """
        given = self.current

        def fetch() -> grpc.ssl_server_certificate_configuration | None:
            # Called by gRPC, on a thread of its own, before each handshake. None is for no change:
            # it need not parse the same certificate every time.
            nonlocal given
            current = self.current
            if current is given:
                return None
            given = current
            return _configuration(current)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(given),
            fetch,
            require_client_authentication=given.files.roots is not None,
        )

    def context(self) -> ssl.SSLContext:
        """Return what Python's sockets encrypt with; ask again for every connection."""
        current, made = self.current, self._made
        if made is None or made[0] is not current:
            made = self._made = current, _context(current)
        return made[1]

    # -- watching -------------------------------------------------------------------------------

    def start(self, clock: Clock) -> None:
        """Look at the files every second from now on, on a thread: file systems may be slow."""
        self._task = asyncio.get_running_loop().create_task(self._watch(clock))

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self, clock: Clock) -> None:
        while True:
            tick = asyncio.Event()
            clock.call_at(clock.now() + PERIOD, tick.set)
            await tick.wait()
            try:
                await asyncio.to_thread(self.poll)
            except Exception:
                # A look that fails must not be the last one.
                log.exception("looking at the files of the certificate failed")

    def poll(self) -> None:
        """Look at the files, and take them up if they are new and right."""
        self._warn_if_it_ends()
        stamps, now = self._stamps(), self._now()
        settled, self._seeing = stamps == self._seeing, stamps
        # By distance: a clock that is set back must not keep it from trying.
        is_due = bool(self.broken) and abs(now - self._tried_at) >= RETRY
        is_known = stamps == self._seen
        if not settled or (is_known and not is_due):
            return
        self._seen, self._tried_at = stamps, now
        try:
            files = read_files(self._settings)
            if files == self.current.files:
                self.broken = ""
                return
            found = check(files, now)
            _context(found)  # OpenSSL has a word in it too
        except ConfigError as error:
            self._refuse(str(error), is_known=is_known)
            return
        self._take_up(found)

    def _take_up(self, found: Certificates) -> None:
        old, self.current, self.broken = self.current, found, ""
        self.rotations += 1
        self._warned_at = -float(AGAIN)
        log.info("new certificate for TLS, SHA-256 %s", found.fingerprint)
        self._audit.record(
            "tls.rotated",
            fingerprint=found.fingerprint,
            before=old.fingerprint,
            not_after=round(found.not_after),
        )
        self._warn_if_it_ends()

    def _refuse(self, reason: str, *, is_known: bool) -> None:
        self.broken = reason
        if is_known:
            return
        self.refusals += 1
        log.error("the new certificate cannot be used, the last good one stays: %s", reason)
        self._audit.record("tls.broken", reason=reason, fingerprint=self.current.fingerprint)

    def _warn_if_it_ends(self) -> None:
        now = self._now()
        left = self.current.not_after - now
        if left < SOON and now - self._warned_at >= AGAIN:
            self._warned_at = now
            days = left / 86_400
            text = f"ends in {days:.1f} days" if left > 0 else f"ended {-days:.1f} days ago"
            log.warning("the certificate for TLS %s", text)

    def _stamps(self) -> list[tuple[int, int, int, int]]:
        settings = self._settings
        stamps = []
        for name in (settings.tls_certificate, settings.tls_key, settings.tls_client_ca):
            try:
                # Through links: a secret of Kubernetes is exchanged by turning one of them round.
                about = Path(name).stat() if name else None
            except OSError:
                about = None
            stamps.append(
                # The third changes with rights and owners too: who could not read it may now.
                (about.st_mtime_ns, about.st_ino, about.st_ctime_ns, about.st_size)
                if about
                else (0, 0, 0, 0)
            )
        return stamps

    def readings(self) -> Sequence[Reading]:
        """Return what the metrics page shows."""
        return (
            Reading(
                "jitney_tls_certificate_end_seconds",
                "When the certificate in force ends, in seconds since the epoch.",
                (),
                lambda: [((), self.current.not_after)],
            ),
            Reading(
                "jitney_tls_files_broken",
                "1 while the files of the certificate cannot be used, and the last good ones are.",
                (),
                lambda: [((), int(bool(self.broken)))],
            ),
            Reading(
                "jitney_tls_rotations",
                "New certificates that were found, by what became of them.",
                ("outcome",),
                lambda: [(("taken",), self.rotations), (("refused",), self.refusals)],
                counts=True,
            ),
        )


def _configuration(certificates: Certificates) -> grpc.ssl_server_certificate_configuration:
    chain, key, roots = certificates.files
    return grpc.ssl_server_certificate_configuration([(key, chain)], roots)


def _context(certificates: Certificates) -> ssl.SSLContext:
    """Return a context for Python's sockets.

    :raises ConfigError: when OpenSSL does not take the certificates.
    """
    chain, key, roots = certificates.files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # ssl reads from files only, and those that the settings name may have changed since.
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, chain.rstrip() + b"\n" + key)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        if roots is not None:
            context.load_verify_locations(cadata=roots.decode())
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError):  # what ssl raises is one of them
        msg = (
            "server.tls_certificate, server.tls_key, server.tls_client_ca: OpenSSL does not take "
            "them; expected certificates and their key in PEM form"
        )
        raise ConfigError(msg) from None
    return context
