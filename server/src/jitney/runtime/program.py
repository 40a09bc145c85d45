"""A loaded module in terms of its signature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jitney.errors import InferenceFailed

if TYPE_CHECKING:
    from jitney.runtime.binding import Binding
    from jitney.runtime.tensors import Value

__all__ = ["Program"]

Forward = Callable[..., Any]


class Program:
    """A module called by its signature: values in, values out, in the signature's order and shapes.

    Nothing is checked here that ``outputs.OutputContract`` checks.
    """

    __slots__ = ("_binding", "_direct", "_forward", "_reshapes", "form")

    def __init__(self, form: str, forward: Forward, binding: Binding) -> None:
        self.form = form
        self._forward = forward
        self._binding = binding
        arguments = binding.arguments
        self._direct = (
            arguments is not None
            and arguments == tuple(range(len(arguments)))
            and not any(default is not None for default in binding.defaults)
            and not any(binding.views_in)
        )
        self._reshapes = any(binding.views_out)

    def __repr__(self) -> str:
        """Return the form."""
        return f"<Program {self.form}>"

    def __call__(self, values: Sequence[Value | None]) -> Sequence[Value]:
        """Run the model once; None stands for an optional input that is left out.

        :raises InferenceFailed: if an output is missing from the result, or cannot be reshaped.
        """
        # Direct is the usual case, and this is the hot path.
        result = self._forward(*values) if self._direct else self._call(values)
        results = self._binding.results
        outputs: Sequence[Value]
        if results is None:
            outputs = (result,)
        elif not results:
            outputs = result
        else:
            outputs = _pick(result, results)
        views = self._binding.views_out
        # A list may be of another length than declared, which the contract tells better.
        if not self._reshapes or len(outputs) != len(views):
            return outputs
        return [
            value if view is None else view(value)
            for value, view in zip(outputs, views, strict=True)
        ]

    def _call(self, values: Sequence[Value | None]) -> Any:  # noqa: ANN401  # whatever it returns
        binding = self._binding
        if any(binding.views_in):
            values = [
                value if view is None or value is None else view(value)
                for value, view in zip(values, binding.views_in, strict=True)
            ]
        if binding.arguments is None:
            named = zip(binding.keys, values, strict=True)
            return self._forward({key: value for key, value in named if value is not None})
        arguments: list[object] = []
        for source in binding.arguments:
            if not isinstance(source, int):
                arguments.append(source[0])
            elif values[source] is None and binding.defaults:
                arguments.append(binding.defaults[source])
            else:
                arguments.append(values[source])
        return self._forward(*arguments)


def _pick(result: Any, keys: Sequence[str | int]) -> list[Value]:  # noqa: ANN401  # dict or sequence
    try:
        return [result[key] for key in keys]
    except KeyError as exc:
        msg = f"output {exc.args[0]!r}: the model returned only {', '.join(sorted(result))}"
        raise InferenceFailed(msg) from None
    except IndexError:
        msg = f"output number {max(keys)}: the model returned only {len(result)}, counted from 0"
        raise InferenceFailed(msg) from None
