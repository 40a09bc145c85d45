"""What the signature and the parameters of a built-in model may be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney.builtin import BuiltinSpec, Handler

__all__ = ["PARAMETERS", "check", "default_signature", "delay_of"]

DELAY_PARAMETER: Final = "execute_delay_ms"
LONGEST_DELAY_MS: Final = 3_600_000

PARAMETERS: Final[Mapping[Handler, frozenset[str]]] = {
    "identity": frozenset({DELAY_PARAMETER}),
    "repeat": frozenset(),
    "echo": frozenset(),
}
"""The parameters that each handler knows."""

_DEFAULTS: Final[Mapping[Handler, Signature]] = {
    "repeat": Signature(
        (
            TensorSpec("IN", DataType.INT32, (-1,)),
            TensorSpec("DELAY", DataType.UINT32, (-1,)),
            TensorSpec("WAIT", DataType.UINT32, (1,)),
        ),
        (TensorSpec("OUT", DataType.INT32, (1,)), TensorSpec("IDX", DataType.UINT32, (1,))),
        "Gives each element of IN in a reply of its own, DELAY milliseconds after the one before.",
    ),
    "echo": Signature(
        (TensorSpec("INPUT0", DataType.FP32, (1,)),),
        (
            TensorSpec("key", DataType.BYTES, (-1,)),
            TensorSpec("value", DataType.BYTES, (-1,)),
        ),
        "Gives back the parameters of the request, sorted by key.",
    ),
}


def default_signature(handler: Handler) -> Signature | None:
    """Return what a handler takes and gives where nobody said; None for one that has no default."""
    return _DEFAULTS.get(handler)


def check(spec: BuiltinSpec, signature: Signature) -> None:
    """Check that a handler can serve a signature with its parameters.

    :raises ConfigError: saying what to write instead.
    """
    handler = spec.handler
    if unknown := sorted(set(spec.parameters) - PARAMETERS[handler]):
        known = ", ".join(sorted(PARAMETERS[handler])) or "no parameter"
        msg = f"parameters: the built-in {handler} takes {known}, got {unknown[0]!r}"
        raise ConfigError(msg)
    delay_of(spec)
    if optional := [tensor.name for tensor in signature.inputs if tensor.optional]:
        msg = f"input {optional[0]!r}: a built-in model has no optional inputs; remove optional"
        raise ConfigError(msg)
    if handler == "identity":
        _check_identity(signature)
        return
    if signature.batched:
        msg = (
            f'the built-in {handler} has no batch dimension: write shapes without "N" '
            "(in config.pbtxt: max_batch_size: 0)"
        )
        raise ConfigError(msg)
    if handler == "repeat":
        _check_repeat(signature)
    else:
        _check_side("output", "echo", signature.outputs, _DEFAULTS["echo"].outputs)


def delay_of(spec: BuiltinSpec) -> float:
    """Return how many seconds longer every batch takes.

    :raises ConfigError: when the parameter is no such number.
    """
    text = spec.parameters.get(DELAY_PARAMETER, "0")
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = math.nan
    if not 0 <= milliseconds <= LONGEST_DELAY_MS:
        msg = (
            f"parameters: {DELAY_PARAMETER}: expected milliseconds, 0 to {LONGEST_DELAY_MS}, "
            f"got {text!r}"
        )
        raise ConfigError(msg)
    return milliseconds / 1000


def _check_identity(signature: Signature) -> None:
    inputs, outputs = signature.inputs, signature.outputs
    if len(inputs) != len(outputs):
        msg = (
            "the built-in identity gives back its inputs, so it has as many outputs as inputs; "
            f"got {len(inputs)} inputs and {len(outputs)} outputs"
        )
        raise ConfigError(msg)
    for given, returned in zip(inputs, outputs, strict=True):
        if given.datatype is not returned.datatype or given.wire_shape != returned.wire_shape:
            msg = (
                f"output {returned.name!r}: the built-in identity gives back input {given.name!r} "
                f"as it is: {_form(given)}, got {_form(returned)}"
            )
            raise ConfigError(msg)


def _check_repeat(signature: Signature) -> None:
    wanted = _DEFAULTS["repeat"]
    inputs = {spec.name: spec for spec in signature.inputs}
    outputs = {spec.name: spec for spec in signature.outputs}
    element = inputs["IN"].datatype if "IN" in inputs else DataType.INT32
    if "OUT" in outputs and outputs["OUT"].datatype is not element:
        msg = (
            f"output 'OUT': the built-in repeat gives the elements of 'IN', which are "
            f"{element.value}, got {outputs['OUT'].datatype.value}"
        )
        raise ConfigError(msg)
    _check_side("input", "repeat", signature.inputs, wanted.inputs, but=("IN",))
    _check_side("output", "repeat", signature.outputs, wanted.outputs, but=("OUT",))


def _check_side(
    side: str,
    handler: Handler,
    given: tuple[TensorSpec, ...],
    wanted: tuple[TensorSpec, ...],
    but: tuple[str, ...] = (),
) -> None:
    """Check names, datatypes and shapes, in any order; a fixed size may stand for one that varies.

    :param but: those that may have any datatype.
    """
    by_name = {spec.name: spec for spec in given}
    if set(by_name) != {spec.name for spec in wanted}:
        msg = (
            f"{side}: the built-in {handler} has {', '.join(spec.name for spec in wanted)}, "
            f"got {', '.join(by_name)}"
        )
        raise ConfigError(msg)
    for want in wanted:
        have = by_name[want.name]
        fits = len(have.dims) == len(want.dims) and all(
            w in (-1, h) for w, h in zip(want.dims, have.dims, strict=True)
        )
        # A reply of one element may be declared as one of any number, as Triton's models do.
        fits = fits or (side == "output" and have.dims == (-1,))
        if not fits or (want.name not in but and have.datatype is not want.datatype):
            msg = (
                f"{side} {want.name!r}: the built-in {handler} has {_form(want)}, got {_form(have)}"
            )
            raise ConfigError(msg)
    if handler == "echo" and any(spec.dims != (-1,) for spec in given):
        msg = "output: the built-in echo gives any number of keys and values; write shape = [-1]"
        raise ConfigError(msg)


def _form(spec: TensorSpec) -> str:
    return f"{spec.datatype.value} {list(spec.wire_shape)}"
