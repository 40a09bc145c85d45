"""On whose behalf a call is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jitney.access import current
from jitney.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.transport.status import Context

    TenantReader = Callable[[Context], str]

__all__ = ["name_of_caller", "nobody", "tenant_reader"]

MAX_TENANT: Final = 128
"""Characters of a tenant's name: it is kept for as long as the tenant has something in flight."""


def nobody(_: Context) -> str:
    """Return that there are no tenants."""
    return ""


def name_of_caller(_: Context) -> str:
    """Return the name of the principal; nobody's tenant has none."""
    caller = current()
    return "" if caller.source == "anonymous" else caller.name


def tenant_reader(key: str) -> TenantReader:
    """Return what tells the tenant of a call, raising InvalidRequest for what cannot be one.

    Calls without the key have the tenant ``""``, which is one like the others. The key may come
    once: of two, one may be a proxy's and the other the caller's own, and nothing tells which.

    :param key: the metadata key; empty for no tenants, and then metadata is not looked at: gRPC
        makes its objects only for who asks.
    """
    if not key:
        return nobody

    def read(context: Context) -> str:
        values = [value for name, value in context.invocation_metadata() or () if name == key]
        if not values:
            return ""
        tenant = values[0]
        if len(values) > 1:
            msg = f"the metadata key '{key}' came {len(values)} times, it may come once"
            raise InvalidRequest(msg)
        if not isinstance(tenant, str) or len(tenant) > MAX_TENANT or not tenant.isprintable():
            msg = f"the metadata key '{key}' must have at most {MAX_TENANT} printable characters"
            raise InvalidRequest(msg)
        return tenant

    return read
