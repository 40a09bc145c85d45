"""The types that all messages share; ``message.pyi`` says what they can do.

protobuf has no types of its own, and classes that are made at run time cannot have any, so type
checkers read the ``.pyi`` files beside these modules.
"""

from __future__ import annotations

from collections.abc import MutableMapping, MutableSequence

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper as EnumType
from google.protobuf.message import DecodeError, Message

__all__ = [
    "DecodeError",
    "EnumType",
    "Message",
    "MessageMap",
    "Messages",
    "ScalarMap",
    "Scalars",
]

# protobuf registers its containers as virtual subclasses of these.
Scalars = MutableSequence
Messages = MutableSequence
ScalarMap = MutableMapping
MessageMap = MutableMapping
