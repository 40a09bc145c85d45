"""A model file, read without torch and without running anything in it."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from jitney.datatypes import DataType
from jitney.errors import ConfigError, ModelError
from jitney.repository.code import Argument, Care, find_cares, read_forward
from jitney.repository.container import Container
from jitney.repository.pickles import StoredTensor, read_pickle, root_class
from jitney.repository.static_scan import MAX_PICKLE_BYTES as MAX_DATA_BYTES
from jitney.repository.static_scan import Finding, scan_archive
from jitney.samples import EXTRA_FILE as SAMPLES_FILE
from jitney.samples import MAX_BYTES as MAX_SAMPLES_BYTES
from jitney.samples import read_samples
from jitney.signature import BATCH, Signature

if TYPE_CHECKING:
    from jitney.samples import Sample

__all__ = ["SIGNATURE_FILE", "Archive", "Kind", "read_archive"]

SIGNATURE_FILE: Final = "jitney.json"
"""The name under which a packed model holds its signature (``_extra_files``)."""

MAX_SIGNATURE_BYTES: Final = 16 << 20
MAX_CODE_BYTES: Final = 32 << 20
MAX_PICKLE_BYTES: Final = 8 << 20
"""Of pickles that are played on a stack; larger ones have vocabularies, and are told less about."""
ANY_SIZE: Final = '["N", "?"]'


class Kind(enum.StrEnum):
    """Which loader a model file is for; all of them are zip archives."""

    TORCHSCRIPT = "torchscript"
    EXPORTED = "exported"
    """A program saved by ``torch.export.save``."""
    AOTINDUCTOR = "aotinductor"
    """Native code packaged by AOTInductor."""
    UNKNOWN = "unknown"


WEIGHTS: Final = {
    Kind.TORCHSCRIPT: ("data/", "constants/"),
    Kind.EXPORTED: ("data/weights/", "data/constants/"),
    Kind.AOTINDUCTOR: ("data/aotinductor/",),
    Kind.UNKNOWN: (),
}
"""Where the elements of tensors are; in a package, they are part of the native code."""


@dataclass(frozen=True, slots=True)
class Archive:
    """What a model file says about itself.

    ``size`` is the file's in bytes, ``weight_bytes`` that of its parameters, buffers and
    constants, and ``weights`` the same by datatype as far as it can be told. ``arguments`` and
    ``returns`` are those of ``forward``; ``traced`` are the inputs that ``torch.jit.trace`` saw
    (empty for a scripted model), ``extra_files`` the names of everything attached to the file.
    ``cares`` are what a person should know of its code, ``findings`` what speaks against loading it
    or has to be said when it is.
    """

    kind: Kind
    size: int
    signature: Signature | None
    samples: tuple[Sample, ...]
    arguments: tuple[Argument, ...]
    returns: str
    traced: tuple[StoredTensor, ...]
    cares: tuple[Care, ...]
    weight_bytes: int
    weights: dict[str, int]
    extra_files: tuple[str, ...]
    findings: tuple[Finding, ...] = ()

    def missing(self) -> list[str]:
        """Return what the file lacks, each with what to do about it."""
        texts = []
        if self.kind is Kind.UNKNOWN:
            texts.append(
                "a program: this is no TorchScript file (torch.save keeps weights only; "
                "save torch.jit.script(model) with torch.jit.save, or use `jitney pack`)"
            )
            return texts
        if self.signature is None:
            texts.append(
                "a signature: give the shapes to `jitney pack`, or put this model.toml into the "
                "model's folder"
            )
        if not self.samples:
            texts.append(
                "golden samples: without them a damaged file is noticed by its users only; "
                "`jitney pack` writes some"
            )
        return texts

    def skeleton(self) -> str:
        """Return the ``model.toml`` to write for a file without a signature.

        It has everything that the file tells; each ``"?"`` is refused by the server until a size
        is written there, because a guess that runs would be worse than a question.
        """
        lines = [
            '# model.toml, in the model\'s folder. Put sizes where a "?" is: a number, or a name',
            '# where the size varies. "N" is the batch dimension, always first; leave it out',
            "# everywhere if the model takes no batches. Correct the datatypes that are wrong.",
        ]
        shapes = self._example_shapes()
        fed = 0
        for argument in self.arguments:
            kind = _fed_as(argument.type)
            if kind is None:
                lines.append(f"# {_explain(argument)}")
                continue
            example = self.traced[fed] if shapes else None
            datatype = kind if example is None else (example.datatype or kind)
            shape = shapes[fed] if shapes else ANY_SIZE
            fed += 1
            lines += _table("input", argument.name, datatype, shape)
            if argument.default is not None:
                lines.append("optional = true")
        if not fed:
            lines += _table("input", "INPUT__0", DataType.FP32, ANY_SIZE)
        for name in _output_names(self.returns):
            lines += _table("output", name, DataType.FP32, ANY_SIZE)
        return "\n".join(lines) + "\n"

    def _example_shapes(self) -> list[str]:
        """Shapes for the skeleton from the traced example, where it fits the arguments."""
        fed = [argument for argument in self.arguments if _fed_as(argument.type) is not None]
        if len(fed) != len(self.traced):
            return []
        firsts = {tensor.shape[:1] for tensor in self.traced}
        batched = len(firsts) == 1 and firsts != {()}
        return [
            json.dumps([BATCH, *tensor.shape[1:]] if batched else list(tensor.shape))
            for tensor in self.traced
        ]


def read_archive(source: Path | BinaryIO) -> Archive:
    """Read a model file.

    :param source: a path, or a seekable file opened in binary mode, which stays open.
    :raises ModelError: when the file cannot be read, is cut short or damaged, or is built to do
        harm; when its signature or its samples are not what they should be.
    """
    if not isinstance(source, Path):
        return _read(Container(source))
    try:
        file = source.open("rb")
    except OSError as error:
        msg = f"the model file cannot be opened: {error.strerror}"
        raise ModelError(msg) from None
    with file:
        return _read(Container(file))


def _read(container: Container) -> Archive:
    container.verify()
    kind = _kind_of(container)
    signature, samples = _read_attached(container)
    arguments: tuple[Argument, ...] = ()
    returns = ""
    cares: tuple[Care, ...] = ()
    traced: tuple[StoredTensor, ...] = ()
    weights: dict[str, int] = {}
    findings: tuple[Finding, ...] = ()
    if kind is Kind.TORCHSCRIPT:
        sources = _read_sources(container)
        findings = scan_archive(container, sources)
        cares = find_cares(sources)
        forward = _read_forward(container, sources)
        if forward is not None:
            arguments, returns = forward
        weights = _weights_by_datatype(container)
        traced = _read_traced(container)
    return Archive(
        kind=kind,
        size=container.size,
        signature=signature,
        samples=samples,
        arguments=arguments,
        returns=returns,
        traced=traced,
        cares=cares,
        weight_bytes=sum(
            container.size_of(name) for start in WEIGHTS[kind] for name in container.names(start)
        ),
        weights=weights,
        extra_files=tuple(name.removeprefix("extra/") for name in container.names("extra/")),
        findings=findings,
    )


def _kind_of(container: Container) -> Kind:
    if "constants.pkl" in container and any(container.names("code/")):
        return Kind.TORCHSCRIPT
    # Packages come first: they may carry the program that they were made from.
    if any(container.names("data/aotinductor/")):
        return Kind.AOTINDUCTOR
    if any(container.names("models/", ".json")):
        return Kind.EXPORTED
    return Kind.UNKNOWN


def _read_attached(container: Container) -> tuple[Signature | None, tuple[Sample, ...]]:
    signature: Signature | None = None
    samples: tuple[Sample, ...] = ()
    name = f"extra/{SIGNATURE_FILE}"
    # Empty means absent: that is how torch hands out an extra file that is not there.
    if name in container and (data := container.read(name, MAX_SIGNATURE_BYTES)):
        try:
            signature = Signature.from_json(json.loads(data.decode()))
        except ConfigError as error:
            msg = f"the file's {error}; pack the model again"
            raise ModelError(msg) from None
        except (ValueError, RecursionError):
            msg = "the file's signature is no JSON; pack the model again"
            raise ModelError(msg) from None
    name = f"extra/{SAMPLES_FILE}"
    if name in container:
        samples = tuple(read_samples(container.read(name, MAX_SAMPLES_BYTES)))
    return signature, samples


def _read_sources(container: Container) -> dict[str, str]:
    sources: dict[str, str] = {}
    left = MAX_CODE_BYTES
    for name in container.names("code/", ".py"):
        data = container.read(name, left)
        left -= len(data)
        sources[name] = data.decode(errors="replace")
    return sources


def _read_forward(
    container: Container, sources: dict[str, str]
) -> tuple[tuple[Argument, ...], str] | None:
    if "data.pkl" not in container:
        return None
    module, name = root_class(container.read("data.pkl", MAX_DATA_BYTES))
    source = sources.get(f"code/{module.replace('.', '/')}.py", "")
    return read_forward(source, name)


def _weights_by_datatype(container: Container) -> dict[str, int]:
    """Return bytes by datatype, each entry counted once; a hint, so what is unreadable is left."""
    totals: dict[str, int] = {}
    for start, pickle in (("data/", "data.pkl"), ("constants/", "constants.pkl")):
        for key, tensor in {tensor.key: tensor for tensor in _tensors(container, pickle)}.items():
            label = "other" if tensor.datatype is None else tensor.datatype.value
            if f"{start}{key}" in container:
                totals[label] = totals.get(label, 0) + container.size_of(f"{start}{key}")
    return totals


def _tensors(container: Container, name: str) -> list[StoredTensor]:
    if name not in container or container.size_of(name) > MAX_PICKLE_BYTES:
        return []
    try:
        return read_pickle(container.read(name, MAX_PICKLE_BYTES)).tensors
    except ModelError:
        return []


def _read_traced(container: Container) -> tuple[StoredTensor, ...]:
    name = "traced_inputs.pkl"
    if name not in container or container.size_of(name) > MAX_PICKLE_BYTES:
        return ()
    try:
        value = read_pickle(container.read(name, MAX_PICKLE_BYTES)).value
    except ModelError:
        return ()
    seen = value.get("forward") if isinstance(value, dict) else None
    if not isinstance(seen, list) or not all(isinstance(item, StoredTensor) for item in seen):
        return ()
    return tuple(seen)


def _fed_as(type_: str) -> DataType | None:
    """Return a datatype for an argument that requests can feed, None for the others."""
    type_ = type_.removeprefix("Optional[").removesuffix("]") if "Optional" in type_ else type_
    if type_ == "Tensor":
        return DataType.FP32
    return DataType.BYTES if type_.removesuffix("]") == "List[str" else None


def _explain(argument: Argument) -> str:
    if argument.default is not None:
        return f"{argument.name}: {argument.type} keeps its default, {argument.default}"
    return f"{argument.name}: {argument.type} cannot be fed: only tensors and lists of texts can"


def _output_names(returns: str) -> list[str]:
    if returns.startswith("Dict["):
        return ["?"]  # the keys are known only when the model runs
    count = 1
    if returns.startswith("Tuple["):
        count = returns.count("Tensor") + returns.count("List[str]")
    return [f"OUTPUT__{position}" for position in range(max(count, 1))]


def _table(side: str, name: str, datatype: DataType, shape: str) -> list[str]:
    shape = '["N"]' if datatype is DataType.BYTES else shape
    return [
        "",
        f"[[{side}]]",
        f"name = {json.dumps(name)}",
        f'datatype = "{datatype.value}"',
        f"shape = {shape}",
    ]
