"""How the tensors of a signature become the arguments of ``forward``, and its result theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jitney.datatypes import DataType
from jitney.runtime.faults import SIGNATURE, model_error
from jitney.runtime.naming import Misplaced, positions_of
from jitney.runtime.reshape import Reshape, reshape_input, reshape_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from jitney.errors import ModelError
    from jitney.signature import Signature, TensorSpec

__all__ = ["Binding", "bind", "schema_of"]


@dataclass(frozen=True, slots=True)
class Binding:
    """The correspondence between a signature and the schema of ``forward``.

    ``arguments`` has one element per argument: the index of an input, or a 1-tuple of a constant;
    None where ``forward`` takes one dict, whose keys are ``keys``. ``defaults`` has, for each
    input, what its argument gets where it is left out; it is empty where ``forward`` takes a dict.
    ``results`` are the keys of a dict result, or the positions in a sequence; it is empty where the
    result is the sequence of outputs itself, None where it is one tensor. ``views_in`` and
    ``views_out`` reshape inputs and outputs, None for those that are as clients see them.
    """

    arguments: tuple[int | tuple[object], ...] | None
    keys: tuple[str, ...]
    results: tuple[str | int, ...] | None
    warnings: tuple[str, ...] = ()
    defaults: tuple[object, ...] = ()
    views_in: tuple[Reshape | None, ...] = ()
    views_out: tuple[Reshape | None, ...] = ()


def schema_of(module: torch.jit.ScriptModule) -> torch.FunctionSchema:
    """Return the schema of a module's ``forward``."""
    method: Any = module.forward  # which torch declares as any module's
    schema: torch.FunctionSchema = method.schema
    return schema


def bind(schema: torch.FunctionSchema, signature: Signature) -> Binding:
    """Match a signature with the schema of a module's ``forward``.

    Inputs go to the arguments of the same names; else to those at the positions that their names
    say (``INPUT__0``); else, where the numbers agree, to the arguments in order, with a warning.
    One argument that is a dict gets them all under their names. An argument that the signature
    does not name keeps its default. Outputs are the keys of a dict, or at the positions that their
    names say, which may leave some out, or what is returned, in order: as with Triton, the last
    ones may be left out, with a warning.

    :raises ModelError: saying what the model takes, or gives, and what to write instead.
    """
    arguments = [(a.name, a) for a in schema.arguments[1:]]  # the first is the module itself
    keys: tuple[str, ...] = ()
    pattern: tuple[int | tuple[object], ...] | None = None
    warnings: tuple[str, ...] = ()
    defaults: tuple[object, ...] = ()
    if len(arguments) == 1 and _kind(arguments[0][1]) == "Dict[str, Tensor]":
        if any(spec.datatype is DataType.BYTES for spec in signature.inputs):
            msg = "a dict of tensors cannot hold BYTES; take List[str] arguments"
            raise _refusal(msg, schema)
        keys = tuple(spec.name for spec in signature.inputs)
    else:
        places, warnings = _places(schema, arguments, signature.inputs)
        pattern = _pattern(schema, arguments, signature.inputs, places)
        taken = {source: arguments[at][1] for source, at in places.items()}
        defaults = tuple(
            taken[source].default_value if spec.optional else None
            for source, spec in enumerate(signature.inputs)
        )
    results = _results(schema, signature.outputs)
    return Binding(
        pattern,
        keys,
        results,
        (*warnings, *_left_out(schema, signature.outputs, results)),
        defaults,
        tuple(map(reshape_input, signature.inputs)),
        tuple(map(reshape_output, signature.outputs)),
    )


def _places(
    schema: torch.FunctionSchema,
    arguments: Sequence[tuple[str, torch.Argument]],
    inputs: Sequence[TensorSpec],
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return the number of the argument that each input goes to, and what there is to warn of."""
    names = [name for name, _ in arguments]
    given = [spec.name for spec in inputs]
    if set(given) <= set(names):
        return {source: names.index(name) for source, name in enumerate(given)}, ()
    try:
        said = positions_of(given, len(names), "arguments of the model")
    except Misplaced as error:
        text = f"input {error}"
        raise _refusal(text, schema) from None
    if said is not None:
        return dict(enumerate(said)), ()
    takers = [at for at, (_, a) in enumerate(arguments) if _kind(a) in _TAKERS]
    required = [at for at in takers if not arguments[at][1].has_default_value()]
    if len(inputs) not in (len(takers), len(required)):
        msg = f"the signature has {len(inputs)} inputs, {', '.join(given)}"
        raise _refusal(msg, schema)
    chosen = takers if len(inputs) == len(takers) else required
    pairs = ", ".join(
        f"{name} → {names[at]}" for name, at in zip(given, chosen, strict=True) if name != names[at]
    )
    warnings = (f"inputs are matched with the model's arguments by position: {pairs}",)
    return dict(enumerate(chosen)), warnings


def _pattern(
    schema: torch.FunctionSchema,
    arguments: Sequence[tuple[str, torch.Argument]],
    inputs: Sequence[TensorSpec],
    places: dict[int, int],
) -> tuple[int | tuple[object], ...]:
    sources = {at: source for source, at in places.items()}
    pattern: list[int | tuple[object]] = []
    for at, (name, argument) in enumerate(arguments):
        if at in sources:
            _check_type(argument, inputs[sources[at]], schema)
            pattern.append(sources[at])
        elif argument.has_default_value():
            pattern.append((argument.default_value,))
        else:
            msg = f"the argument {name!r} has no default and no input"
            raise _refusal(msg, schema)
    while pattern and not isinstance(pattern[-1], int):
        pattern.pop()  # trailing defaults are the model's own business
    return tuple(pattern)


_TENSORS: Final = ("Tensor", "Optional[Tensor]")
_TEXTS: Final = ("List[str]", "Optional[List[str]]")
_TAKERS: Final = (*_TENSORS, *_TEXTS)


def _kind(argument: torch.Argument) -> str:
    return str(argument.type.annotation_str)


def _check_type(argument: torch.Argument, spec: TensorSpec, schema: torch.FunctionSchema) -> None:
    wanted = _TEXTS if spec.datatype is DataType.BYTES else _TENSORS
    if _kind(argument) not in wanted:
        what = f"{'an optional' if spec.optional else 'a'} {spec.datatype.value} input"
        text = (
            f"the argument {argument.name!r} is {_kind(argument)}, and {what} needs "
            f"{wanted[1 if spec.optional else 0]}"
        )
        raise _refusal(text, schema)
    if spec.optional and not argument.has_default_value():
        text = (
            f"the input {spec.name!r} is optional, and its argument {argument.name!r} has no "
            f"default, so it must not be left out; write {argument.name}: {wanted[1]} = None in "
            "the model, or remove optional"
        )
        raise _refusal(text, schema)


def _results(
    schema: torch.FunctionSchema, outputs: Sequence[TensorSpec]
) -> tuple[str | int, ...] | None:
    (returned,) = schema.returns
    type_: Any = returned.type  # the stubs know only the base class
    kind, text = type_.kind(), type_.annotation_str
    # Three cases: a dict, by its keys; several results, by position; or one.
    if kind == "DictType" and text.startswith("Dict[str, "):
        for spec in outputs:
            _check_result(spec, type_.getValueType().annotation_str, schema)
        return tuple(spec.name for spec in outputs)
    # annotation_str of a NamedTuple is its name, so the kind decides, and then the elements.
    if kind == "TupleType":
        elements = [element.annotation_str for element in type_.elements()]
        return _by_position(schema, outputs, elements)
    if text == "List[Tensor]":
        return _by_position(schema, outputs, None)
    try:
        positions_of([spec.name for spec in outputs], 1, "results of the model")
    except Misplaced as error:
        msg = f"output {error}"
        raise _refusal(msg, schema) from None
    if len(outputs) > 1:
        msg = f"the signature has {len(outputs)} outputs, the model returns one"
        raise _refusal(msg, schema)
    _check_result(outputs[0], text, schema)
    return None


def _by_position(
    schema: torch.FunctionSchema, outputs: Sequence[TensorSpec], elements: Sequence[str] | None
) -> tuple[int, ...]:
    """Return the positions of the outputs in what is returned, nothing where that is their order.

    :param elements: the types of the results; None for a list of tensors, of any length.
    """
    count = None if elements is None else len(elements)
    try:
        said = positions_of([spec.name for spec in outputs], count, "results of the model")
    except Misplaced as error:
        text = f"output {error}"
        raise _refusal(text, schema) from None
    if said is None:
        if count is not None and count < len(outputs):
            msg = f"the signature has {len(outputs)} outputs, the model returns {count}"
            raise _refusal(msg, schema)
        if count is not None:
            said = tuple(range(len(outputs)))
    for index, spec in enumerate(outputs):
        at = index if said is None else said[index]
        _check_result(spec, "Tensor" if elements is None else elements[at], schema)
    in_order = tuple(range(len(outputs))) == said and count == len(outputs)
    return () if said is None or in_order else said


def _left_out(
    schema: torch.FunctionSchema,
    outputs: Sequence[TensorSpec],
    results: tuple[str | int, ...] | None,
) -> tuple[str, ...]:
    """Return what to warn of where plain names leave out what the model returns last.

    Names that say positions leave something out on purpose.
    """
    names = [spec.name for spec in outputs]
    if not results or isinstance(results[0], str) or positions_of(names, None, "results"):
        return ()
    type_: Any = schema.returns[0].type  # the stubs know only the base class
    text = (
        f"outputs are matched with what the model returns by position: {', '.join(names)} of "
        f"{len(type_.elements())}"
    )
    return (text,)


def _check_result(spec: TensorSpec, found: str, schema: torch.FunctionSchema) -> None:
    wanted = "List[str]" if spec.datatype is DataType.BYTES else "Tensor"
    if found != wanted:
        text = (
            f"the output {spec.name!r} is {spec.datatype.value}, which is a {wanted}, not {found}"
        )
        raise _refusal(text, schema)


def _refusal(text: str, schema: torch.FunctionSchema) -> ModelError:
    arguments = ", ".join(f"{a.name}: {a.type.annotation_str}" for a in schema.arguments[1:])
    returns = ", ".join(r.type.annotation_str for r in schema.returns)
    return model_error(
        SIGNATURE,
        f"{text}; the model is forward({arguments}) -> {returns}. "
        "Write one input per tensor argument and one output per returned tensor, in that order",
    )
