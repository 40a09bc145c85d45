"""RepositoryIndex, RepositoryModelLoad and RepositoryModelUnload, as clients call them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from fake_loader import Bench, write_model

from jitney.errors import InvalidRequest, NotSupported
from jitney.transport.repository_rpcs import RepositoryRpcs
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def rpcs(tmp_path: Path) -> RepositoryRpcs:
    """Return the RPCs over the models ``a``, ``b`` and ``broken``."""
    write_model(tmp_path, "a", 1)
    write_model(tmp_path, "b", 1)
    write_model(tmp_path, "broken", 1, toml="nonsense = 1")
    bench = Bench(tmp_path)
    bench.control.find()
    return RepositoryRpcs(bench.control, bench.repository)


def load(name: str, **parameters: Any) -> pb.RepositoryModelLoadRequest:
    """Return the request of a load; a parameter is a value of its field, by field."""
    request = pb.RepositoryModelLoadRequest(model_name=name)
    for key, (field, value) in parameters.items():
        setattr(request.parameters[key], field, value)
    return request


def unload(name: str, **parameters: Any) -> pb.RepositoryModelUnloadRequest:
    """Return the request of an unload."""
    request = pb.RepositoryModelUnloadRequest(model_name=name)
    for key, (field, value) in parameters.items():
        setattr(request.parameters[key], field, value)
    return request


def test_the_index_tells_what_became_of_every_model(rpcs: RepositoryRpcs) -> None:
    """What was never loaded has its name alone; ``ready`` leaves out all that is not."""

    async def scenario() -> None:
        await rpcs.load(load("a"))
        index = await rpcs.index(pb.RepositoryIndexRequest())
        assert [("a", "1", "READY", ""), ("b", "", "", ""), ("broken", "", "", "")] == [
            (m.name, m.version, m.state, m.reason) for m in index.models
        ]
        ready = await rpcs.index(pb.RepositoryIndexRequest(ready=True))
        assert ["a"] == [m.name for m in ready.models]
        await rpcs.unload(unload("a", unload_dependents=("bool_param", True)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        index = await rpcs.index(pb.RepositoryIndexRequest())
        assert ("UNAVAILABLE", "unloaded") == (index.models[0].state, index.models[0].reason)

    asyncio.run(scenario())


def test_an_override_arrives(rpcs: RepositoryRpcs) -> None:
    """A text is a text, whatever else a parameter may be."""

    async def scenario() -> None:
        request = load("a", config=("string_param", '{"max_batch_size": 3}'))
        assert pb.RepositoryModelLoadResponse() == await rpcs.load(request)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "request_", "text"),
    [
        ("load", load("a", foo=("int64_param", 1)), "unrecognized load parameter 'foo'."),
        ("unload", unload("a", foo=("int64_param", 1)), "unrecognized unload parameter 'foo'."),
        ("unload", unload("a", unload_dependents=("int64_param", 1)), "must be a bool"),
    ],
)
def test_parameters_that_nobody_knows(
    rpcs: RepositoryRpcs, method: str, request_: object, text: str
) -> None:
    """They are refused by name."""
    with pytest.raises(InvalidRequest, match=text):
        asyncio.run(getattr(rpcs, method)(request_))


def test_a_parameter_without_a_value(rpcs: RepositoryRpcs) -> None:
    """It says nothing, so it is refused."""
    request = pb.RepositoryModelLoadRequest(model_name="a")
    request.parameters["config"].SetInParent()
    with pytest.raises(InvalidRequest, match="parameter 'config' has no value"):
        asyncio.run(rpcs.load(request))


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("index", pb.RepositoryIndexRequest(repository_name="r")),
        ("load", pb.RepositoryModelLoadRequest(repository_name="r", model_name="a")),
        ("unload", pb.RepositoryModelUnloadRequest(repository_name="r", model_name="a")),
    ],
)
def test_repositories_have_no_names(rpcs: RepositoryRpcs, method: str, request_: object) -> None:
    """All models are in one namespace."""
    with pytest.raises(NotSupported, match="'repository_name' specification is not supported"):
        asyncio.run(getattr(rpcs, method)(request_))


def test_every_rpc_is_the_protocols(rpcs: RepositoryRpcs) -> None:
    """By its name, as the servicer registers it."""
    assert {"RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"} == set(
        rpcs.handlers()
    )
