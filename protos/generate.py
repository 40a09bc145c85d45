"""Compile the protocol's files into what ``jitney_client.protocol`` loads.

Run ``python protos/generate.py`` with the group ``stubs`` installed; with ``--check`` nothing is
written, and the exit code is 1 when what is committed differs.

For each package there are two results: ``<module>.binpb``, a serialised ``FileDescriptorSet``, and
``<module>.pyi``, its face for type checkers. protoc's own Python output is not used: importing a
``_pb2`` module registers its symbols in the process-wide descriptor pool, where they collide with
those of other clients of the same protocol. Its ``.pyi`` output is not used either: it builds on
``google.protobuf``, which has no types of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc
from stubs import render

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor_pb2 import DescriptorProto

PROTOS: Final = Path(__file__).resolve().parent
TARGET: Final = PROTOS.parent / "clients/python/src/jitney_client/protocol"

# The order of the files does not matter: protoc writes imports before their importers.
MODULES: Final = {
    "inference": ("grpc_service.proto", "model_config.proto"),
    "jitney_v1": ("jitney/v1/status.proto",),
}


def compile_files(files: Iterable[str]) -> FileDescriptorSet:
    """Return the descriptors of ``files`` and of what they import, imports first.

    ``json_name`` is left out where it is only what protobuf would derive, as in the descriptors
    that protoc embeds into Python code: so ours equal other clients' byte for byte.

    :raises SystemExit: when a file does not compile; protoc has printed why.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "set.binpb"
        arguments = [f"-I{PROTOS}", f"--descriptor_set_out={output}", "--include_imports", *files]
        if code := protoc.main(["protoc", *arguments]):
            sys.exit(code)
        descriptors = FileDescriptorSet.FromString(output.read_bytes())
    for file in descriptors.file:
        _drop_json_names(file.message_type)
    return descriptors


def _drop_json_names(messages: Iterable[DescriptorProto]) -> None:
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        _drop_json_names(message.nested_type)


def results() -> dict[Path, bytes]:
    """Return the contents of every generated file by its path."""
    contents = {}
    for module, files in MODULES.items():
        descriptors = compile_files(files)
        contents[TARGET / f"{module}.binpb"] = descriptors.SerializeToString(deterministic=True)
        contents[TARGET / f"{module}.pyi"] = render(descriptors.file).encode()
    return contents


def main() -> int:
    """Write the files, or compare them; return the exit code."""
    parser = argparse.ArgumentParser(description="Compile protos/ for jitney_client.protocol.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    changed = [
        (path, content)
        for path, content in results().items()
        if not path.exists() or path.read_bytes() != content
    ]
    for path, content in changed:
        if check:
            print(f"{path.relative_to(PROTOS.parent)} is out of date: run `make protos`")
        else:
            path.write_bytes(content)
            print(f"wrote {path.relative_to(PROTOS.parent)}")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
