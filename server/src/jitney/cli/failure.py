"""How a command ends when it could not do what was asked."""

from __future__ import annotations

__all__ = ["CommandError"]


class CommandError(Exception):
    """The command failed for a reason outside of it; the text is all that its user needs."""
