"""Inputs, outputs and warm-up samples of a ModelConfig."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.datatypes import BY_CODE, DataType
from jitney.errors import ConfigError
from jitney.repository.manifest import MAX_COUNT, TRITON_FILE_NAME, WarmupManifest
from jitney.repository.side_files import is_plain_name, read_labels
from jitney.repository.triton.fields import refuse
from jitney.signature import BATCH, TensorSpec, fits_reshape
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jitney.repository.side_files import ReadFile

__all__ = ["datatype_of", "inputs_of", "outputs_of", "type_of", "warmups_of"]


def datatype_of(data_type: int, where: str) -> DataType:
    """Return a datatype by its number in the enum.

    :raises ConfigError: when it is none, or was left out.
    """
    found = BY_CODE.get(data_type)
    if found is None:
        known = ", ".join(name for name in pb.DataType.keys()[1:])
        msg = f"{TRITON_FILE_NAME}: {where}.data_type: expected one of {known}"
        raise ConfigError(msg)
    return found


def type_of(datatype: DataType) -> int:
    """Return the number of a datatype in the enum."""
    return datatype.code


def inputs_of(config: pb.ModelConfig) -> tuple[TensorSpec, ...] | None:
    """Return the inputs, None where the file describes none.

    :raises ConfigError: naming the field that is wrong.
    """
    specs = tuple(
        _spec(config, tensor, f"input[{i}]", (), optional=tensor.optional)
        for i, tensor in enumerate(config.input)
    )
    return specs or None


def outputs_of(config: pb.ModelConfig, read_file: ReadFile) -> tuple[TensorSpec, ...] | None:
    """Return the outputs, None where the file describes none.

    :param read_file: reads the lists of labels that they name.
    :raises ConfigError: naming the field that is wrong.
    """
    specs = []
    for i, tensor in enumerate(config.output):
        where, labels = f"output[{i}]", tensor.label_filename
        lines: tuple[str, ...] = ()
        if labels:
            path = f"{TRITON_FILE_NAME}: {where}.label_filename"
            lines = read_labels(labels, path, read_file)
        specs.append(_spec(config, tensor, where, lines))
    return tuple(specs) or None


def _spec(
    config: pb.ModelConfig,
    tensor: pb.ModelInput | pb.ModelOutput,
    where: str,
    labels: tuple[str, ...],
    *,
    optional: bool = False,
) -> TensorSpec:
    dims = _dims(tensor.dims, f"{where}.dims")
    reshape = None
    if tensor.HasField("reshape"):
        reshape = _dims(tensor.reshape.shape, f"{where}.reshape.shape")
        if not fits_reshape(dims, reshape):
            refuse(
                f"{where}.reshape",
                f"{list(reshape)} must have as many elements as dims, {list(dims)}, and a -1 for "
                "each size that varies, in the same order",
            )
    table = {
        "name": tensor.name,
        "datatype": datatype_of(tensor.data_type, where).value,
        "shape": [BATCH, *dims] if config.max_batch_size > 0 else list(dims),
        "optional": optional,
        "labels": labels,
    }
    if reshape is not None and reshape != dims:
        table["reshape"] = list(reshape)
    return TensorSpec.from_json(table, f"{TRITON_FILE_NAME}: {where}")


def _dims(dims: Iterable[int], where: str) -> tuple[int, ...]:
    dims = tuple(dims)
    for position, size in enumerate(dims):
        if size != -1 and size < 1:
            msg = f"{TRITON_FILE_NAME}: {where}[{position}]: expected a size > 0 or -1, got {size}"
            raise ConfigError(msg)
    return dims


def warmups_of(config: pb.ModelConfig, known: Mapping[str, DataType]) -> tuple[WarmupManifest, ...]:
    """Return the requests to run before the model is ready.

    :param known: the datatypes of the model's inputs, and of its controls, by name; empty where
        the file describes none.
    :raises ConfigError: naming the field that is wrong.
    """
    return tuple(
        _warmup(config, sample, f"model_warmup[{i}]", known)
        for i, sample in enumerate(config.model_warmup)
    )


def _warmup(
    config: pb.ModelConfig, sample: pb.ModelWarmup, where: str, known: Mapping[str, DataType]
) -> WarmupManifest:
    rows = max(sample.batch_size, 1)
    if rows > max(config.max_batch_size, 1):
        refuse(f"{where}.batch_size", f"{rows} rows are more than a batch has; write fewer")
    inputs = {}
    for name, source in sorted(sample.inputs.items()):
        path = f"{where}.inputs[{name!r}]"
        datatype = datatype_of(source.data_type, path)
        if known and known.get(name) is not datatype:
            expected = known[name].value if name in known else "no such input"
            msg = f"{TRITON_FILE_NAME}: {path}: got {datatype.value}, the model has {expected}"
            raise ConfigError(msg)
        inputs[name] = (_source(source, path), _dims(source.dims, f"{path}.dims"))
        if -1 in inputs[name][1]:
            msg = f"{TRITON_FILE_NAME}: {path}.dims: a sample has sizes; write one instead of -1"
            raise ConfigError(msg)
    return WarmupManifest(sample.name or where, rows, min(max(sample.count, 1), MAX_COUNT), inputs)


def _source(source: pb.ModelWarmup.Input, path: str) -> str:
    chosen = source.WhichOneof("input_data_type")
    if chosen == "zero_data" and source.zero_data:
        return "zero"
    if chosen == "random_data" and source.random_data:
        return "random"
    if chosen == "input_data_file":
        name = source.input_data_file
        if not is_plain_name(name) or name in {"zero", "random"}:
            refuse(
                f"{path}.input_data_file: {name!r}",
                "write the plain name of a file in the model's folder warmup",
            )
        return name
    msg = f"{TRITON_FILE_NAME}: {path}: write zero_data: true, random_data: true or a file"
    raise ConfigError(msg)
