"""Which version a caller means, and what the index says of each."""

from __future__ import annotations

import pytest
from model_versions import report, repository_of, version_of

from jitney.errors import InvalidRequest, ModelError, ModelLoadFailed, ModelNotFound
from jitney.repository.handle import ModelVersion, VersionState
from jitney.repository.repository import IndexEntry
from jitney.types import ModelRef


def test_no_version_is_the_highest_that_is_ready() -> None:
    """Not the highest there is: an upgrade that loads does not take requests before it can."""
    versions = [version_of(version=n, devices=("cpu",) if n < 10 else ()) for n in (2, 9, 10)]
    repository = repository_of(*versions)
    before = repository.resolve("echo", "").ref

    repository.model_loaded("cpu", ModelRef("echo", 10), report())

    assert (9, 10) == (before.version, repository.resolve("echo", "").ref.version)


def test_a_version_that_is_lost_is_replaced_by_the_next_lower_one() -> None:
    """What was remembered is forgotten with readiness."""
    repository = repository_of(version_of(version=1), version_of(version=2, devices=("other",)))
    assert 2 == repository.resolve("echo", "").ref.version

    repository.device_down("other")

    assert 1 == repository.resolve("echo", "").ref.version


@pytest.mark.parametrize("text", ["2", "02", "0000000000000000002"])
def test_a_version_is_a_decimal_number(text: str) -> None:
    """Leading zeros change nothing."""
    assert ModelRef("echo", 2) == repository_of(version_of(version=2)).resolve("echo", text).ref


@pytest.mark.parametrize("text", ["-1", "+1", "1.0", " 1", "1 ", "x", "٣", "9" * 20, "1\n"])
def test_anything_else_is_refused(text: str) -> None:
    """A version that is no number is the caller's mistake, and shown back."""
    with pytest.raises(InvalidRequest) as caught:
        repository_of(version_of()).resolve("echo", text)

    assert f"failed to get model version from specified version string {text!r}" == str(
        caught.value
    )


def test_an_unknown_name_or_version_has_the_protocols_text() -> None:
    """Public clients compare how these begin."""
    repository = repository_of(version_of(version=1), version_of(version=3))

    with pytest.raises(ModelNotFound) as name:
        repository.resolve("other", "")
    with pytest.raises(ModelNotFound) as version:
        repository.resolve("echo", "99")

    assert (
        "Request for unknown model: 'other' is not found",
        "Request for unknown model: 'echo' version 99 is not found; known versions: 1, 3",
    ) == (str(name.value), str(version.value))


def test_versions_that_could_not_be_read_say_why() -> None:
    """Asked for by number or not, the caller gets the reason."""
    repository = repository_of(version_of(version=1))
    model = repository._models["echo"]
    model.versions.clear()
    model.broken[1] = "it is no archive"

    for text in ("", "1"):
        with pytest.raises(ModelLoadFailed, match="it is no archive"):
            repository.resolve("echo", text)


def test_looking_up_names_that_do_not_exist_remembers_nothing() -> None:
    """Names come from the wire, so only those that were found are kept."""
    repository = repository_of(version_of())
    for i in range(1000):
        with pytest.raises(ModelNotFound):
            repository.resolve(f"name {i}", "")

    assert {} == repository._resolved


def test_a_device_that_is_given_up_takes_the_versions_that_only_it_had() -> None:
    """They are UNAVAILABLE with the reason; a version that another device has is not."""
    only, both = version_of(version=1), version_of(version=2, devices=("cpu", "other"))
    repository = repository_of(only, both)

    assert [only.ref] == repository.device_failed("cpu", "it broke")

    assert (VersionState.UNAVAILABLE, "device cpu failed: it broke") == (only.state, only.reason)
    assert VersionState.READY is both.state
    assert not repository.all_ready()


def test_the_index_has_every_version_and_every_model_without_any() -> None:
    """In order of name and number, with state and reason."""
    repository = repository_of(
        version_of(name="b", version=2), version_of(name="b", version=1, devices=()), version_of()
    )
    repository._models["b"].broken[3] = "truncated"
    repository._models["echo"].versions.clear()
    repository._models["echo"].error = "no version found"

    assert [
        IndexEntry("b", 1, VersionState.LOADING, "loading"),
        IndexEntry("b", 2, VersionState.READY, ""),
        IndexEntry("b", 3, VersionState.UNAVAILABLE, "truncated"),
        IndexEntry("echo", None, VersionState.UNAVAILABLE, "no version found"),
    ] == repository.index()
    assert ["b", "echo"] == repository.names()
    assert "<Repository 2 models, 1 versions ready>" == repr(repository)


def test_events_about_unknown_versions_change_nothing() -> None:
    """A late message of a worker about a version that is gone is no error."""
    repository = repository_of(version_of())

    repository.model_loaded("cpu", ModelRef("gone", 1), report())
    repository.model_refused("cpu", ModelRef("echo", 7), ModelError("x"))

    assert repository.all_ready()


def test_a_load_that_is_being_replaced_is_found_by_its_reference_alone() -> None:
    """Callers see one of them, and events find both."""
    old = version_of(version=1)
    repository = repository_of(old)
    ref = repository.new_ref("echo", 1)
    ref = repository.new_ref("echo", 1) if ref == old.ref else ref
    new = ModelVersion(ref, old.signature, old.limits, "other")

    repository.begin(new, visible=False)
    assert (old, old, new) == (
        repository.resolve("echo", "1"),
        repository.version(old.ref),
        repository.version(ref),
    )
    repository.model_loaded("cpu", ref, report())
    assert old is repository.resolve("echo", "1")

    assert old is repository.show(new)
    old.retire()
    assert (new, new) == (repository.resolve("echo", "1"), repository.resolve("echo", ""))
    assert [new] == list(repository.versions())
    repository.forget(old.ref)
    assert (None, new) == (repository.version(old.ref), repository.visible("echo", 1))


def test_a_reference_is_never_given_twice() -> None:
    """Not even when the model was gone in between."""
    repository = repository_of()
    repository.add("echo")
    first = repository.new_ref("echo", 1)
    repository.discard("echo")
    assert (ModelRef("echo", 1, 0), ModelRef("echo", 1, 1), ModelRef("echo", 2, 0)) == (
        first,
        repository.new_ref("echo", 1),
        repository.new_ref("echo", 2),
    )


def test_a_version_that_is_unloading_stays_so() -> None:
    """A new worker may have to load it again for what waits; callers do not see it come back."""
    version = version_of()
    repository = repository_of(version)
    version.retire()

    repository.device_down("cpu")
    assert VersionState.UNLOADING is version.state
    repository.model_loaded("cpu", version.ref, report())
    assert VersionState.UNLOADING is version.state
    with pytest.raises(ModelNotFound, match=r"'echo' has no available versions$"):
        repository.resolve("echo", "")


def test_what_waits_for_a_version_that_is_unloading_is_lost_with_its_device() -> None:
    """Nobody else will answer it, so whoever asks what was lost is told."""
    version = version_of()
    repository = repository_of(version)
    version.retire()
    assert [version.ref] == repository.device_failed("cpu", "it broke")


def test_an_unloaded_version_says_so() -> None:
    """It is not ready, and not missing."""
    repository = repository_of(version_of())
    repository.forget(ModelRef("echo", 1))
    assert [IndexEntry("echo", 1, VersionState.UNAVAILABLE, "unloaded", wanted=False)] == (
        repository.index()
    )
    assert repository.all_ready()
    with pytest.raises(ModelNotFound, match="'echo' version 1 is not at ready state: unloaded"):
        repository.resolve("echo", "1")
