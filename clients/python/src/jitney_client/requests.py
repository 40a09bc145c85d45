"""Requests put together and checked, at little cost where an equal one went before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jitney_client.errors import InvalidRequest, JitneyError
from jitney_client.prepared import Head, Prepared, encode_inputs, write_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney_client.contracts import Contracts
    from jitney_client.deadline import Deadline
    from jitney_client.options import RequestOptions
    from jitney_client.prepared import Inputs
    from jitney_client.tensors import TensorView

    Key = tuple[object, ...]

__all__ = ["Requests"]

PLAIN: Final = frozenset({"version", "outputs", "request_id", "timeout", "tenant"})
"""Options that leave a head as it is, or that are part of its key."""
MOST: Final = 256
"""Heads that are remembered."""


class Requests:
    """Makes the requests of a client.

    Most callers send the same kind of request again and again: the same model, names, datatypes and
    shapes. So its head is checked and written once, and remembered for as long as the model's
    contract is what it was.

    :param check: whether requests are checked against the model's contract.
    """

    def __init__(self, contracts: Contracts, *, check: bool) -> None:
        self._contracts = contracts
        self._check = check
        self._heads: dict[Key, Head] = {}

    def __repr__(self) -> str:
        """Return how many heads are remembered."""
        return f"<Requests {len(self._heads)} heads>"

    def find(self, model: str, inputs: Inputs, options: RequestOptions) -> Prepared | None:
        """Return a request if an equal one went before, but for its elements and its id.

        :raises TypeError: when the protocol has no datatype for an array.
        """
        if not options.keys() <= PLAIN:
            return None
        tensors = encode_inputs(inputs)
        head = self._heads.get(_key(model, tensors, options))
        if head is None:
            return None
        return Prepared(head, [*tensors.values()], options.get("request_id", ""))

    async def make(
        self, model: str, inputs: Inputs, options: RequestOptions, deadline: Deadline
    ) -> Prepared:
        """Put a request together and check it.

        A request that does not fit is checked once more against what the server says now, so a
        model that was replaced by another one is no error. That costs the refused request a call,
        but never its tensors.

        :raises InvalidRequest: when it does not keep to the model's contract.
        :raises JitneyError: when the server cannot be asked for that.
        :raises TypeError: when the protocol has no datatype for an array.
        :raises ValueError: when one array is given for a model with several inputs, or an option
            has a value that it cannot have.
        """
        tensors, version = encode_inputs(inputs), options.get("version", "")
        contract = None
        if self._check or "" in tensors:
            contract = await self._contracts.get(model, version, deadline)
        try:
            head = write_head(model, tensors, options, contract)
        except (InvalidRequest, ValueError):
            if contract is None or not await self.renew(model, options, deadline):
                raise
            contract = await self._contracts.get(model, version, deadline)
            head = write_head(model, tensors, options, contract)
        if options.keys() <= PLAIN:
            if len(self._heads) >= MOST:
                self._heads.clear()
            self._heads[_key(model, tensors, options)] = head
        return Prepared(head, [*tensors.values()], options.get("request_id", ""))

    async def renew(self, model: str, options: RequestOptions, deadline: Deadline) -> bool:
        """Ask for a contract again, if it was asked for before; return whether it is another one.

        False also where the server cannot be asked: then what is known stays.
        """
        version = options.get("version", "")
        try:
            renewed = await self._contracts.renew(model, version, deadline)
        except JitneyError:
            return False
        if renewed:
            self._heads.clear()
        return renewed

    def forget(self, model: str) -> None:
        """Forget what is known of a model, which is about to be another one."""
        self._contracts.forget(model)
        self._heads.clear()


def _key(model: str, tensors: Mapping[str, TensorView], options: RequestOptions) -> Key:
    kinds = [tensor[:2] for tensor in tensors.values()]  # datatype and shape
    if not options:
        return (model, *tensors, *kinds)
    version, outputs = options.get("version", ""), tuple(options.get("outputs", ()))
    # Without options it would be shorter, so the two kinds do not meet.
    return (model, *tensors, *kinds, version, outputs)
