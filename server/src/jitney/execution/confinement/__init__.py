"""What a worker process gives up before it reads a model: files, network, other processes."""

from jitney.execution.confinement.confinement import MODES, Confinement

__all__ = ["MODES", "Confinement"]
