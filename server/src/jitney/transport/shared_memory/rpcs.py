"""The six RPCs of shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.audit import NO_AUDIT
from jitney.errors import InvalidRequest, RegionNotFound
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from jitney.audit import Audit
    from jitney.transport.shared_memory.registry import RegionRegistry

__all__ = ["SharedMemoryRpcs"]


class SharedMemoryRpcs:
    """Registers, lists and forgets regions of POSIX shared memory.

    CUDA regions are refused: an IPC handle can only be opened by a process that drives the device,
    and this one does not, so that no model's crash takes it along. Their list is empty, and
    forgetting them succeeds, because load generators begin and end with that.
    """

    def __init__(self, registry: RegionRegistry, audit: Audit = NO_AUDIT) -> None:
        self._registry = registry
        self._audit = audit

    def handlers(self) -> Mapping[str, Callable[..., Awaitable[object]]]:
        """Return the RPCs by name."""
        return {
            "SystemSharedMemoryStatus": self.system_status,
            "SystemSharedMemoryRegister": self.system_register,
            "SystemSharedMemoryUnregister": self.system_unregister,
            "CudaSharedMemoryStatus": self.cuda_status,
            "CudaSharedMemoryRegister": self.cuda_register,
            "CudaSharedMemoryUnregister": self.cuda_unregister,
        }

    async def system_status(
        self, request: pb.SystemSharedMemoryStatusRequest
    ) -> pb.SystemSharedMemoryStatusResponse:
        """SystemSharedMemoryStatus: of all regions, or of one."""
        response = pb.SystemSharedMemoryStatusResponse()
        for region in self._registry.regions(request.name):
            about = response.regions[region.name]
            about.name, about.key = region.name, region.key
            about.offset, about.byte_size = region.offset, region.size
        return response

    async def system_register(
        self, request: pb.SystemSharedMemoryRegisterRequest
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """SystemSharedMemoryRegister."""
        self._registry.register(request.name, request.key, request.offset, request.byte_size)
        self._audit.record(
            "shm.register", region=request.name, key=request.key, bytes=request.byte_size
        )
        return pb.SystemSharedMemoryRegisterResponse()

    async def system_unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """SystemSharedMemoryUnregister: one region, or all where there is no name."""
        self._registry.unregister(request.name)
        self._audit.record("shm.unregister", region=request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def cuda_status(
        self, request: pb.CudaSharedMemoryStatusRequest
    ) -> pb.CudaSharedMemoryStatusResponse:
        """CudaSharedMemoryStatus: there are none."""
        if request.name and self._registry.enabled:
            msg = f"Unable to find cuda shared memory region: '{request.name}'"
            raise RegionNotFound(msg)
        return pb.CudaSharedMemoryStatusResponse()

    async def cuda_register(
        self, request: pb.CudaSharedMemoryRegisterRequest
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """CudaSharedMemoryRegister: refused."""
        self._registry.ensure_enabled()
        msg = (
            f"failed to register shared memory region '{request.name}': invalid args (CUDA regions "
            "are not supported)"
        )
        raise InvalidRequest(msg)

    async def cuda_unregister(
        self, _: pb.CudaSharedMemoryUnregisterRequest
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """CudaSharedMemoryUnregister: nothing to do."""
        self._registry.ensure_enabled()
        return pb.CudaSharedMemoryUnregisterResponse()
