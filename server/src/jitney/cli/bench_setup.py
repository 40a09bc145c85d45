"""What the flags of ``jitney bench`` come to: callers, inputs, arrivals, and the server."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jitney.cli import connection
from jitney.errors import ConfigError
from jitney.loadgen import inputs, trace
from jitney.loadgen.arrivals import Process
from jitney.loadgen.bench import Load, Target
from jitney.loadgen.order import Tls
from jitney.loadgen.schedule import Arrivals
from jitney_client import NotSupported

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from jitney.loadgen.bench import Bench
    from jitney_client import Client
    from jitney_client.protocol import inference as pb

__all__ = ["load_of", "make_calls", "setup_of", "target_of"]


def load_of(arguments: argparse.Namespace) -> Load:
    """Return what callers want and how they come.

    :raises ConfigError: when the trace is none.
    """
    slo = (arguments.slo_ms or 0.0) / 1e3
    deadline = slo if arguments.deadline_ms is None else arguments.deadline_ms / 1e3
    return Load(
        slo,
        deadline,
        arguments.duration,
        _arrivals(arguments),
        arguments.tolerance,
        check=not arguments.no_check,
    )


def target_of(arguments: argparse.Namespace, metadata: pb.ModelMetadataResponse) -> Target:
    """Return which model it is and how to get there."""
    encrypted = arguments.tls or arguments.tls_ca or arguments.tls_certificate
    return Target(
        arguments.address,
        metadata,
        arguments.version,
        Tls(arguments.tls_ca, arguments.tls_certificate, arguments.tls_key) if encrypted else None,
        arguments.tenant_metadata_key,
        arguments.connections,
        connection.shown(arguments),
    )


def make_calls(
    arguments: argparse.Namespace, client: Client, metadata: pb.ModelMetadataResponse
) -> list[inputs.Call]:
    """Return the inputs of the calls.

    :raises ConfigError: when the flags do not fit the model.
    """
    batched = _batched(client, arguments, metadata)
    if arguments.rows > 1 and not batched:
        msg = f"--rows: {metadata.name} has no batch dimension, its calls have one row"
        raise ConfigError(msg)
    if arguments.inputs not in ("random", "zeros"):
        if arguments.shape or arguments.ranges:
            msg = "--shape and --range are for --inputs random; a file has what it has"
            raise ConfigError(msg)
        file = Path(arguments.inputs)
        return inputs.from_file(file, metadata, batched=batched, rows=arguments.rows)
    choice = inputs.Choice(
        rows=arguments.rows,
        zeros=arguments.inputs == "zeros",
        shapes={name: _shape(text) for name, text in _pairs(arguments.shape, "--shape")},
        ranges={name: _range(text) for name, text in _pairs(arguments.ranges, "--range")},
    )
    return inputs.drawn(metadata, batched=batched, choice=choice)


def setup_of(
    arguments: argparse.Namespace, load: Load, bench: Bench, calls: Sequence[inputs.Call]
) -> dict[str, Any]:
    """Return what is measured, for the results."""
    return {
        "model": arguments.model,
        "version": arguments.version,
        "address": arguments.address,
        "slo_ms": 1e3 * load.slo,
        "deadline_ms": 1e3 * load.deadline,
        "seconds": load.seconds,
        "arrivals": "closed loop" if arguments.concurrency else load.arrivals.name,
        "inputs": arguments.inputs,
        "different_inputs": len(calls),
        "rows": arguments.rows,
        "shapes": {name: list(array.shape) for name, array in calls[0].inputs.items()},
        "tenants": arguments.tenants,
        "priorities": arguments.priorities,
        "connections": arguments.connections,
        "processes": arguments.processes,
        "unchecked": bench.note,
        "alone_ms": round(1e3 * bench.alone, 4),
    }


def _arrivals(arguments: argparse.Namespace) -> Arrivals:
    kind = arguments.arrivals
    if kind in set(Process):
        return Arrivals(Process(kind), arguments.cv)
    file = Path(kind)
    try:
        return Arrivals(trace=trace.read(file))
    except OSError as error:
        known = ", ".join(Process)
        msg = f"--arrivals {kind}: neither one of {known} nor a file ({error.strerror})"
        raise ConfigError(msg) from None
    except ValueError as error:
        msg = f"--arrivals {error}"
        raise ConfigError(msg) from None


def _batched(
    client: Client, arguments: argparse.Namespace, metadata: pb.ModelMetadataResponse
) -> bool:
    try:
        config = client.config(arguments.model, version=arguments.version)
    except NotSupported:
        # Servers without Triton's extension; a batch may have any size, and comes first.
        return all(len(tensor.shape) and tensor.shape[0] == -1 for tensor in metadata.inputs)
    return config.max_batch_size > 0


def _pairs(given: Sequence[str], flag: str) -> list[tuple[str, str]]:
    pairs = [(name, value) for name, _, value in (text.partition("=") for text in given)]
    if any(not name or not value for name, value in pairs) or len(dict(pairs)) < len(pairs):
        msg = f"{flag} {' '.join(given)}: expected NAME=VALUE, each name once"
        raise ConfigError(msg)
    return pairs


def _shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 0:
        msg = f"--shape {text!r}: expected sizes such as 3,224,224"
        raise ConfigError(msg)
    return sizes


def _range(text: str) -> tuple[float, float]:
    low, separator, high = text.partition("..")
    try:
        bounds = float(low), float(high)
    except ValueError:
        bounds = math.nan, math.nan
    if not separator or not -math.inf < bounds[0] <= bounds[1] < math.inf:
        msg = f"--range {text!r}: expected the lowest and the highest value, such as 0..255"
        raise ConfigError(msg)
    return bounds
