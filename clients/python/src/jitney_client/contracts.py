"""What models take and give, remembered between calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney_client.contract import Contract
from jitney_client.errors import AccessRefused, NotSupported
from jitney_client.protocol import inference

if TYPE_CHECKING:
    from jitney_client.caller import Caller
    from jitney_client.deadline import Deadline

__all__ = ["Contracts"]


class Contracts:
    """The contracts of the models that were called, by name and version.

    They are asked for at the first call of each. A model may be replaced by one with another
    contract, so whoever finds that a request does not fit asks anew (``renew``).
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._known: dict[tuple[str, str], Contract | None] = {}

    def __repr__(self) -> str:
        """Return how many are known."""
        return f"<Contracts of {len(self._known)} models>"

    async def get(self, model: str, version: str, deadline: Deadline) -> Contract | None:
        """Return the contract of a version, None where the server tells nobody.

        :raises JitneyError: when the server cannot be asked.
        """
        key = (model, version)
        if key not in self._known:
            self._known[key] = await self._ask(model, version, deadline)
        return self._known[key]

    async def renew(self, model: str, version: str, deadline: Deadline) -> bool:
        """Ask for a contract again, if there is one; return whether it is another one than before.

        :raises JitneyError: when the server cannot be asked; then the old one stays.
        """
        key = (model, version)
        before = self._known.get(key)
        if before is None:
            return False
        self._known[key] = after = await self._ask(model, version, deadline)
        return after != before

    def forget(self, model: str) -> None:
        """Forget all versions of a model."""
        for key in [key for key in self._known if key[0] == model]:
            self._known.pop(key, None)

    async def _ask(self, model: str, version: str, deadline: Deadline) -> Contract | None:
        try:
            metadata = await self._caller.call(
                "ModelMetadata",
                inference.ModelMetadataRequest(name=model, version=version),
                inference.ModelMetadataResponse,
                deadline,
            )
        except (NotSupported, AccessRefused):
            return None
        config = None
        try:
            reply = await self._caller.call(
                "ModelConfig",
                inference.ModelConfigRequest(name=model, version=version),
                inference.ModelConfigResponse,
                deadline,
            )
            config = reply.config
        except (NotSupported, AccessRefused):
            pass
        return Contract.read(metadata, config)
