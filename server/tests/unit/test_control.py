"""What is served, and what becomes of what was served, when folders change and callers ask."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from fake_loader import TENSORS, Bench, identity, model_bytes, write_model

from jitney.errors import (
    BadOverride,
    ConfigError,
    ControlDisabled,
    Draining,
    InvalidRequest,
    LoadRefused,
    ModelNotFound,
    UnknownToLoad,
)
from jitney.repository.handle import VersionState
from jitney.types import ModelRef

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

NOT_ALLOWED = "explicit model load / unload is not allowed if polling is enabled"


def run(scenario: Coroutine[object, object, None]) -> None:
    """Run a scenario on a loop of its own."""
    asyncio.run(asyncio.wait_for(scenario, 20))


async def turns() -> None:
    """Let everything that is due on the loop run."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a bench in the explicit mode: models ``a`` and ``b``, each in versions 1 and 2."""
    write_model(tmp_path, "a", 1, 2)
    write_model(tmp_path, "b", 1, 2)
    bench = Bench(tmp_path)
    bench.control.find()
    return bench


# -- modes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_only_the_explicit_mode_lets_callers_decide(tmp_path: Path, mode: str) -> None:
    """In the other modes both are refused, whatever the name."""

    async def scenario() -> None:
        write_model(tmp_path, "a", 1)
        control = Bench(tmp_path, mode).control
        for call in (control.load("a"), control.unload("a"), control.load("nobody")):
            with pytest.raises(ControlDisabled) as caught:
                await call
            expected = f"{NOT_ALLOWED} (the server's --model-control-mode is {mode}, not explicit)"
            assert expected == str(caught.value)

    run(scenario())


def test_what_was_never_loaded_has_only_its_name(bench: Bench) -> None:
    """It is known, not asked for, and not missing."""
    assert {"a": "UNKNOWN", "b": "UNKNOWN"} == bench.states()
    assert bench.repository.all_ready()
    with pytest.raises(ModelNotFound, match="'a' is not found"):
        bench.repository.resolve("a", "")


@pytest.mark.parametrize(("only", "loaded"), [(["a"], "a"), (["*"], "ab"), (None, "ab"), ([], "")])
def test_the_start_loads_what_is_named(bench: Bench, only: list[str] | None, loaded: str) -> None:
    """A star, or no list, is all that there are."""

    async def scenario() -> None:
        await bench.control.load_all(only)
        assert [ModelRef(name, 2) for name in loaded] == bench.loader.loaded

    run(scenario())


def test_the_start_refuses_names_that_are_not_there(bench: Bench) -> None:
    """It says which there are."""
    with pytest.raises(ConfigError, match="no model 'c'; found are a, b"):
        run(bench.control.load_all(["c"]))


# -- load ---------------------------------------------------------------------------------------


def test_a_load_serves_the_versions_of_the_policy(bench: Bench) -> None:
    """The latest one, unless the model says otherwise."""

    async def scenario() -> None:
        await bench.control.load("a")
        assert {"a/2": "READY"} == bench.states("a")
        assert ModelRef("a", 2) == bench.repository.resolve("a", "").ref
        write_model(bench.root, "a", toml=TENSORS + '[versions]\npolicy = "all"\n')
        await bench.control.load("a")
        assert {"a/1": "READY", "a/2": "READY"} == bench.states("a")

    run(scenario())


def test_a_load_of_what_did_not_change_does_nothing(bench: Bench) -> None:
    """The file is read and compared; neither devices nor callers notice."""

    async def scenario() -> None:
        await bench.control.load("a")
        await bench.control.load("a")
        assert [ModelRef("a", 2)] == bench.loader.loaded
        assert 1 == bench.metrics.loads.value(("a", "2", "unchanged"))

    run(scenario())


def test_a_changed_file_takes_the_place_of_the_one_before(bench: Bench) -> None:
    """The new one is loaded beside the old one, which is unloaded once it is idle."""

    async def scenario() -> None:
        await bench.control.load("a")
        before = bench.repository.resolve("a", "")
        before.entered()
        write_model(bench.root, "a", 2, salt="changed")
        bench.loader.gates["a"] = gate = asyncio.Event()
        bench.loader.begun.clear()
        loading = asyncio.create_task(bench.control.load("a"))
        await bench.loader.begun.wait()
        assert before is bench.repository.resolve("a", "")
        assert {"a/2": "READY"} == bench.states("a")

        gate.set()
        await loading
        after = bench.repository.resolve("a", "")
        assert (2, 1) == (after.ref.version, after.ref.load - before.ref.load)
        assert [] == bench.loader.unloaded
        assert before is bench.repository.version(before.ref)
        assert VersionState.UNLOADING is before.state

        before.left()
        await turns()
        assert [before.ref] == bench.loader.unloaded
        assert bench.repository.version(before.ref) is None
        assert after is bench.repository.resolve("a", "2")
        assert {"a/2": "READY"} == bench.states("a")

    run(scenario())


def test_a_changed_configuration_is_a_change(tmp_path: Path) -> None:
    """Also where the file is the same, and where there is none."""

    async def scenario() -> None:
        write_model(tmp_path, "i", toml=identity())
        bench = Bench(tmp_path)
        await bench.control.load("i")
        first = bench.repository.resolve("i", "")
        write_model(tmp_path, "i", toml=identity(delay=5))
        await bench.control.load("i")
        await turns()
        assert [first.ref] == bench.loader.unloaded
        assert first is not bench.repository.resolve("i", "")

    run(scenario())


def test_a_load_that_fails_leaves_the_one_before(bench: Bench) -> None:
    """Nothing is missing, and the caller is told why."""

    async def scenario() -> None:
        await bench.control.load("a")
        before = bench.repository.resolve("a", "")
        write_model(bench.root, "a", 2, salt="changed")
        bench.loader.refusals["a"] = "it is broken"
        with pytest.raises(LoadRefused) as caught:
            await bench.control.load("a")
        assert "failed to load 'a', version 2 is at UNAVAILABLE state: it is broken" == str(
            caught.value
        )
        assert before is bench.repository.resolve("a", "")
        assert bench.repository.all_ready()
        (bench.root / "a" / "2" / "model.pt").write_bytes(b"no archive")
        with pytest.raises(LoadRefused, match="version 2 is at UNAVAILABLE state"):
            await bench.control.load("a")
        assert before is bench.repository.resolve("a", "")
        assert 2 == bench.metrics.loads.value(("a", "2", "failed"))

    run(scenario())


def test_a_new_version_takes_over_only_when_it_is_ready(bench: Bench) -> None:
    """With the policy latest, the one before goes when the next one came, and not otherwise."""

    async def scenario() -> None:
        await bench.control.load("a")
        write_model(bench.root, "a", 3)
        bench.loader.refusals["a"] = "it is broken"
        with pytest.raises(LoadRefused):
            await bench.control.load("a")
        assert 2 == bench.repository.resolve("a", "").ref.version
        del bench.loader.refusals["a"]
        await bench.control.load("a")
        await turns()
        assert 3 == bench.repository.resolve("a", "").ref.version
        assert {"a/2": "UNAVAILABLE unloaded", "a/3": "READY"} == bench.states("a")
        assert ModelRef("a", 2) in bench.loader.unloaded

    run(scenario())


def test_a_first_load_that_fails_is_seen(bench: Bench) -> None:
    """The index has the reason, until a later load mends it."""

    async def scenario() -> None:
        bench.loader.refusals["a"] = "it is broken"
        with pytest.raises(LoadRefused):
            await bench.control.load("a")
        assert {"a/2": "UNAVAILABLE it is broken"} == bench.states("a")
        assert not bench.repository.all_ready()
        del bench.loader.refusals["a"]
        await bench.control.load("a")
        assert {"a/2": "READY"} == bench.states("a")

    run(scenario())


def test_unknown_names_and_broken_folders_fail(bench: Bench) -> None:
    """The texts begin as the protocol has them."""

    async def scenario() -> None:
        with pytest.raises(UnknownToLoad) as caught:
            await bench.control.load("nobody")
        assert "failed to load 'nobody', failed to poll from model repository" == str(caught.value)
        assert bench.repository.model("nobody") is None
        (bench.root / "a" / "model.toml").write_text("nonsense = 1")
        with pytest.raises(LoadRefused, match=r"failed to poll from model repository.*nonsense"):
            await bench.control.load("a")

    run(scenario())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "Model name cannot be empty"),
        (" \t", "Model name cannot be empty"),
        ("..", "path traversal"),
        ("../a", "path traversal"),
        ("a/b", "path traversal"),
        ("a\\b", "path traversal"),
    ],
)
def test_names_that_make_no_sense(bench: Bench, name: str, text: str) -> None:
    """A name is looked for nowhere before it is known to be one."""
    with pytest.raises(InvalidRequest, match=text):
        run(bench.control.load(name))


def test_loads_of_one_model_wait_for_each_other_and_others_do_not(bench: Bench) -> None:
    """A slow load holds up the next one of its name alone."""

    async def scenario() -> None:
        bench.loader.gates["a"] = gate = asyncio.Event()
        slow = [asyncio.create_task(bench.control.load("a")) for _ in range(2)]
        await bench.loader.begun.wait()
        await bench.control.load("b")
        assert [ModelRef("b", 2)] == bench.loader.loaded
        assert 1 == sum(spec.ref.name == "a" for spec in bench.loader.specs)
        gate.set()
        await asyncio.gather(*slow)
        assert [ModelRef("b", 2), ModelRef("a", 2)] == bench.loader.loaded

    run(scenario())


def test_a_caller_who_goes_away_leaves_nothing_half_done(bench: Bench) -> None:
    """The load comes to its end, and what it replaces is unloaded."""

    async def scenario() -> None:
        await bench.control.load("a")
        before = bench.repository.resolve("a", "")
        write_model(bench.root, "a", 2, salt="changed")
        bench.loader.gates["a"] = gate = asyncio.Event()
        bench.loader.begun.clear()
        loading = asyncio.create_task(bench.control.load("a"))
        await bench.loader.begun.wait()
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        gate.set()
        await turns()
        assert [before.ref] == bench.loader.unloaded
        assert {"a/2": "READY"} == bench.states("a")
        await bench.control.stop()

    run(scenario())


# -- unload -------------------------------------------------------------------------------------


def test_a_server_that_stops_ends_its_loads_and_begins_no_more(bench: Bench) -> None:
    """Their callers are told why, at once, and not that they cancelled something."""

    async def scenario() -> None:
        bench.loader.gates["a"] = asyncio.Event()
        loads = [asyncio.create_task(bench.control.load("a")) for _ in range(2)]
        await bench.loader.begun.wait()
        await bench.control.stop()
        outcomes = await asyncio.gather(*loads, return_exceptions=True)
        with pytest.raises(Draining) as caught:
            await bench.control.load("b")
        assert {"the server is shutting down"} == {str(e) for e in (*outcomes, caught.value)}
        assert [Draining, Draining] == [type(outcome) for outcome in outcomes]

    run(scenario())


def test_an_unload_waits_for_nobody_and_loses_nothing(bench: Bench) -> None:
    """New requests are refused at once, those in flight end, then it is dropped."""

    async def scenario() -> None:
        changes = 0

        def changed() -> None:
            nonlocal changes
            changes += 1

        bench.control.turnover.on_change = changed
        retired: list[ModelRef] = []
        bench.control.turnover.on_retire = retired.append
        await bench.control.load("a")
        version = bench.repository.resolve("a", "")
        version.entered()
        changes = 0
        await bench.control.unload("a")
        assert [version.ref] == retired
        assert {"a/2": "UNLOADING unloading"} == bench.states("a")
        assert changes > 0
        with pytest.raises(ModelNotFound) as caught:
            bench.repository.resolve("a", "")
        assert "Request for unknown model: 'a' has no available versions" == str(caught.value)
        with pytest.raises(ModelNotFound, match="version 2 is not at ready state: unloaded"):
            bench.repository.resolve("a", "2")
        assert [] == bench.loader.unloaded
        version.left()
        await turns()
        assert [version.ref] == bench.loader.unloaded
        assert {"a/2": "UNAVAILABLE unloaded"} == bench.states("a")
        assert bench.repository.all_ready()

    run(scenario())


def test_unloading_what_is_not_there_is_no_error(bench: Bench) -> None:
    """Unknown names, what was never loaded, and what was unloaded before."""

    async def scenario() -> None:
        await bench.control.load("a")
        for name in ("nobody", "b", "a", "a", "", "../x"):
            await bench.control.unload(name)
        await turns()
        assert {"a/2": "UNAVAILABLE unloaded", "b": "UNKNOWN"} == bench.states()
        assert ["a", "b"] == bench.repository.names()

    run(scenario())


def test_what_was_unloaded_can_be_loaded_again(bench: Bench) -> None:
    """Also while its last requests are in flight; they end in the load that they began in."""

    async def scenario() -> None:
        await bench.control.load("a")
        first = bench.repository.resolve("a", "")
        first.entered()
        await bench.control.unload("a")
        await bench.control.load("a")
        second = bench.repository.resolve("a", "")
        assert second is not first
        await turns()
        assert [] == bench.loader.unloaded  # it would end what waits in it
        first.left()
        await turns()
        assert [first.ref] == bench.loader.unloaded
        assert second is bench.repository.resolve("a", "")
        assert {"a/2": "READY"} == bench.states("a")

    run(scenario())


def test_an_unload_during_a_load_comes_after_it(bench: Bench) -> None:
    """It answers at once all the same, and a load that is asked for later comes later."""

    async def scenario() -> None:
        bench.loader.gates["a"] = gate = asyncio.Event()
        loading = asyncio.create_task(bench.control.load("a"))
        await bench.loader.begun.wait()
        await bench.control.unload("a")
        gate.set()
        await loading
        await turns()
        assert {"a/2": "UNAVAILABLE unloaded"} == bench.states("a")
        await bench.control.load("a")
        assert {"a/2": "READY"} == bench.states("a")
        await bench.control.stop()

    run(scenario())


def test_an_unload_forgets_what_failed(bench: Bench) -> None:
    """What nobody wants is not missing."""

    async def scenario() -> None:
        (bench.root / "a" / "2" / "model.pt").write_bytes(b"no archive")
        with pytest.raises(LoadRefused):
            await bench.control.load("a")
        assert not bench.repository.all_ready()
        await bench.control.unload("a")
        assert {"a/2": "UNAVAILABLE unloaded"} == bench.states("a")
        assert bench.repository.all_ready()

    run(scenario())


# -- overrides and uploads ----------------------------------------------------------------------


def test_an_override_changes_what_it_says_and_nothing_else(bench: Bench) -> None:
    """The rest stays as the folder has it, and the next load without one forgets it."""

    async def scenario() -> None:
        write_model(bench.root, "a", toml=TENSORS.replace('"FP32"', '"FP32"\nlow = 0\nhigh = 1', 1))
        await bench.control.load("a")
        before = bench.repository.resolve("a", "")
        await bench.control.load("a", {"config": json.dumps({"max_batch_size": "16"})})
        after = bench.repository.resolve("a", "")
        assert 16 == after.limits.max_batch_size
        assert before.signature == after.signature
        await bench.control.load("a")
        assert before.limits == bench.repository.resolve("a", "").limits

    run(scenario())


@pytest.mark.parametrize("text", ["{", "[]", '{"no_such_field": 1}', '{"backend": "python"}'])
def test_a_bad_override_leaves_the_one_before(bench: Bench, text: str) -> None:
    """It is the caller's mistake, in the protocol's words."""

    async def scenario() -> None:
        await bench.control.load("a")
        before = bench.repository.resolve("a", "")
        with pytest.raises(
            BadOverride, match="failed to load 'a', failed to poll from model repository"
        ):
            await bench.control.load("a", {"config": text})
        assert before is bench.repository.resolve("a", "")

    run(scenario())


UPLOAD = {
    "backend": "pytorch",
    "max_batch_size": 4,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [4]}],
}


def test_uploaded_files_are_served_from_memory(tmp_path: Path) -> None:
    """A model that no folder holds; every worker that needs it gets it."""

    async def scenario() -> None:
        bench = Bench(tmp_path, uploads=True)
        parameters: dict[str, str | bytes] = {
            "config": json.dumps(UPLOAD),
            "file:3/model.pt": model_bytes(),
        }
        await bench.control.load("sent", parameters)
        assert {"sent/3": "READY"} == bench.states()
        assert 4 == bench.repository.resolve("sent", "3").limits.max_batch_size
        [spec] = bench.loader.specs
        for _ in range(2):
            with spec.open() as file:
                assert model_bytes() == os.read(file.fd, 1 << 16)
        await bench.control.unload("sent")
        await turns()
        assert {"sent/3": "UNAVAILABLE unloaded"} == bench.states()
        with pytest.raises(UnknownToLoad):
            await bench.control.load("sent")

    run(scenario())
    assert [] == list(tmp_path.iterdir())


def test_uploads_take_the_place_of_the_folder(tmp_path: Path) -> None:
    """Until the next load without files."""

    async def scenario() -> None:
        write_model(tmp_path, "a", 1)
        bench = Bench(tmp_path, uploads=True)
        await bench.control.load("a")
        content = {"config": json.dumps(UPLOAD), "file:7/model.pt": model_bytes("sent")}
        await bench.control.load("a", content)
        await turns()
        assert {"a/1": "UNAVAILABLE unloaded", "a/7": "READY"} == bench.states()
        await bench.control.load("a")
        await turns()
        assert {"a/1": "READY", "a/7": "UNAVAILABLE unloaded"} == bench.states()

    run(scenario())


def test_an_upload_without_the_models_file_fails(tmp_path: Path) -> None:
    """It says which one is missing."""

    async def scenario() -> None:
        bench = Bench(tmp_path, uploads=True)
        with pytest.raises(LoadRefused, match=r"model\.pt is not among the files"):
            await bench.control.load("x", {"config": json.dumps(UPLOAD), "file:1/readme": b""})

    run(scenario())


def test_uploads_are_off_unless_the_operator_says_so(bench: Bench) -> None:
    """They are programs."""

    async def scenario() -> None:
        with pytest.raises(ControlDisabled, match=r"failed to load 'a'.*--allow-model-uploads"):
            await bench.control.load("a", {"config": "{}", "file:1/model.pt": b"x"})

    run(scenario())


# -- poll ---------------------------------------------------------------------------------------


def test_polling_follows_the_folders(tmp_path: Path) -> None:
    """What is new is loaded, what changed is loaded anew, what is gone is unloaded."""

    async def scenario() -> None:
        write_model(tmp_path, "a", 1)
        write_model(tmp_path, "b", 1)
        bench = Bench(tmp_path, "poll")
        bench.control.find()
        await bench.control.load_all()
        await bench.control.poll()
        assert [ModelRef("a", 1), ModelRef("b", 1)] == bench.loader.loaded
        first = bench.repository.resolve("a", "")

        write_model(tmp_path, "c", 1)
        write_model(tmp_path, "a", 1, salt="changed")
        shutil.rmtree(tmp_path / "b")
        await bench.control.poll()
        await turns()
        assert {"a/1": "READY", "c/1": "READY"} == bench.states()
        assert first is not bench.repository.resolve("a", "")
        assert {first.ref, ModelRef("b", 1)} == set(bench.loader.unloaded)
        assert ["a", "c"] == bench.repository.names()

        write_model(tmp_path, "b", 1)
        await bench.control.poll()
        assert {"a/1": "READY", "b/1": "READY", "c/1": "READY"} == bench.states()

    run(scenario())


def test_a_poll_that_finds_something_broken_leaves_the_one_before(tmp_path: Path) -> None:
    """A file that is half written fails, and is tried again when it is whole."""

    async def scenario() -> None:
        write_model(tmp_path, "a", 1)
        bench = Bench(tmp_path, "poll")
        bench.control.find()
        await bench.control.load_all()
        before = bench.repository.resolve("a", "")
        whole = model_bytes("changed")
        (tmp_path / "a" / "1" / "model.pt").write_bytes(whole[:100])
        await bench.control.poll()
        (tmp_path / "a" / "model.toml").write_text("half =")
        await bench.control.poll()
        assert before is bench.repository.resolve("a", "")
        assert {"a/1": "READY"} == bench.states()
        write_model(tmp_path, "a", 1, salt="changed")
        await bench.control.poll()
        assert before is not bench.repository.resolve("a", "")

    run(scenario())


def test_a_repository_that_cannot_be_read_unloads_nothing(tmp_path: Path) -> None:
    """A disk may be away for a moment."""

    async def scenario() -> None:
        root = tmp_path / "models"
        write_model(root, "a", 1)
        bench = Bench(root, "poll")
        bench.control.find()
        await bench.control.load_all()
        root.rename(tmp_path / "away")
        await bench.control.poll()
        assert {"a/1": "READY"} == bench.states()

    run(scenario())


def test_the_index_follows_the_folders_in_the_explicit_mode(bench: Bench) -> None:
    """Only names that nothing came of go with their folder."""

    async def scenario() -> None:
        await bench.control.load("a")
        write_model(bench.root, "c", 1)
        for name in "ab":
            shutil.rmtree(bench.root / name)
        await bench.control.refresh()
        assert {"a/2": "READY", "c": "UNKNOWN"} == bench.states()

    run(scenario())
