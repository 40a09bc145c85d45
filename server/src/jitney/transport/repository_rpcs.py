"""The RPCs about the model repository: what is in it, and what of it is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.access import READ, current
from jitney.errors import InvalidRequest, NotSupported
from jitney.transport import describe
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from jitney.repository.control import ModelControl
    from jitney.repository.load_request import Value
    from jitney.repository.repository import Repository

__all__ = ["RepositoryRpcs"]

UNLOAD_DEPENDENTS = "unload_dependents"


class RepositoryRpcs:
    """RepositoryIndex, RepositoryModelLoad and RepositoryModelUnload.

    Loading answers when the model is served, or cannot be; unloading answers at once.
    """

    def __init__(self, control: ModelControl, repository: Repository) -> None:
        self._control = control
        self._repository = repository

    def handlers(self) -> Mapping[str, Callable[..., Awaitable[object]]]:
        """Return the RPCs by name."""
        return {
            "RepositoryIndex": self.index,
            "RepositoryModelLoad": self.load,
            "RepositoryModelUnload": self.unload,
        }

    async def index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """RepositoryIndex: every folder that there is, and the state of every version."""
        _check_repository(request.repository_name)
        await self._control.refresh()
        # Who may read some models is told of these alone.
        caller = current()
        visible = [entry for entry in self._repository.index() if caller.may(READ, entry.name)]
        return describe.index(visible, ready=request.ready)

    async def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """RepositoryModelLoad: load a model, or load it anew."""
        _check_repository(request.repository_name)
        await self._control.load(request.model_name, _values(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def unload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        """RepositoryModelUnload: serve a model no longer.

        No model here depends on another, so ``unload_dependents`` changes nothing.
        """
        _check_repository(request.repository_name)
        for key, value in _values(request.parameters).items():
            if key != UNLOAD_DEPENDENTS:
                msg = f"unrecognized unload parameter '{key[:80]}'."
                raise InvalidRequest(msg)
            if not isinstance(value, bool):
                msg = f"unload parameter '{key}' must be a bool"
                raise InvalidRequest(msg)
        await self._control.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()


def _check_repository(name: str) -> None:
    if name:
        msg = "'repository_name' specification is not supported"
        raise NotSupported(msg)


def _values(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> dict[str, Value]:
    """Return parameters as Python has them.

    :raises InvalidRequest: when one has no value.
    """
    values: dict[str, Value] = {}
    for key, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            msg = f"parameter '{key[:80]}' has no value"
            raise InvalidRequest(msg)
        values[key] = getattr(parameter, choice)
    return values
