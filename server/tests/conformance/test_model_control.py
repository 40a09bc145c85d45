from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as triton
from calls import add_sub, error_of, tensors
from live_server import LiveServer, wait_until
from public_models import write_public_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INVALID = "StatusCode.INVALID_ARGUMENT"
NOT_FOUND = "StatusCode.NOT_FOUND"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of its own."""
    root = tmp_path_factory.mktemp("controlled")
    write_public_models(root, ("simple", "simple_int8", "simple_identity", "rows"))
    return root


@pytest.fixture(scope="module")
def explicit(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return a server that loads what it is told to."""
    log = tmp_path_factory.mktemp("log") / "log"
    flags = ("--model-control-mode=explicit", "--allow-model-uploads", "true")
    with LiveServer(models, log, *flags) as live:
        yield live


@pytest.fixture
def control(explicit: LiveServer) -> Iterator[triton.InferenceServerClient]:
    """Return a client of it, with nothing loaded."""
    with triton.InferenceServerClient(explicit.address) as client:
        for model in client.get_model_repository_index().models:
            client.unload_model(model.name)
        wait_until(
            lambda: (
                not any(
                    m.state in {"READY", "UNLOADING"}
                    for m in client.get_model_repository_index().models
                )
            ),
            "all are unloaded",
        )
        yield client


def test_nothing_is_loaded_at_first(control: triton.InferenceServerClient) -> None:
    """The server is ready, and the models are not."""
    assert control.is_server_ready()
    assert not control.is_model_ready("simple")
    index = {m.name for m in control.get_model_repository_index().models}
    assert {"simple", "simple_int8", "simple_identity", "rows"} == index


def test_load_and_unload(control: triton.InferenceServerClient) -> None:
    """A loaded model answers; an unloaded one does not, and the server stays ready."""
    control.load_model("simple")
    assert control.is_model_ready("simple")
    assert control.infer("simple", add_sub()).as_numpy("OUTPUT0") is not None
    control.unload_model("simple")
    wait_until(lambda: not control.is_model_ready("simple"), "not ready")
    status, message = error_of(control.infer, "simple", add_sub())
    assert NOT_FOUND == status
    assert message.startswith("Request for unknown model: 'simple'")
    assert control.is_server_ready()


def test_the_index_tells_of_an_unload(control: triton.InferenceServerClient) -> None:
    """An unloaded version is UNAVAILABLE, and says why."""
    control.load_model("simple")
    control.unload_model("simple")

    def line() -> tuple[str, str]:
        (found,) = [m for m in control.get_model_repository_index().models if m.name == "simple"]
        return found.state, found.reason

    wait_until(lambda: line() == ("UNAVAILABLE", "unloaded"), "it is unloaded")


def test_loading_again_is_a_reload(control: triton.InferenceServerClient) -> None:
    """A second load is no error."""
    control.load_model("simple")
    control.load_model("simple")
    assert control.is_model_ready("simple")


def test_built_in_models_load_as_well(control: triton.InferenceServerClient) -> None:
    """A model without a file is controlled like others."""
    control.load_model("simple_identity")
    assert control.is_model_ready("simple_identity")
    control.unload_model("simple_identity")
    wait_until(lambda: not control.is_model_ready("simple_identity"), "not ready")


def test_an_override_of_the_batch_limit(control: triton.InferenceServerClient) -> None:
    """As the example client does: a config with another limit is in force after the load."""
    control.load_model("simple", config=json.dumps({"max_batch_size": "16"}))
    assert 16 == control.get_model_config("simple").config.max_batch_size
    assert (16, 16) == control.infer("simple", add_sub(16)).as_numpy("OUTPUT0").shape


def test_an_override_does_not_last(control: triton.InferenceServerClient) -> None:
    """The next load without one has what the folder says."""
    control.load_model("simple", config=json.dumps({"maxBatchSize": 4}))
    assert 4 == control.get_model_config("simple").config.max_batch_size
    control.load_model("simple")
    assert 8 == control.get_model_config("simple").config.max_batch_size


@pytest.mark.parametrize("text", ["{", "[]", '{"no_such_field": 1}', '{"max_batch_size": "x"}'])
def test_bad_overrides(control: triton.InferenceServerClient, text: str) -> None:
    """A config that is none fails the load, and the old version goes on."""
    control.load_model("simple")
    status, message = error_of(control.load_model, "simple", config=text)
    assert INVALID == status
    assert "failed to load 'simple', failed to poll from model repository" in message
    assert control.is_model_ready("simple")


def test_unknown_models(control: triton.InferenceServerClient) -> None:
    """The name is told."""
    status, message = error_of(control.load_model, "nobody")
    assert NOT_FOUND == status
    assert "failed to load 'nobody', failed to poll from model repository" in message


@pytest.mark.parametrize("name", ["", "   "])
def test_empty_names(control: triton.InferenceServerClient, name: str) -> None:
    """A name is needed."""
    status, message = error_of(control.load_model, name)
    assert (INVALID, True) == (status, "Model name cannot be empty" in message)


@pytest.mark.parametrize("name", ["..", "../simple", "a/b", "/etc"])
def test_names_that_are_paths(control: triton.InferenceServerClient, name: str) -> None:
    """A name is no path."""
    status, message = error_of(control.load_model, name)
    assert INVALID == status
    assert "model name must not contain path traversal characters" in message


def test_unload_of_what_is_not_there(control: triton.InferenceServerClient) -> None:
    """It is no error, nor is doing it twice."""
    control.unload_model("nobody")
    control.unload_model("simple")
    control.unload_model("simple", unload_dependents=True)


def test_uploaded_models(control: triton.InferenceServerClient, models: Path) -> None:
    """A model may come with the request, where the operator allows it."""
    content = (models / "simple" / "1" / "model.pt").read_bytes()
    config = (models / "simple" / "config.pbtxt").read_text()
    assert "INPUT0" in config
    override = {
        "backend": "pytorch",
        "max_batch_size": 8,
        "input": [
            {"name": name, "data_type": "TYPE_INT32", "dims": ["16"]}
            for name in ("INPUT0", "INPUT1")
        ],
        "output": [
            {"name": name, "data_type": "TYPE_INT32", "dims": ["16"]}
            for name in ("OUTPUT0", "OUTPUT1")
        ],
    }
    control.load_model("sent", config=json.dumps(override), files={"file:1/model.pt": content})
    result = control.infer("sent", add_sub())
    np.testing.assert_array_equal(
        np.arange(16, dtype=np.int32)[None] + 1, result.as_numpy("OUTPUT0")
    )
    control.unload_model("sent")


@pytest.mark.parametrize(
    "name",
    [
        "1/../../x",
        "../model.pt",
        "1/" + "x" * 256,
        "model.pt",
        "x/model.pt",
        "1/a/b",
        "/1/model.pt",
    ],
    ids=["up", "dots", "long", "no version", "no number", "deep", "root"],
)
def test_uploads_stay_in_their_folder(control: triton.InferenceServerClient, name: str) -> None:
    """One number and one plain name: nothing else is written anywhere."""
    status, _ = error_of(
        control.load_model, "sent", config='{"backend": "pytorch"}', files={f"file:{name}": b"x"}
    )
    assert INVALID == status
    assert control.is_server_live()


def test_uploads_need_a_config(control: triton.InferenceServerClient) -> None:
    """Without a config the server would not know what was sent."""
    status, _ = error_of(control.load_model, "sent", files={"file:1/model.pt": b"x"})
    assert status in {INVALID, NOT_FOUND}


def test_unknown_load_parameters(explicit: LiveServer) -> None:
    """What is not understood is refused."""
    import grpc  # noqa: PLC0415

    from jitney_client.protocol import inference as pb  # noqa: PLC0415

    request = pb.RepositoryModelLoadRequest(model_name="simple")
    request.parameters["foo"].string_param = "x"
    with pytest.raises(grpc.RpcError) as caught:
        explicit.call("RepositoryModelLoad", request)
    assert (grpc.StatusCode.INVALID_ARGUMENT, "unrecognized load parameter 'foo'.") == (
        caught.value.code(),
        caught.value.details(),
    )


def test_control_is_off_by_default(client: triton.InferenceServerClient) -> None:
    """In the mode none, models are neither loaded nor unloaded on request."""
    for call in (client.load_model, client.unload_model):
        status, message = error_of(call, "simple")
        assert "StatusCode.FAILED_PRECONDITION" == status
        assert "explicit model load / unload is not allowed if polling is enabled" in message


def test_polling(models: Path, tmp_path: Path, start: Callable[..., LiveServer]) -> None:
    """In the mode poll, what changes in the folder is loaded, changed and unloaded."""
    root = tmp_path / "polled"
    shutil.copytree(models / "simple", root / "simple")
    flags = ("--model-control-mode=poll", "--repository-poll-seconds=0.2")
    live = start(root, *flags)
    with triton.InferenceServerClient(live.address) as client:
        shutil.copytree(models / "rows", tmp_path / "rows")
        (tmp_path / "rows").rename(root / "rows")
        wait_until(lambda: client.is_model_ready("rows"), "the new model is served", 30)
        given = tensors(INPUT__0=np.ones((1, 5), np.float32))
        assert [[5.0]] == client.infer("rows", given).as_numpy("OUTPUT__0").tolist()

        config = root / "simple" / "config.pbtxt"
        changed = tmp_path / "config.pbtxt"
        changed.write_text(config.read_text().replace("max_batch_size: 8", "max_batch_size: 2"))
        changed.rename(config)
        wait_until(
            lambda: client.get_model_config("simple").config.max_batch_size == 2,
            "the changed model is served",
            30,
        )
        (root / "rows").rename(tmp_path / "gone")
        wait_until(lambda: not client.is_model_ready("rows"), "the model is gone", 30)
        status, _ = error_of(client.load_model, "simple")
        assert "StatusCode.FAILED_PRECONDITION" == status
