"""Built-in models: an executor and a loader in the server process, for what needs no torch."""

from jitney.execution.builtin.executor import BuiltinExecutor
from jitney.execution.builtin.rules import PARAMETERS, check, default_signature

__all__ = ["PARAMETERS", "BuiltinExecutor", "check", "default_signature"]
