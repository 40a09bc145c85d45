"""jitney: serves TorchScript models over gRPC, and packs them for serving.

``import jitney`` costs next to nothing: torch, grpc and numpy are imported by the parts that need
them, never from here, because the server process must stay free of torch and the client of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jitney.packing import pack

    __version__: str

__all__ = ["__version__", "pack"]


def __getattr__(name: str) -> object:
    # Both on first use: `pack` brings torch along, and importlib.metadata takes longer than
    # everything else that an import of a leaf module does.
    if name == "pack":
        from jitney.packing import pack  # noqa: PLC0415

        return pack
    if name == "__version__":
        from importlib import metadata  # noqa: PLC0415

        try:
            return metadata.version("jitney")
        except metadata.PackageNotFoundError:
            return "0+source"  # run from a source tree that was never installed
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
