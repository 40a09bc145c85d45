"""How the tensors of a signature become the arguments of ``forward``, and its result theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jitney.datatypes import DataType
from jitney.errors import InferenceFailed
from jitney.runtime.faults import SIGNATURE, model_error

if TYPE_CHECKING:
    import torch

    from jitney.errors import ModelError
    from jitney.runtime.tensors import Value
    from jitney.signature import Signature, TensorSpec

__all__ = ["Binding", "Program", "bind", "schema_of"]

Forward = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Binding:
    """The correspondence between a signature and the schema of ``forward``.

    ``arguments`` has one element per argument: the index of an input, or a 1-tuple of a constant;
    None where ``forward`` takes one dict, whose keys are ``keys``. ``results`` names the keys of a
    dict result; it is empty where the result is a sequence, None where it is one tensor.
    """

    arguments: tuple[int | tuple[object], ...] | None
    keys: tuple[str, ...]
    results: tuple[str, ...] | None
    warnings: tuple[str, ...] = ()


class Program:
    """A loaded module in terms of its signature: values in, values out, in the signature's order.

    Nothing is checked here; ``outputs.OutputContract`` does that.
    """

    __slots__ = ("_binding", "_direct", "_forward", "form")

    def __init__(self, form: str, forward: Forward, binding: Binding) -> None:
        self.form = form
        self._forward = forward
        self._binding = binding
        arguments = binding.arguments
        self._direct = arguments is not None and arguments == tuple(range(len(arguments)))

    def __repr__(self) -> str:
        """Return the form."""
        return f"<Program {self.form}>"

    def __call__(self, values: Sequence[Value | None]) -> Sequence[Value]:
        """Run the model once.

        :raises InferenceFailed: if a named output is missing from the result.
        """
        binding = self._binding
        if self._direct:  # the usual case, and this is the hot path
            result = self._forward(*values)
        elif binding.arguments is None:
            result = self._forward(
                {
                    key: value
                    for key, value in zip(binding.keys, values, strict=True)
                    if value is not None
                }
            )
        else:
            result = self._forward(
                *(
                    values[source] if isinstance(source, int) else source[0]
                    for source in binding.arguments
                )
            )
        if binding.results is None:
            return (result,)
        if not binding.results:
            return result  # type: ignore[no-any-return]  # what the schema says it is
        try:
            return [result[key] for key in binding.results]
        except KeyError as exc:
            msg = f"output {exc.args[0]!r}: the model returned only {', '.join(sorted(result))}"
            raise InferenceFailed(msg) from None


def schema_of(module: torch.jit.ScriptModule) -> torch.FunctionSchema:
    """Return the schema of a module's ``forward``."""
    method: Any = module.forward  # which torch declares as any module's
    schema: torch.FunctionSchema = method.schema
    return schema


def bind(schema: torch.FunctionSchema, signature: Signature) -> Binding:
    """Match a signature with the schema of a module's ``forward``.

    Inputs go to the arguments of the same names; where the names differ but the numbers agree, to
    the arguments in order, with a warning. An argument that the signature does not name keeps its
    default.

    :raises ModelError: saying what the model takes, or gives, and what to write instead.
    """
    arguments = [(a.name, a) for a in schema.arguments[1:]]  # the first is the module itself
    keys: tuple[str, ...] = ()
    pattern: tuple[int | tuple[object], ...] | None = None
    warnings: tuple[str, ...] = ()
    if len(arguments) == 1 and _kind(arguments[0][1]) == "Dict[str, Tensor]":
        if any(spec.datatype is DataType.BYTES for spec in signature.inputs):
            msg = "a dict of tensors cannot hold BYTES; take List[str] arguments"
            raise _refusal(msg, schema)
        keys = tuple(spec.name for spec in signature.inputs)
    else:
        pattern, warnings = _match(schema, arguments, signature.inputs)
    return Binding(pattern, keys, _results(schema, signature.outputs), warnings)


def _match(
    schema: torch.FunctionSchema,
    arguments: Sequence[tuple[str, torch.Argument]],
    inputs: Sequence[TensorSpec],
) -> tuple[tuple[int | tuple[object], ...], tuple[str, ...]]:
    positions = {spec.name: index for index, spec in enumerate(inputs)}
    names = [name for name, _ in arguments]
    warnings: tuple[str, ...] = ()
    if not positions.keys() <= set(names):
        takers = [name for name, a in arguments if _kind(a) in _TAKERS]
        required = [name for name in takers if not dict(arguments)[name].has_default_value()]
        if len(inputs) not in (len(takers), len(required)):
            msg = f"the signature has {len(inputs)} inputs, {', '.join(positions)}"
            raise _refusal(msg, schema)
        chosen = takers if len(inputs) == len(takers) else required
        pairs = ", ".join(f"{n} → {a}" for n, a in zip(positions, chosen, strict=True) if n != a)
        warnings = (f"inputs are matched with the model's arguments by position: {pairs}",)
        positions = {argument: index for index, argument in enumerate(chosen)}
    pattern: list[int | tuple[object]] = []
    for name, argument in arguments:
        if name in positions:
            _check_type(argument, inputs[positions[name]], schema)
            pattern.append(positions[name])
        elif argument.has_default_value():
            pattern.append((argument.default_value,))
        else:
            msg = f"the argument {name!r} has no default and no input"
            raise _refusal(msg, schema)
    while pattern and not isinstance(pattern[-1], int):
        pattern.pop()  # trailing defaults are the model's own business
    return tuple(pattern), warnings


_TAKERS: Final = ("Tensor", "Optional[Tensor]", "List[str]")


def _kind(argument: torch.Argument) -> str:
    return str(argument.type.annotation_str)


def _check_type(argument: torch.Argument, spec: TensorSpec, schema: torch.FunctionSchema) -> None:
    wanted: tuple[str, ...] = ("Tensor", "Optional[Tensor]")
    if spec.datatype is DataType.BYTES:
        wanted = ("List[str]",)
    elif spec.optional:
        wanted = ("Optional[Tensor]",)
    if _kind(argument) not in wanted or (spec.optional and spec.datatype is DataType.BYTES):
        what = f"{'an optional' if spec.optional else 'a'} {spec.datatype.value} input"
        text = f"the argument {argument.name!r} is {_kind(argument)}, and {what} needs {wanted[0]}"
        raise _refusal(text, schema)


def _results(schema: torch.FunctionSchema, outputs: Sequence[TensorSpec]) -> tuple[str, ...] | None:
    (returned,) = schema.returns
    type_: Any = returned.type  # the stubs know only the base class
    kind = type_.kind()
    # annotation_str of a NamedTuple is its name, so the kind decides, and then the elements.
    if kind == "TupleType":
        elements = [element.annotation_str for element in type_.elements()]
        if len(elements) != len(outputs):
            msg = f"the signature has {len(outputs)} outputs, the model returns {len(elements)}"
            raise _refusal(msg, schema)
        for spec, element in zip(outputs, elements, strict=True):
            _check_result(spec, element, schema)
        return ()
    text = type_.annotation_str
    if text == "List[Tensor]":
        for spec in outputs:
            _check_result(spec, "Tensor", schema)
        return ()
    if kind == "DictType" and text.startswith("Dict[str, "):
        for spec in outputs:
            _check_result(spec, type_.getValueType().annotation_str, schema)
        return tuple(spec.name for spec in outputs)
    if len(outputs) > 1:
        msg = f"the signature has {len(outputs)} outputs, the model returns one"
        raise _refusal(msg, schema)
    _check_result(outputs[0], text, schema)
    return None


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
