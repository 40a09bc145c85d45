"""From a ModelConfig to a manifest: what Triton's configuration means to jitney.

``fields`` says what is refused or ignored as a whole; here is what is made of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from jitney.builtin import BuiltinSpec
from jitney.errors import ConfigError
from jitney.execution.builtin.rules import PARAMETERS
from jitney.repository.manifest import (
    MAX_BATCH_SIZE,
    MAX_COUNT,
    MODEL_FILE,
    TRITON_FILE_NAME,
    BatchingManifest,
    ModelManifest,
    RuntimeManifest,
    VersionPolicy,
)
from jitney.repository.manifest_reader import is_device
from jitney.repository.side_files import is_plain_name, nothing_to_read
from jitney.repository.triton.fields import ignored, refuse, review
from jitney.repository.triton.scheduling import batching_of, sequence_of
from jitney.repository.triton.tensors import inputs_of, outputs_of, warmups_of
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jitney.builtin import Handler
    from jitney.repository.side_files import ReadFile

    T = TypeVar("T")

__all__ = [
    "BACKEND",
    "HANDLERS",
    "MODEL_SUFFIXES",
    "PLATFORM",
    "Conversion",
    "convert",
    "manifest_of",
]

PLATFORM: Final = "pytorch_libtorch"
BACKEND: Final = "pytorch"
RUNTIMES: Final = frozenset({"", "libtriton_pytorch.so"})
HANDLERS: Final[Mapping[str, Handler]] = {
    "identity": "identity",
    "repeat": "repeat",
    "echo": "echo",
    "parameter": "echo",
}
"""Built-in models by the back-end that a configuration names."""

MODEL_SUFFIXES: Final = (".pt", ".pth")

ACCEPTED: Final = frozenset({"ENABLE_WEIGHT_SHARING"})
IGNORED: Final = {
    "ENABLE_CACHE_CLEANING": "memory that torch holds back is used by the next batch",
    "INTRA_OP_THREAD_COUNT": "it is the worker's; see --cpu-threads",
    "INTER_OP_THREAD_COUNT": "it is the worker's; see --cpu-threads",
    "NUM_THREADS": "it is the worker's; see --cpu-threads",
    "NUM_INTEROP_THREADS": "it is the worker's; see --cpu-threads",
    "ENABLE_JIT_EXECUTOR": "it would hold for every model of the worker",
    "ENABLE_JIT_PROFILING": "it would hold for every model of the worker",
    "ENABLE_TENSOR_FUSER": "it would hold for every model of the worker",
    "TORCH_COMPILE_OPTIONAL_PARAMETERS": "it is for models written in Python",
}
SWITCHES: Final = ("DISABLE_OPTIMIZED_EXECUTION", "INFERENCE_MODE", "DISABLE_CUDNN")
TRUE: Final = frozenset({"1", "true", "yes", "on"})
FALSE: Final = frozenset({"0", "false", "no", "off"})


class Conversion(NamedTuple):
    """What became of a ModelConfig: a manifest, unless something was refused, and what to say."""

    manifest: ModelManifest | None
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]


def manifest_of(
    config: pb.ModelConfig, folder_name: str, *, read_file: ReadFile = nothing_to_read
) -> tuple[ModelManifest, list[str]]:
    """Return the manifest that means the same, and a warning for each field that is ignored.

    :param folder_name: the model's, which ``name`` must not contradict.
    :param read_file: reads the lists of labels that outputs name.
    :raises ConfigError: for the first field that is not supported, or wrong.
    """
    manifest, refusals, warnings = convert(config, folder_name, read_file=read_file)
    if manifest is None:
        raise ConfigError(refusals[0])
    return manifest, list(warnings)


def convert(config: pb.ModelConfig, folder_name: str, *, read_file: ReadFile) -> Conversion:
    """Return the manifest, or everything that stands against there being one."""
    refused, warnings = review(config)
    refusals = [str(error) for error in refused]

    def part(make: Callable[[], T], otherwise: T) -> T:
        try:
            return make()
        except ConfigError as error:
            refusals.append(str(error))
            return otherwise

    part(lambda: _check_name(config, folder_name), None)
    handler = part(lambda: _handler(config), None)
    parameters = {key: value.string_value for key, value in sorted(config.parameters.items())}
    sequence = part(lambda: sequence_of(config), None)
    inputs = part(lambda: inputs_of(config), None)
    known = {spec.name: spec.datatype for spec in inputs or ()}
    known |= {c.name: c.datatype for c in (sequence.controls if sequence and known else ())}
    part(lambda: _check_decoupled(config, handler), None)
    manifest = ModelManifest(
        max_batch_size=part(lambda: _max_batch_size(config), None),
        batching=part(lambda: batching_of(config, warnings), BatchingManifest()),
        runtime=part(lambda: _runtime(config, handler, parameters, warnings), RuntimeManifest()),
        versions=part(lambda: _versions(config), VersionPolicy()),
        inputs=inputs,
        outputs=part(lambda: outputs_of(config, read_file), None),
        builtin=part(lambda: _builtin(handler, parameters, warnings), None),
        sequence=sequence,
        devices=part(lambda: _devices(config, handler, warnings), ()),
        warmup=part(lambda: warmups_of(config, known), ()),
        config=config.SerializeToString(deterministic=True),
    )
    _warn_of_optimization(config, warnings)
    return Conversion(None if refusals else manifest, tuple(refusals), tuple(warnings))


def _check_name(config: pb.ModelConfig, folder_name: str) -> None:
    if config.name not in ("", folder_name):
        refuse(
            f"name: {config.name!r}", f"leave it out, or name the folder so; it is {folder_name!r}"
        )


def _handler(config: pb.ModelConfig) -> Handler | None:
    """Return the handler of a built-in model, None for one with a file."""
    platform, backend, file = config.platform, config.backend, config.default_model_filename
    if config.runtime not in RUNTIMES:
        refuse(
            f"runtime: {config.runtime!r}",
            "save the model as TorchScript (torch.jit.script or torch.jit.trace), and leave it out",
        )
    if platform not in ("", PLATFORM):
        refuse(f"platform: {platform!r}", _other(platform))
    if backend in HANDLERS:
        if platform:
            refuse(f"platform: {platform!r}", f"leave it out beside backend: {backend!r}")
        return HANDLERS[backend]
    if backend not in ("", BACKEND):
        refuse(f"backend: {backend!r}", _other(backend))
    if not platform and not backend and file and not file.endswith(MODEL_SUFFIXES):
        refuse(
            f"default_model_filename: {file!r}",
            f"write backend: {BACKEND!r} if it is a TorchScript file",
        )
    return None


def _other(name: str) -> str:
    if name == "ensemble":
        return "put the steps into one TorchScript module, or call the models one after the other"
    return f"save the model as TorchScript, and write platform: {PLATFORM!r}"


def _check_decoupled(config: pb.ModelConfig, handler: Handler | None) -> None:
    decoupled = config.model_transaction_policy.decoupled
    if decoupled and handler != "repeat":
        refuse(
            "model_transaction_policy.decoupled",
            "a TorchScript model gives one reply for a request; only backend: 'repeat' gives more",
        )
    if handler == "repeat" and not decoupled:
        msg = (
            f"{TRITON_FILE_NAME}: model_transaction_policy.decoupled: backend 'repeat' gives "
            "several replies for a request; set it to true"
        )
        raise ConfigError(msg)


def _max_batch_size(config: pb.ModelConfig) -> int | None:
    rows = config.max_batch_size
    if not 0 <= rows <= MAX_BATCH_SIZE:
        msg = (
            f"{TRITON_FILE_NAME}: max_batch_size: expected a number of rows from 0 to "
            f"{MAX_BATCH_SIZE}, got {rows}"
        )
        raise ConfigError(msg)
    if not rows and not config.input and not config.output:
        return None  # nothing is said about shapes at all: a packed file may know
    return rows


def _versions(config: pb.ModelConfig) -> VersionPolicy:
    policy = config.version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy("all")
    if choice == "specific":
        numbers = sorted(set(policy.specific.versions))
        if not numbers or numbers[0] < 0:
            msg = f"{TRITON_FILE_NAME}: version_policy.specific.versions: expected numbers >= 0"
            raise ConfigError(msg)
        return VersionPolicy("specific", numbers=tuple(numbers))
    return VersionPolicy(count=min(policy.latest.num_versions, MAX_COUNT) or 1)


def _devices(
    config: pb.ModelConfig, handler: Handler | None, warnings: list[str]
) -> tuple[str, ...]:
    kinds = pb.ModelInstanceGroup
    names: list[str] = []
    anywhere = False
    for i, group in enumerate(config.instance_group):
        where = f"instance_group[{i}]"
        if group.count > 1:
            why = "one copy on each device runs one batch at a time; the next is staged meanwhile"
            warnings.append(ignored(f"{where}.count", why))
        if group.kind == kinds.KIND_MODEL:
            refuse(f"{where}.kind: KIND_MODEL", "write KIND_GPU or KIND_CPU")
        if group.gpus and group.kind == kinds.KIND_CPU:
            refuse(f"{where}.gpus", "leave it out beside KIND_CPU")
        numbered = [f"cuda:{number}" for number in group.gpus]
        if wrong := [name for name in numbered if not is_device(name)]:
            msg = f"{TRITON_FILE_NAME}: {where}.gpus: {wrong[0].removeprefix('cuda:')} is no GPU"
            raise ConfigError(msg)
        if group.kind == kinds.KIND_CPU:
            names.append("cpu")
        elif numbered:
            names.extend(numbered)
        elif group.kind == kinds.KIND_GPU:
            names.append("cuda")
        else:
            anywhere = True
    # A built-in model runs in the server, whatever devices there are.
    return () if anywhere or handler else tuple(dict.fromkeys(names))


def _runtime(
    config: pb.ModelConfig,
    handler: Handler | None,
    parameters: Mapping[str, str],
    warnings: list[str],
) -> RuntimeManifest:
    file = config.default_model_filename or MODEL_FILE
    if not is_plain_name(file):
        refuse(
            f"default_model_filename: {file!r}",
            "write the plain name of a file in the version's folder",
        )
    if handler is not None:
        return RuntimeManifest(file=file)
    if "TRITON_BATCH_STRATEGY_PATH" in parameters:
        refuse(
            'parameters["TRITON_BATCH_STRATEGY_PATH"]',
            "batches are formed by jitney; leave it out",
        )
    for key, value in parameters.items():
        if key in ACCEPTED or key in SWITCHES:
            continue
        path = f'parameters["{key}"]'
        if key not in IGNORED:
            warnings.append(ignored(path, "TorchScript models have no parameters"))
        elif value.lower() not in FALSE:
            warnings.append(ignored(path, IGNORED[key]))
    plain, inference, no_cudnn = (
        _switch(parameters, key, default=key == "INFERENCE_MODE") for key in SWITCHES
    )
    return RuntimeManifest("off" if plain else "auto", inference, not no_cudnn, file)


def _switch(parameters: Mapping[str, str], key: str, *, default: bool) -> bool:
    value = parameters.get(key, "").lower()
    if not value:
        return default
    if value not in TRUE | FALSE:
        msg = f'{TRITON_FILE_NAME}: parameters["{key}"]: expected true or false, got {value!r}'
        raise ConfigError(msg)
    return value in TRUE


def _builtin(
    handler: Handler | None, parameters: Mapping[str, str], warnings: list[str]
) -> BuiltinSpec | None:
    if handler is None:
        return None
    used = PARAMETERS[handler]
    why = f"the handler {handler} knows no such parameter"
    others = sorted(set(parameters) - used)
    warnings.extend(ignored(f'parameters["{key}"]', why) for key in others)
    return BuiltinSpec(handler, {key: parameters[key] for key in sorted(used & set(parameters))})


def _warn_of_optimization(config: pb.ModelConfig, warnings: list[str]) -> None:
    for field in ("input_pinned_memory", "output_pinned_memory"):
        # Here, the default of a message that is there is not that of one that is not.
        if config.optimization.HasField(field) and not getattr(config.optimization, field).enable:
            why = "batches are staged in page-locked memory wherever a device can use it"
            warnings.append(ignored(f"optimization.{field}.enable: false", why))
