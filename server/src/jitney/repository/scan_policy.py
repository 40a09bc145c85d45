"""What becomes of a model's file in which the static scan found something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

from jitney.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.config import RepositorySettings
    from jitney.repository.static_scan import Finding

__all__ = ["ScanPolicy", "scan_policy_of"]

MOST_TOLD: Final = 5
"""Findings that an error names, which has to fit into a reply; `jitney inspect` shows all."""


class ScanPolicy(NamedTuple):
    """``allowed`` are the digests of files that their operator has looked at."""

    mode: Literal["refuse", "warn", "off"] = "refuse"
    allowed: frozenset[str] = frozenset()

    def judge(self, findings: Sequence[Finding], digest: str) -> tuple[str, ...]:
        """Return what has to be said when the file is loaded all the same.

        :param digest: the SHA-256 of the file, in lower-case hexadecimal.
        :raises ModelError: when it is not to be loaded.
        """
        if self.mode == "off":
            return ()
        texts = [f"{finding.what} in {finding.where}: {finding.why}" for finding in findings]
        bad = [text for text, finding in zip(texts, findings, strict=True) if finding.refused]
        if not bad or self.mode == "warn" or digest in self.allowed:
            return tuple(texts)
        more = f"; and {len(bad) - MOST_TOLD} more" if len(bad) > MOST_TOLD else ""
        error = ModelError(
            f"refused by the static scan: {'; '.join(bad[:MOST_TOLD])}{more}. If you trust this "
            f"very file, start the server with --model-scan-allow {digest}"
        )
        error.reason = "STATIC_SCAN"
        raise error


def scan_policy_of(settings: RepositorySettings) -> ScanPolicy:
    """Return what the settings say."""
    mode = cast("Literal['refuse', 'warn', 'off']", settings.model_scan)  # checked by its choices
    return ScanPolicy(mode, frozenset(filter(None, settings.model_scan_allow.split(","))))
