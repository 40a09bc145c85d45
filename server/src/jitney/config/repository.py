"""Where models are, and which of them are served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jitney.config.setting import setting
from jitney.errors import ConfigError

__all__ = ["RepositorySettings"]

MIB: Final = 1 << 20
MAX_WIRE_MESSAGE: Final = (1 << 31) - 1
"""The largest message that protobuf can read, in bytes."""


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """Where models are, and which of them are served."""

    model_repository: tuple[Path, ...] = setting(
        (Path("models"),), "folder that holds one folder per model; may be repeated"
    )
    model_control_mode: str = setting(
        "none",
        "none serves everything that is found at the start; poll looks again every "
        "repository_poll_seconds, and loads, reloads and unloads what changed; explicit serves "
        "what load_model names, and lets callers load and unload models",
        choices=("none", "poll", "explicit"),
    )
    load_model: str = setting(
        "",
        "models to load at the start in the explicit mode, separated by commas, or the flag "
        "repeated; * for all",
        pattern=r"\*|[A-Za-z0-9_.,-]*",
        form="names of models, separated by commas, or *",
        is_list=True,
    )
    repository_poll_seconds: float = setting(
        15.0, "how often the poll mode looks for changes", low=0.1, high=86_400
    )
    allow_model_uploads: bool = setting(
        default=False,
        help_="in the explicit mode, accept model files over the network. They are programs: "
        "whoever may send them can run what they like in a worker",
    )
    max_upload_bytes: int = setting(
        256 * MIB,
        "largest total of the files of one upload, in bytes; max_message_bytes limits it as well",
        low=1,
        high=MAX_WIRE_MESSAGE,
    )
    model_integrity: str = setting(
        "check",
        "check refuses a folder whose manifest.json (jitney manifest) lists other files, or files "
        "with other digests, than are there; require also refuses folders without one; off looks "
        "at none",
        choices=("off", "check", "require"),
    )
    model_signature: str = setting(
        "off",
        "require refuses what has no model.sig (OpenSSF Model Signing) by one of the keys in "
        "model_signature_key",
        choices=("off", "require"),
    )
    model_signature_key: tuple[Path, ...] = setting(
        (),
        "public key (PEM, P-256, P-384 or P-521) that signatures of models are checked with; may "
        "be repeated",
        form="one or more files",
    )
    model_scan: str = setting(
        "refuse",
        "what becomes of a model whose code touches files, runs while it is loaded or uses what "
        "is no part of torch: refuse, warn (load it, and say so), or off",
        choices=("refuse", "warn", "off"),
    )
    model_scan_allow: str = setting(
        "",
        "SHA-256 digests of model files that are loaded whatever model_scan finds in them, "
        "separated by commas, or the flag repeated",
        pattern=r"([0-9a-f]{64}(,[0-9a-f]{64})*)?",
        form="SHA-256 digests in lower-case hexadecimal, separated by commas",
        is_list=True,
    )
    exit_on_error: bool = setting(
        default=False, help_="end when a model fails to load at the start"
    )
    strict_readiness: bool = setting(
        default=True, help_="the server is ready only when every model that should be served is"
    )

    def __post_init__(self) -> None:
        """Check that models are only named, and signatures demanded, where that means something.

        :raises ConfigError: when it does not.
        """
        if self.load_model and self.model_control_mode != "explicit":
            msg = "repository.load_model: needs --model-control-mode explicit"
            raise ConfigError(msg)
        if self.model_signature == "require" and not self.model_signature_key:
            msg = "repository.model_signature: require needs --model-signature-key"
            raise ConfigError(msg)
        if self.allow_model_uploads and self.model_control_mode != "explicit":
            msg = "repository.allow_model_uploads: needs --model-control-mode explicit"
            raise ConfigError(msg)
