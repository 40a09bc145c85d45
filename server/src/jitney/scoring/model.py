"""What is known of the model before the first row is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney_client import NotSupported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from jitney_client import InferOptions, InferResult
    from jitney_client.protocol import inference

__all__ = ["Endpoint", "Model", "Tensor", "look_up"]


class Endpoint(Protocol):
    """Where the model is: ``jitney_client.AsyncClient``, or a server's parts in this process."""

    async def infer(
        self,
        model: str,
        inputs: Any,  # noqa: ANN401  # what the client calls Inputs
        **options: Unpack[InferOptions],
    ) -> InferResult:
        """Run the model once; raises the client's errors."""

    async def metadata(self, model: str, *, version: str = "") -> inference.ModelMetadataResponse:
        """Return the names, datatypes and shapes of its inputs and outputs."""

    async def config(self, model: str, *, version: str = "") -> inference.ModelConfig:
        """Return its configuration."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output; ``dims`` is the shape of one row, -1 for a size that varies."""

    name: str
    datatype: DataType
    dims: tuple[int, ...]
    optional: bool = False

    @property
    def size(self) -> int | None:
        """How many elements a row has; None where that varies."""
        return None if min(self.dims, default=0) < 0 else math.prod(self.dims)


@dataclass(frozen=True, slots=True)
class Model:
    """A version of a model; ``rows`` is how many it takes in one request.

    ``batched`` tells that every tensor's first dimension counts rows. A model without such a
    dimension gets each row as a request of its own.
    """

    name: str
    version: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batched: bool
    rows: int


async def look_up(
    endpoint: Endpoint, name: str, version: str, outputs: Sequence[str] = ()
) -> Model:
    """Ask for a model.

    :param version: none takes the newest that is ready, and stays with it: half a file scored by
        another version would be a mistake that nobody sees.
    :param outputs: those that are wanted; none for all.
    :raises ConfigError: when it has no such output, or cannot score single rows.
    :raises jitney_client.JitneyError: when it cannot be asked for.
    """
    metadata = await endpoint.metadata(name, version=version)
    if not version:
        version = max(metadata.versions, key=lambda v: int(v) if v.isdecimal() else -1, default="")
    try:
        config: inference.ModelConfig | None = await endpoint.config(name, version=version)
    except NotSupported:  # of the protocol's servers, some tell no more than the metadata
        config = None
    if config is not None and config.model_transaction_policy.decoupled:
        msg = f"{name} answers a request any number of times: its rows cannot be scored one by one"
        raise ConfigError(msg)
    if config is not None and config.HasField("sequence_batching"):
        msg = f"{name} keeps state between the requests of a sequence: a file's rows are none"
        raise ConfigError(msg)
    batched = config is not None and config.max_batch_size > 0
    optional = {i.name for i in config.input if i.optional} if config is not None else set()

    def tensor(given: inference.ModelMetadataResponse.TensorMetadata) -> Tensor:
        dims = tuple(given.shape[1:] if batched else given.shape)
        try:
            datatype = DataType(given.datatype)
        except ValueError:
            msg = f"{name}: {given.name} is {given.datatype}, which is no datatype of the protocol"
            raise ConfigError(msg) from None
        return Tensor(given.name, datatype, dims, given.name in optional)

    given = {t.name: tensor(t) for t in metadata.outputs}
    for output in outputs:
        if output not in given:
            msg = f"--output {output}: {name} has the outputs {', '.join(given)}"
            raise ConfigError(msg)
    return Model(
        name,
        version,
        tuple(tensor(t) for t in metadata.inputs),
        tuple(given[output] for output in dict.fromkeys(outputs) or given),
        batched,
        config.max_batch_size if config is not None and batched else 1,
    )
