"""``jitney pack``: a model, its contract and some of its answers, in one file."""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.jit.frontend import FrontendError

from jitney.datatypes import DataType
from jitney.errors import ConfigError, InferenceFailed, ModelError
from jitney.notation import read_tensor, write_tensor
from jitney.packing.examples import (
    Example,
    infer_outputs,
    name_results,
    random_example,
    read_example,
    read_values,
    write_values,
)
from jitney.repository.archive import SIGNATURE_FILE, Archive, Kind, read_archive
from jitney.runtime.binding import bind, schema_of
from jitney.runtime.faults import summary
from jitney.runtime.program import Program
from jitney.runtime.tensors import Value, compare
from jitney.samples import EXTRA_FILE as SAMPLES_FILE
from jitney.samples import Sample, write_samples
from jitney.signature import BATCH, Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["pack"]

SAMPLE_ROWS = (1, 3)
"""Rows of the samples that are made up: the smallest batch, and one that is not a power of two."""

Given = Mapping[str, Value] | Sequence[Value]
Labels = Mapping[str, Sequence[str]] | Sequence[str]


def pack(
    model: torch.nn.Module | str | Path,
    out: str | Path,
    *,
    inputs: Sequence[TensorSpec | str] = (),
    outputs: Sequence[TensorSpec | str] | None = None,
    samples: Sequence[Given] | None = None,
    labels: Labels | None = None,
    description: str = "",
    seed: int = 0,
) -> Signature:
    """Write a model with its signature and golden samples, and prove that the file answers them.

    ``model`` is a module (scripted here unless it is already; the caller's is left as it is) or
    the path of a TorchScript file, **which is run**: pack only files that you trust. A module that
    cannot be scripted is traced by you first, with ``torch.jit.trace``.

    ``inputs`` are in the order of ``forward``, as ``TensorSpec`` or as lines such as
    ``"image:FP32[N,1,8,8]"`` (``jitney.notation``); a file that has a signature may go without.
    ``outputs`` are told by running the model where they are not given. ``samples`` are example
    inputs, each a mapping by name or a sequence in order; None makes some up within the bounds of
    the inputs (1 and 3 rows, from ``seed``), and an empty sequence writes none. ``labels`` are the
    class names of the last dimension of the only output, or of several by name.

    Everything runs on the CPU, in evaluation mode. ``out`` appears whole or not at all.

    :returns: the signature as written.
    :raises ConfigError: when the description does not fit the model; the text says what to write.
    :raises ModelError: when the model fails, or does not give the same answers again.
    """
    buffer = _save(model)
    archive = read_archive(buffer)
    input_specs = _input_specs(inputs, archive)
    description = description or (archive.signature.description if archive.signature else "")
    extra = dict.fromkeys(archive.extra_files, b"")
    module = _load(buffer, extra)
    if samples is None:
        made = enumerate(SAMPLE_ROWS)
        examples = [random_example(input_specs, rows, seed + nth, nth) for nth, rows in made]
    else:
        examples = [read_example(input_specs, given, nth) for nth, given in enumerate(samples)]
    # Without samples the model still has to run once, to show what its outputs are.
    probes = examples or [random_example(input_specs, SAMPLE_ROWS[-1], seed, 0)]
    if outputs is None:
        output_specs = _ask_outputs(module, input_specs, probes)
    else:
        output_specs = tuple(map(_spec, outputs))
    output_specs = _with_labels(output_specs, labels)
    signature = Signature(input_specs, output_specs, description)
    program = _program(module, signature)
    golden = [
        Sample(
            write_values(input_specs, example.values, example.sizes),
            write_values(output_specs, _run(program, example.values), example.sizes),
        )
        for example in probes
    ]
    extra[SIGNATURE_FILE] = json.dumps(signature.to_json()).encode()
    extra[SAMPLES_FILE] = write_samples(golden if examples else [])
    _write(module, Path(out), extra, golden, signature)
    return signature


@contextmanager
def _deprecated() -> Iterator[None]:
    """Silence torch's notice that TorchScript is deprecated: the one who packs it knows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _save(model: torch.nn.Module | str | Path) -> io.BytesIO:
    """Return the bytes of the model's file: a copy, so that the caller's module stays as it is."""
    if not isinstance(model, torch.nn.Module):
        try:
            return io.BytesIO(Path(model).read_bytes())
        except OSError as error:
            msg = f"{model}: cannot be read: {error.strerror}"
            raise ModelError(msg) from None
    buffer = io.BytesIO()
    with _deprecated():
        if not isinstance(model, torch.jit.ScriptModule):
            try:
                model = torch.jit.script(model)
            except (RuntimeError, TypeError, OSError, FrontendError) as error:
                msg = (
                    f"{type(model).__name__} cannot be scripted ({summary(error)}); trace it with "
                    "torch.jit.trace(model.eval(), examples) and pack that"
                )
                raise ModelError(msg) from None
        torch.jit.save(model, buffer)
    return buffer


def _load(source: io.BytesIO | Path, extra: dict[str, bytes]) -> torch.jit.ScriptModule:
    """Load on the CPU, for evaluation; fill the values of ``extra``."""
    if isinstance(source, io.BytesIO):
        source.seek(0)
    try:
        with _deprecated():
            module: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
                source, map_location="cpu", _extra_files=extra
            )
    except RuntimeError as error:
        msg = f"the model cannot be loaded: {summary(error)}"
        raise ModelError(msg) from None
    return module.eval()


def _input_specs(inputs: Sequence[TensorSpec | str], archive: Archive) -> tuple[TensorSpec, ...]:
    if archive.kind is not Kind.TORCHSCRIPT:
        msg = f"the file is {archive.kind.value}; only TorchScript can be packed"
        raise ConfigError(msg)
    if inputs:
        return tuple(map(_spec, inputs))
    if archive.signature is not None:
        return archive.signature.inputs
    lines = ", ".join(f'"{argument.name}:FP32[N,?]"' for argument in archive.arguments)
    msg = (
        f"inputs: the model does not tell its shapes; write inputs=[{lines}] "
        'with the sizes of one row for each "?" (or a name, where a size varies), and the '
        "right datatypes"
    )
    raise ConfigError(msg)


def _spec(given: TensorSpec | str) -> TensorSpec:
    return given if isinstance(given, TensorSpec) else read_tensor(given)


def _with_labels(specs: tuple[TensorSpec, ...], labels: Labels | None) -> tuple[TensorSpec, ...]:
    if labels is None:
        return specs
    if not isinstance(labels, Mapping):
        if len(specs) != 1:
            msg = f"labels: {len(specs)} outputs; give a mapping by the output's name"
            raise ConfigError(msg)
        labels = {specs[0].name: labels}
    if unknown := sorted(set(labels) - {spec.name for spec in specs}):
        known = ", ".join(spec.name for spec in specs)
        msg = f"labels: no output {unknown[0]!r}; there are {known}"
        raise ConfigError(msg)
    for spec in specs:
        if spec.name in labels and spec.shape[-1:] != (len(labels[spec.name]),):
            msg = f"labels: {len(labels[spec.name])} given for {write_tensor(spec)}"
            raise ConfigError(msg)
    return tuple(replace(spec, labels=tuple(labels.get(spec.name, spec.labels))) for spec in specs)


def _program(module: torch.jit.ScriptModule, signature: Signature) -> Program:
    return Program("plain", module.forward, bind(schema_of(module), signature))


def _ask_outputs(
    module: torch.jit.ScriptModule, inputs: tuple[TensorSpec, ...], probes: Sequence[Example]
) -> tuple[TensorSpec, ...]:
    """Tell the outputs by running the model, which is bound to stand-ins for them meanwhile."""
    schema = schema_of(module)
    returned: Any = schema.returns[0].type
    elements = returned.elements() if returned.kind() == "TupleType" else [returned]
    shape = (BATCH,) if inputs[0].batched else ()
    stand_ins = tuple(
        TensorSpec(
            f"OUTPUT__{nth}",
            DataType.BYTES if "str]" in element.annotation_str else DataType.FP32,
            shape,
        )
        for nth, element in enumerate(elements)
    )
    binding = bind(schema, Signature(inputs, stand_ins))
    # One result, whatever its type: taken apart by `name_results`, which knows dicts' keys.
    program = Program("plain", module.forward, replace(binding, results=None))
    answers = [name_results(_run(program, example.values)[0]) for example in probes]
    return infer_outputs(inputs, probes, answers)


def _run(program: Program, values: Sequence[Value | None]) -> Sequence[Value]:
    try:
        with torch.inference_mode():
            # Copies, because a model may write its inputs, and the sample is to hold them as fed.
            return program([_copy(value) for value in values])
    except (RuntimeError, InferenceFailed) as error:
        shapes = ", ".join(_shown(value) for value in values)
        msg = f"the model fails on inputs {shapes}: {summary(error)}"
        raise ModelError(msg) from None


def _copy(value: Value | None) -> Value | None:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _shown(value: Value | None) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return "none" if value is None else f"texts[{len(value)}]"


def _write(
    module: torch.jit.ScriptModule,
    out: Path,
    extra: Mapping[str, bytes],
    golden: Sequence[Sample],
    signature: Signature,
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    # In a folder beside the target, so that the move is atomic; with the target's own name,
    # because torch writes the file's name into the archive.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pack-") as folder:
        path = Path(folder) / out.name
        files: dict[str, Any] = {name: data for name, data in extra.items() if data}
        with _deprecated():
            torch.jit.save(module, path, _extra_files=files)
        _verify(path, golden, signature)
        path.replace(out)


def _verify(path: Path, golden: Sequence[Sample], signature: Signature) -> None:
    """Load the file as a worker would and compare its answers with those of the original."""
    archive = read_archive(path)
    if archive.signature != signature:
        msg = "the signature does not come back from the file as it was written"
        raise ModelError(msg)
    program = _program(_load(path, {}), signature)
    for sample in golden:
        answers = _run(program, read_values(signature.inputs, sample.inputs))
        expected = read_values(signature.outputs, sample.outputs)
        for spec, left, right in zip(signature.outputs, expected, answers, strict=True):
            same, largest = (True, 0.0) if left is None else compare(left, right)
            if not same:
                random = [care for care in archive.cares if "random" in care.why]
                hint = f" ({random[0].operation} in {random[0].where})" if random else ""
                msg = (
                    f"output {spec.name!r} differs by up to {largest:.3g} when the same input runs "
                    f"again{hint}; such a model cannot have golden samples"
                )
                raise ModelError(msg)
