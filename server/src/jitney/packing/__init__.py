"""Writing a contract and samples of answers into a model file."""

from jitney.packing.pack import pack

__all__ = ["pack"]
