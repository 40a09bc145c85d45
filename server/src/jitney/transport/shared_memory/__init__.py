"""Tensors in POSIX shared memory that a client made: registered by name, used by reference."""

from __future__ import annotations

from jitney.transport.shared_memory.region import Location, Region, SharedRequest, Window
from jitney.transport.shared_memory.registry import RegionRegistry

__all__ = ["Location", "Region", "RegionRegistry", "SharedRequest", "Window"]
