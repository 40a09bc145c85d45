"""What a caller may send with a load, and what is refused before anything is done."""

from __future__ import annotations

import pytest

from jitney.config import RepositorySettings
from jitney.errors import BadOverride, ControlDisabled, InvalidRequest, JitneyError, UnknownToLoad
from jitney.repository.load_request import LoadRequest, check_name, read_load_request

OPEN = RepositorySettings(
    model_control_mode="explicit", allow_model_uploads=True, max_upload_bytes=10
)


def test_nothing_is_a_load_as_the_folder_has_it() -> None:
    """No parameters, no override."""
    assert LoadRequest(None, {}) == read_load_request("m", {}, OPEN)


def test_a_configuration_and_files() -> None:
    """Files are by version and plain name; a name may hold what file names hold."""
    given = {"config": "{}", "file:1/model.pt": b"a", "file:2/model.pt": b"b", "file:1/ü .x": b""}
    files = {1: {"model.pt": b"a", "ü .x": b""}, 2: {"model.pt": b"b"}}
    assert LoadRequest("{}", files) == read_load_request("m", given, OPEN)


@pytest.mark.parametrize(
    "key",
    [
        *("file:", "file:/", "file:1", "file:1/", "file:model.pt", "file:x/model.pt"),
        *("file:-1/m", "file:01/m", "file: 1/m", "file:\u0661/m", "file:99999999999999999999/m"),
        *("file:1/..", "file:1/.", "file:1/a/b", "file:1/../m", "file:../1/m", "file:/1/m"),
        *("file:1/a\\b", "file:1/a\0b", "file:1/a\nb", "file:1/" + "x" * 256),
        "file:1/" + "ü" * 128,
    ],
)
def test_a_file_is_one_number_and_one_plain_name(key: str) -> None:
    """Everything else is the caller's mistake, however long."""
    with pytest.raises(BadOverride) as caught:
        read_load_request("m", {"config": "{}", key: b""}, OPEN)
    assert str(caught.value).startswith(
        "failed to load 'm', failed to poll from model repository: expected 'file:'"
    )


def test_a_name_of_255_bytes_is_as_long_as_it_may_be() -> None:
    """As file systems have it."""
    name = "x" * 255
    given = {"config": "{}", f"file:1/{name}": b""}
    assert {1: {name: b""}} == read_load_request("m", given, OPEN).files


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"foo": 1}, InvalidRequest, "unrecognized load parameter 'foo'."),
        ({"config": 1}, BadOverride, "'config' must be a string"),
        ({"config": "x" * (1 << 21)}, BadOverride, "'config' must be a string of at most"),
        ({"file:1/m": b""}, BadOverride, "files need a 'config' beside them"),
        ({"config": "{}", "file:1/m": "text"}, BadOverride, "'file:1/m' must be bytes"),
        (
            {"config": "{}", "file:1/m": b"x" * 6, "file:2/m": b"x" * 5},
            BadOverride,
            "more than 10 bytes (--max-upload-bytes)",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(
    given: dict[str, bool | int | str | bytes], kind: type[JitneyError], text: str
) -> None:
    """By name, and by limit."""
    with pytest.raises(kind) as caught:
        read_load_request("m", given, OPEN)
    assert text in str(caught.value)


def test_files_are_the_operators_to_allow() -> None:
    """Nothing of them is looked at before that."""
    closed = RepositorySettings(model_control_mode="explicit")
    with pytest.raises(ControlDisabled, match="--allow-model-uploads"):
        read_load_request("m", {"config": "{}", "file:1/../../m": b""}, closed)


@pytest.mark.parametrize("name", ["a b", ".hidden", "x" * 129, "readiness", "é", "a\0b"])
def test_names_that_no_model_can_have_are_unknown(name: str) -> None:
    """No folder is looked for."""
    with pytest.raises(UnknownToLoad, match="failed to load"):
        check_name(name)
