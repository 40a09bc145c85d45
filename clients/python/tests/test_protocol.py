"""The stubs: equal to those of other clients, and out of their way."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto

import jitney_client
from jitney_client.protocol import inference, jitney_v1
from jitney_client.protocol.message import Message, MessageMap, Messages, ScalarMap, Scalars

FILES = {"grpc_service.proto": "service_pb2", "model_config.proto": "model_config_pb2"}


@pytest.mark.parametrize(("file", "module"), FILES.items())
def test_descriptors_equal_those_of_tritonclient(file: str, module: str) -> None:
    """Both files compile to exactly the descriptors of Triton's own client."""
    pytest.importorskip("tritonclient.grpc")
    theirs = importlib.import_module(f"tritonclient.grpc.{module}").DESCRIPTOR
    ours = inference.POOL.FindFileByName(file)

    expected, actual = FileDescriptorProto(), FileDescriptorProto()
    theirs.CopyToProto(expected)
    ours.CopyToProto(actual)

    assert expected == actual
    assert theirs.serialized_pb == ours.serialized_pb


@pytest.mark.parametrize(
    "order",
    [
        ("jitney_client.client", "tritonclient.grpc"),
        ("tritonclient.grpc", "jitney_client.client"),
    ],
    ids=["ours first", "theirs first"],
)
def test_both_clients_share_a_process(order: tuple[str, str]) -> None:
    """Our client and Triton's can be imported into one process, in either order."""
    pytest.importorskip("tritonclient.grpc")
    program = "; ".join(f"import {module}" for module in order) + "; print('both')"
    assert (0, "both\n", "") == _run(program)


def test_stubs_need_neither_grpc_nor_numpy() -> None:
    """Importing the stubs loads protobuf only, so layers that must not know gRPC may use them."""
    program = (
        "import sys; import jitney_client.protocol.inference, jitney_client.protocol.jitney_v1; "
        "print({'grpc', 'numpy'} & set(sys.modules))"
    )
    assert (0, "set()\n", "") == _run(program)


def _run(program: str) -> tuple[int, str, str]:
    """Run a Python program that can import the client; return its exit code and output."""
    source = str(Path(jitney_client.__file__).parents[1])
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(  # the program is ours
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_public_names_can_be_imported() -> None:
    """Every name that the package lists exists, and another one is an AttributeError."""
    assert [] == [name for name in jitney_client.__all__ if not hasattr(jitney_client, name)]
    assert not hasattr(jitney_client, "Missing")


def test_default_pool_stays_untouched() -> None:
    """Importing the stubs registers nothing in the process-wide descriptor pool."""
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName("jitney/v1/status.proto")
    assert inference.POOL is not descriptor_pool.Default()


def test_messages_of_the_two_clients_exchange_bytes() -> None:
    """What Triton's client writes is read by ours, equally."""
    service_pb2 = pytest.importorskip("tritonclient.grpc.service_pb2")
    theirs = service_pb2.ModelInferRequest(
        model_name="m",
        id="7",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [2, -1]}],
        raw_input_contents=[b"\x00\xff"],
    )
    theirs.parameters["priority"].uint64_param = 3

    ours = inference.ModelInferRequest.FromString(theirs.SerializeToString())

    assert theirs.SerializeToString(deterministic=True) == ours.SerializeToString(
        deterministic=True
    )
    assert [2, -1] == list(ours.inputs[0].shape)


@pytest.mark.parametrize(
    "shape", [b"\x1a\x02\x02\x03", b"\x18\x02\x18\x03"], ids=["packed", "unpacked"]
)
def test_repeated_numbers_are_read_in_both_forms(shape: bytes) -> None:
    """A shape may arrive as one packed field or as one field per number."""
    tensor = inference.ModelInferRequest.InferInputTensor.FromString(b"\x0a\x01x" + shape)
    assert ("x", [2, 3]) == (tensor.name, list(tensor.shape))


def test_methods_know_their_paths_and_streams() -> None:
    """The table of RPCs has Triton's twenty, of which one streams on both sides."""
    assert len(inference.METHODS) == 20
    assert inference.METHODS["ModelInfer"] == (
        "/inference.GRPCInferenceService/ModelInfer",
        inference.ModelInferRequest,
        inference.ModelInferResponse,
        False,
        False,
    )
    streaming = [name for name, method in inference.METHODS.items() if any(method[3:])]
    assert streaming == ["ModelStreamInfer"]
    assert inference.METHODS["ModelStreamInfer"][3:] == (True, True)
    assert jitney_v1.METHODS["GetStatus"].path == "/jitney.v1.Status/GetStatus"


def test_enums_have_names_and_numbers() -> None:
    """Enum values are numbers at the place of their enum, and the enum knows their names."""
    assert inference.TYPE_BF16 == 14
    assert inference.DataType.Name(14) == "TYPE_BF16"
    assert inference.ModelInstanceGroup.KIND_CPU == inference.ModelInstanceGroup.Kind.Value(
        "KIND_CPU"
    )


@pytest.mark.parametrize("module", [inference, jitney_v1], ids=["inference", "jitney_v1"])
def test_stub_file_tells_what_exists(module: object) -> None:
    """Every class and attribute that the type checker is told of exists at run time."""
    name = str(getattr(module, "__name__", "")).rpartition(".")[2]
    text = (resources.files("jitney_client.protocol") / f"{name}.pyi").read_text()
    missing = list(_missing(ast.parse(text).body, module, name))
    assert missing == []


def _missing(body: list[ast.stmt], owner: object, path: str) -> list[str]:
    found: list[str] = []
    for node in body:
        if isinstance(node, ast.ClassDef):
            if not hasattr(owner, node.name):
                found.append(f"{path}.{node.name}")
                continue
            nested = getattr(owner, node.name)
            assert issubclass(nested, Message)
            # An instance: fields are not attributes of the class.
            found += _missing(node.body, nested(), f"{path}.{node.name}")
        if isinstance(node, ast.AnnAssign):
            attribute = ast.unparse(node.target)
            found += [] if hasattr(owner, attribute) else [f"{path}.{attribute}"]
    return found


def test_shared_types_exist_at_run_time() -> None:
    """Fields are instances of the container types that the stubs name."""
    request = inference.ModelInferRequest()
    config = inference.ModelConfig()
    assert isinstance(request.raw_input_contents, Scalars)
    assert isinstance(request.inputs, Messages)
    assert isinstance(request.parameters, MessageMap)
    assert isinstance(config.metric_tags, ScalarMap)
