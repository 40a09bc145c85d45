"""Which role each method takes: the table, and nothing else decides it.

What is not in the table is denied. A test walks the descriptors of everything that is served, so a
new method without a rule does not get past it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from jitney.access.principal import ADMIN, INFER, READ

__all__ = ["RULES", "RUN_MANY", "RUN_ONE", "Rule"]

PROBES: Final = frozenset({"", "readiness", "liveness"})
"""What health checks may ask without saying who they are. A model's name is another matter: its
answer tells whether there is such a model."""


class Rule(NamedTuple):
    """What a call of one method takes.

    ``roles``: one of them, for any model; none at all and everybody may. ``field`` names the field
    of the request that names a model: where it does, the role must be for that one. A request that
    leaves it empty takes the role for every model if ``whole``, and is otherwise a question about
    all models, whose answer leaves out those that the caller has no role for. ``open_names`` need
    no role at all. ``inside``: whoever serves the method asks about the model itself.
    """

    roles: frozenset[str]
    field: str = ""
    whole: bool = False
    open_names: frozenset[str] = frozenset()
    inside: bool = False

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are before the request was read."""
        return not self.roles or bool(self.open_names)

    @property
    def is_admin(self) -> bool:
        """Whether it belongs to the admin address, where there is one."""
        return self.roles == frozenset({ADMIN})


ANYBODY: Final = Rule(frozenset())
RUN: Final = Rule(frozenset({INFER}), inside=True)
"""Their requests are cut and not parsed, and a stream has many."""
MEMORY: Final = Rule(frozenset({INFER}))
"""Regions have owners: see ``transport.shared_memory``."""
CONTRACT: Final = Rule(frozenset({INFER, READ}), field="name")
"""Who may run a model may know what it takes: clients ask before they send."""
PROBE: Final = Rule(frozenset({INFER, READ}), field="service", open_names=PROBES)

_OIP: Final = "/inference.GRPCInferenceService/"
_HEALTH: Final = "/grpc.health.v1.Health/"
RUN_ONE: Final = f"{_OIP}ModelInfer"
RUN_MANY: Final = f"{_OIP}ModelStreamInfer"

RULES: Final[dict[str, Rule]] = {
    f"{_OIP}ServerLive": ANYBODY,
    f"{_OIP}ServerReady": ANYBODY,
    f"{_OIP}ServerMetadata": Rule(frozenset({INFER, READ, ADMIN})),
    f"{_OIP}ModelReady": CONTRACT,
    f"{_OIP}ModelMetadata": CONTRACT,
    f"{_OIP}ModelConfig": CONTRACT,
    RUN_ONE: RUN,
    RUN_MANY: RUN,
    f"{_OIP}ModelStatistics": Rule(frozenset({READ}), field="name"),
    f"{_OIP}RepositoryIndex": Rule(frozenset({READ})),
    f"{_OIP}RepositoryModelLoad": Rule(frozenset({ADMIN}), field="model_name", whole=True),
    f"{_OIP}RepositoryModelUnload": Rule(frozenset({ADMIN}), field="model_name", whole=True),
    f"{_OIP}SystemSharedMemoryStatus": MEMORY,
    f"{_OIP}SystemSharedMemoryRegister": MEMORY,
    f"{_OIP}SystemSharedMemoryUnregister": MEMORY,
    f"{_OIP}CudaSharedMemoryStatus": MEMORY,
    f"{_OIP}CudaSharedMemoryRegister": MEMORY,
    f"{_OIP}CudaSharedMemoryUnregister": MEMORY,
    # Also to read them: which requests are traced, and where to, is for who can change it.
    f"{_OIP}TraceSetting": Rule(frozenset({ADMIN}), field="model_name", whole=True),
    f"{_OIP}LogSettings": Rule(frozenset({ADMIN}), whole=True),
    "/jitney.v1.Status/GetStatus": Rule(frozenset({READ}), field="model_name"),
    f"{_HEALTH}Check": PROBE,
    f"{_HEALTH}Watch": PROBE,
    f"{_HEALTH}List": Rule(frozenset({READ}), whole=True),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule(frozenset({READ})),
}
"""By the method's path."""
