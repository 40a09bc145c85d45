"""What operators and callers write: model.toml, config.pbtxt, overrides in JSON, settings files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.config import load_settings
from jitney.errors import JitneyError
from jitney.repository.manifest_reader import parse_manifest
from jitney.repository.side_files import nothing_to_read
from jitney.repository.triton.mapping import manifest_of
from jitney.repository.triton.text import merge_json, parse_config
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ConfigReader", "corpus"]

TOML: Final = b"toml:"
PBTXT: Final = b"pbtxt:"
JSON: Final = b"json:"
SETTINGS: Final = b"settings:"
KIND_ENDS: Final = b":"


class ConfigReader:
    """Reads a text by what its first word says it is; what it does not know, as all four."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz")
        self._file = Path(self._folder.name, "jitney.toml")
        self._readers: dict[bytes, Callable[[str], None]] = {
            TOML: lambda text: _ignore(parse_manifest(text)),
            PBTXT: _convert,
            JSON: lambda text: merge_json(text, pb.ModelConfig()),
            SETTINGS: self._load_settings,
        }

    def read(self, data: bytes) -> bool:
        """Read a text; that it is UTF-8 is checked before, wherever it comes from."""
        kind, ends, rest = data.partition(KIND_ENDS)
        chosen = self._readers.get(kind + ends)
        text = (rest if chosen else data).decode("utf-8", "replace")
        try:
            for reader in (chosen,) if chosen else self._readers.values():
                reader(text)
        except JitneyError:
            return False
        return True

    def settle(self) -> None:
        """Remove the scratch folder."""
        self._folder.cleanup()

    def _load_settings(self, text: str) -> None:
        self._file.write_text(text, errors="replace")
        load_settings({}, {}, self._file)


def corpus() -> Sequence[bytes]:
    """Return texts of each kind with most of what may stand in them."""
    manifest = b"""description = "a model"
max_batch_size = 16
devices = ["cpu", "cuda:0"]
[batching]
max_queue_delay_ms = 1.5
priority_levels = 3
buckets = [1, 2, 4]
default_slo_ms = 100.0
mode = "latency"
[batching.levels.2]
max_queue_size = 3
[runtime]
optimise = "auto"
[versions]
policy = "latest"
count = 2
[[input]]
name = "x"
datatype = "FP32"
shape = ["N", -1, 3]
[[output]]
name = "y"
datatype = "BYTES"
shape = ["N"]
[[warmup]]
name = "zeros"
rows = 2
"""
    config = b"""name: "model"
platform: "pytorch_libtorch"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 3 ] reshape { shape: [ -1, 1, 3 ] } } ]
output [ { name: "y" data_type: TYPE_STRING dims: [ 1 ] } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100
  priority_levels: 2 default_priority_level: 1
  priority_queue_policy { key: 1 value { timeout_action: REJECT } } }
instance_group [ { kind: KIND_CPU count: 1 } ]
version_policy { specific { versions: [ 1, 2 ] } }
parameters { key: "INFERENCE_MODE" value { string_value: "true" } }
model_warmup [ { name: "zeros" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32
  dims: [ 2, 3 ] zero_data: true } } } ]
"""
    sequences = b"""backend: "pytorch"
max_batch_size: 4
input [ { name: "x" data_type: TYPE_INT64 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_INT64 dims: [ 1 ] } ]
sequence_batching { max_sequence_idle_microseconds: 5000000
  control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START
    fp32_false_true: [ 0, 1 ] } ] } ] }
"""
    override = (
        b'{"max_batch_size": 4, "dynamic_batching": {"max_queue_delay_microseconds": "10"}, '
        b'"input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["-1", 3]}], '
        b'"parameters": {"a": {"string_value": "\\u00e4"}}}'
    )
    settings = b"""[server]
host = "127.0.0.1"
grpc_port = 8001
drain_timeout_seconds = 3.5
[limits]
max_inflight_bytes = 1048576
tenant_metadata_key = "x-tenant"
tenant_weights = "a=2,b=1"
[batching]
max_batch_size = 32
[repository]
model_repository = ["models"]
[telemetry]
log_level = "info"
"""
    texts = (
        *((TOML, manifest), (PBTXT, config), (PBTXT, sequences)),
        *((JSON, override), (SETTINGS, settings)),
    )
    return [kind + text for kind, text in texts]


def _ignore(_: object) -> None:
    pass


def _convert(text: str) -> None:
    manifest_of(parse_config(text), "model", read_file=nothing_to_read)
