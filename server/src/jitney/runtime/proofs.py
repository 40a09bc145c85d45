"""What a model has to prove before it answers anybody.

Each proof returns what it found; what follows from it is decided in ``load``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from jitney.errors import JitneyError
from jitney.load_report import Golden
from jitney.runtime.faults import GOLDEN, classify, model_error, summary
from jitney.runtime.random_inputs import take
from jitney.runtime.tensors import Value, compare, value_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jitney.runtime.device import Device
    from jitney.runtime.program import Program
    from jitney.runtime.random_inputs import RandomInputs
    from jitney.runtime.runner import Runner
    from jitney.samples import Sample

__all__ = [
    "Behaviour",
    "Watch",
    "draws",
    "exact_arithmetic",
    "not_batchable",
    "observe",
    "prove_golden",
    "writes_in_graph",
]

PROOF_ROWS: Final = 3
"""One row, the same row first of several and last of several: less cannot tell them apart."""

# Methods of lists and dicts that change them.
_CHANGES: Final = frozenset(
    f"aten::{name}"
    for name in ("append", "extend", "insert", "pop", "clear", "remove", "_set_item", "Delete")
)
_SMALL: Final = 1 << 16


class Behaviour(NamedTuple):
    """How a model behaves when the same rows are given to it twice.

    ``deterministic`` is bit for bit; ``repeatable`` is within the tolerance, which all further
    comparisons need. ``not_finite`` names the outputs with NaN or infinities.
    """

    deterministic: bool
    repeatable: bool
    mutated_inputs: tuple[str, ...]
    not_finite: tuple[str, ...]


class Watch:
    """Notices writes to the parameters and buffers of a module.

    Versions count every ordinary write. Values are kept as well, of small tensors, where counters
    and running statistics are: a write through ``.data`` is not counted.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        tensors = [*module.named_parameters(), *module.named_buffers()]
        self._tensors = [
            (name, tensor, _version(tensor), tensor.detach().clone() if _small(tensor) else None)
            for name, tensor in tensors
        ]

    def changed(self) -> set[str]:
        """Return the names of what was written since the start."""
        return {
            name
            for name, tensor, version, value in self._tensors
            if _version(tensor) != version
            or (value is not None and not torch.equal(value, tensor.detach()))
        }


def _version(tensor: torch.Tensor) -> int:
    return tensor._version  # noqa: SLF001  # what autograd counts writes with; nothing public does


def _small(tensor: torch.Tensor) -> bool:
    return tensor.numel() <= _SMALL and not bool(tensor.isnan().any())


def writes_in_graph(module: torch.jit.ScriptModule) -> set[str]:
    """Return the attributes that the graph of a *frozen* module may write.

    A plain module also has the branches of training in its graph, such as the running statistics
    of a batch norm; freezing removes them.
    """
    names: set[str] = set()
    for node in _nodes(module.inlined_graph):
        if node.kind() == "prim::SetAttr":
            names.add(node.s("name"))
        elif node.kind() in _CHANGES or (
            node.kind().startswith("aten::")
            and node.kind().endswith("_")
            and not node.kind().endswith("__")
        ):
            owner = next(iter(node.inputs())).node()
            if owner.kind() == "prim::GetAttr":
                names.add(owner.s("name"))
    return names


def draws(module: torch.jit.ScriptModule) -> list[str]:
    """Return the operators in a module's graph that draw random numbers."""
    kinds = {node.kind() for node in _nodes(module.inlined_graph)}
    marks = ("rand", "bernoulli", "multinomial", "normal_", "normal", "uniform", "exponential_")
    return sorted(
        kind
        for kind in kinds
        if kind.startswith("aten::")
        and (kind[6:].startswith("rand") or kind[6:].removesuffix("_") in marks)
    )


def _nodes(graph: torch._C.Graph | torch._C.Block) -> Iterator[torch._C.Node]:
    for node in graph.nodes():
        yield node
        for block in node.blocks():
            yield from _nodes(block)


@contextlib.contextmanager
def exact_arithmetic(device: Device) -> Iterator[None]:
    """Switch reduced precision off, for comparisons; it is as configured afterwards."""
    if device.torch_device.type != "cuda":
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    kept = (
        matmul.allow_tf32,
        cudnn.allow_tf32,
        matmul.allow_fp16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction,
    )
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        matmul.allow_fp16_reduced_precision_reduction = False
        matmul.allow_bf16_reduced_precision_reduction = False
        yield
    finally:
        (
            matmul.allow_tf32,
            cudnn.allow_tf32,
            matmul.allow_fp16_reduced_precision_reduction,
            matmul.allow_bf16_reduced_precision_reduction,
        ) = kept


def observe(runner: Runner, program: Program, source: RandomInputs) -> Behaviour:
    """Run one row several times, and look at inputs and outputs.

    Only the last two runs are compared: the executor may compile another program after the first
    ones, and that its rounding differs says nothing about the model.

    :raises Exception: what the model raises.
    """
    given, untouched = source.make(1), source.make(1)
    first = runner.run(program, given, 1)
    runner.run(program, source.make(1), 1)
    names = [spec.name for spec in runner.signature.inputs]
    mutated = tuple(
        name
        for name, before, after in zip(names, untouched, given, strict=True)
        if before is not None and after is not None and not compare(before, after)[0]
    )
    once, again = (runner.run(program, source.make(1), 1) for _ in range(2))
    not_finite = tuple(
        spec.name
        for spec, value in zip(runner.signature.outputs, first, strict=True)
        if isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and not bool(value.isfinite().all())
    )
    return Behaviour(
        all(map(_identical, once, again)),
        all(compare(a, b)[0] for a, b in zip(once, again, strict=True)),
        mutated,
        not_finite,
    )


def _identical(left: Value, right: Value) -> bool:
    within, difference = compare(left, right)
    return within and difference == 0


def not_batchable(
    runner: Runner, program: Program, source: RandomInputs, *, repeatable: bool, padding: bool
) -> str | None:
    """Return why rows must not share a batch, or None if they may.

    Three rows, each alone, then in batches of two and three, with other neighbours and in other
    places: every row has to be equal to its run alone. On devices that pad, the batch of three is
    run as one of four, which proves that padding is inert.
    """
    rows = PROOF_ROWS
    values = source.make(rows, seed=1)
    try:
        alone = [runner.run(program, take(values, rows, [row]), 1) for row in range(rows)]
        for chosen in ([0, 1], [1, 0], [0, 1, 2], [2, 0, 1]):
            count = len(chosen)
            bucket = 4 if padding and count == rows else count
            together = runner.run(program, take(values, rows, chosen), count, bucket)
            if not repeatable:
                continue
            for place, row in enumerate(chosen):
                cut = take(together, count, [place])
                for spec, one, other in zip(runner.signature.outputs, alone[row], cut, strict=True):
                    if other is None or not compare(one, other)[0]:
                        return (
                            f"output {spec.name!r} of a row changes with the other rows of its "
                            f"batch (row {place + 1} of {count}, against the row alone)"
                        )
    except JitneyError as exc:
        return str(exc)
    except Exception as exc:
        if classify(exc) != "model":
            raise
        return f"the model raises on some batches: {summary(exc)}"
    return None


def prove_golden(runner: Runner, program: Program, samples: Sequence[Sample], limit: int) -> Golden:
    """Compare the model's answers with those that its author got.

    :param limit: the most rows that may be run together.
    :raises ModelError: naming the sample and the output that differ, and by how much.
    """
    worst = 0.0
    for number, sample in enumerate(samples):
        try:
            worst = max(worst, _prove_sample(runner, program, sample, limit))
        except JitneyError as exc:
            text = f"golden sample {number}: {exc}"
            raise model_error(GOLDEN, text) from None
        except Exception as exc:
            if classify(exc) != "model":
                raise
            text = f"golden sample {number}: the model raised: {summary(exc)}"
            raise model_error(GOLDEN, text) from None
    return Golden(len(samples), worst)


def _prove_sample(runner: Runner, program: Program, sample: Sample, limit: int) -> float:
    signature, device = runner.signature, runner.device.torch_device
    inputs = {tensor.name: tensor for tensor in sample.inputs}
    outputs = {tensor.name: tensor for tensor in sample.outputs}
    values: list[Value | None] = []
    rows = 1
    for spec in signature.inputs:
        tensor = inputs.get(spec.name)
        if tensor is None and spec.optional:
            values.append(None)
            continue
        if (
            tensor is None
            or tensor.datatype is not spec.datatype
            or (signature.batched and not (tensor.shape and tensor.shape[0]))
        ):
            msg = (
                f"input {spec.name!r} is missing, or not {spec.datatype.value} with a row at least"
            )
            raise model_error(GOLDEN, msg)
        rows = tensor.shape[0] if signature.batched else 1
        values.append(value_from(spec.name, tensor.data, tensor.datatype, tensor.shape, device))
    worst = 0.0
    for start in range(0, rows, limit):
        chosen = range(start, min(rows, start + limit))
        part = take(values, rows, chosen) if signature.batched else values
        results = runner.run(program, part, len(chosen))
        for spec, result in zip(signature.outputs, results, strict=True):
            if spec.name not in outputs:
                continue  # an author may have kept only the outputs that matter
            wanted = outputs[spec.name]
            whole = value_from(spec.name, wanted.data, wanted.datatype, wanted.shape, device)
            expected = take([whole], rows, chosen)[0] if signature.batched else whole
            within, difference = compare(expected, result) if expected is not None else (False, 0.0)
            worst = max(worst, difference)
            if not within:
                msg = (
                    f"output {spec.name!r} differs by {difference:.3g} from what the author got; "
                    "the file is damaged, or the model computes something else here"
                )
                raise model_error(GOLDEN, msg)
    return worst
