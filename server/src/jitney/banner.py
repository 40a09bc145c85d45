"""What a server says once it is up: what it serves, where, and how to call it."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jitney.app import Server
    from jitney.config import ServerSettings

__all__ = ["banner"]


def banner(server: Server) -> list[str]:
    """Return the lines."""
    lines = ["", "jitney is serving:"]
    for entry in server.repository.index():
        if not entry.wanted:
            continue
        if entry.version is None:
            lines.append(f"  {entry.name:<16} not loaded: {_first_line(entry.reason)}")
            continue
        version = server.repository.visible(entry.name, entry.version)
        if version is None or entry.state != "READY":
            lines.append(
                f"  {entry.name:<16} version {entry.version}: {entry.state.value}: "
                f"{_first_line(entry.reason)}"
            )
            continue
        devices = ", ".join(f"{d} ({r.form})" for d, r in sorted(version.reports.items()))
        limit = version.max_batch_size
        batches = f"batches of up to {limit} rows" if limit else "no batching"
        if limit == 1:
            batches = "one row at a time"
        elif limit and not version.shares:
            batches = f"one request of up to {limit} rows at a time"
        lines.append(f"  {entry.name:<16} version {entry.version} on {devices}, {batches}")
    missing = len(server.repository.missing())
    if missing and server.settings.repository.strict_readiness:
        # Nothing else is wrong, so nothing else would tell why probes and balancers stay away.
        lines += ["", f"not ready: {missing} not loaded, so health checks fail until they are;"]
        lines += ["           --strict-readiness=false leaves them out of it"]
    lines += ["", *_addresses(server)]
    host, port = server.settings.server.url_host, server.listeners.port
    where = "" if port == 8001 else f" --address {host}:{port}"  # noqa: PLR2004
    where += _tls_flags(server.settings.server)
    where += " --token-file YOURS.token" if server.settings.access.on else ""
    # What can be copied and pasted: under `make serve` the command is not on the PATH.
    command = "jitney" if shutil.which("jitney") else sys.argv[0]
    calls = [f"{command} status", *(f"{command} infer {hint}" for hint in _hints(server))]
    lines += ["", *(f"{'' if i else 'try':<8} {call}{where}" for i, call in enumerate(calls))]
    lines.append("stop     Ctrl-C")
    return lines


def _addresses(server: Server) -> list[str]:
    settings, listeners = server.settings.server, server.listeners
    host = settings.url_host
    lines = [f"gRPC     {host}:{listeners.port}   (inference.GRPCInferenceService)"]
    if settings.admin_address:
        address = settings.admin_address
        if settings.admin_socket is None and listeners.admin is not None:
            address = f"{settings.admin_host_port[0]}:{listeners.admin.port}"
        lines.append(f"admin    {address}   (load, unload, log and trace settings)")
    if listeners.health is not None:
        lines.append(f"health   {host}:{listeners.health.port}   (grpc.health.v1.Health)")
    if server.page is not None:
        scheme = "https" if settings.page_tls else "http"
        lines.append(f"metrics  {scheme}://{settings.page_url_host}:{server.page.port}/metrics")
    return lines


def _tls_flags(settings: ServerSettings) -> str:
    """Return what callers need besides; which files of theirs that is, nobody here knows."""
    flags = " --tls-ca CA.pem" if settings.tls else ""
    if settings.tls_client_ca:
        flags += " --tls-certificate YOURS.pem --tls-key YOURS.key"
    return flags


def _hints(server: Server) -> list[str]:
    """Return how to call the sample models, as far as they are served."""
    samples = {
        "digits": "digits --image models/repository/digits/examples/4.png",
        "minilm": 'minilm --text "a small bus"',
    }
    ready = {version.ref.name for version in server.repository.versions() if version.reports}
    return [hint for name, hint in samples.items() if name in ready]


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
