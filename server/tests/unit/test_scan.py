"""Scanning repositories: what is found, what is refused, and that nothing outside is touched."""

from __future__ import annotations

import os
import random
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jitney.errors import ConfigError
from jitney.repository.manifest import ModelManifest, VersionPolicy
from jitney.repository.scan import (
    FoundModel,
    FoundVersion,
    safe_model_name,
    scan,
    scan_model,
    select_versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEADS_OUT = "leads out of the model repository, and is not followed"


def add(root: Path, name: str, *versions: str, toml: str | None = None) -> Path:
    """Make a model folder with a model.pt in each version."""
    for version in versions:
        (root / name / version).mkdir(parents=True)
        (root / name / version / "model.pt").write_bytes(b"program")
    if toml is not None:
        (root / name / "model.toml").write_text(toml, encoding="utf-8")
    return root / name


def summary(found: list[FoundModel]) -> dict[str, str | list[int]]:
    """Return each model's versions, or its error."""
    return {
        model.name: model.error or [version.version for version in model.versions]
        for model in found
    }


@pytest.fixture(scope="module")
def opened() -> Iterator[Callable[[], Any]]:
    """Return a context manager that gives the paths opened or listed inside it.

    An audit hook cannot be removed; there is one for the module, and it sleeps between uses.
    """
    record: list[list[str]] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if record and event in {"open", "os.scandir", "os.listdir"}:
            if isinstance(arguments[0], int):
                return  # a descriptor, opened and recorded before
            record[-1].append(os.fsdecode(arguments[0]))

    sys.addaudithook(hook)

    @contextmanager
    def watch() -> Iterator[list[str]]:
        record.append([])
        try:
            yield record[-1]
        finally:
            record.pop()

    yield watch
    record.clear()


def test_models_are_found_with_their_versions_in_order(tmp_path: Path) -> None:
    """Versions are numbers: 10 comes after 9; what is beside them does not matter."""
    root = tmp_path.resolve()
    add(root, "b", "10", "9", "0")
    add(root, "a.b-c_D", "1", toml='description = "x"\n')
    (root / "README.md").write_text("x", encoding="utf-8")
    (root / ".cache").mkdir()
    (root / "b" / "examples").mkdir()

    expected = [
        FoundModel(
            "a.b-c_D",
            ModelManifest(description="x"),
            (FoundVersion(1, root / "a.b-c_D/1/model.pt"),),
            folder=root / "a.b-c_D",
            root=str(root),
        ),
        FoundModel(
            "b",
            ModelManifest(),
            tuple(FoundVersion(n, root / f"b/{n}/model.pt") for n in (0, 9, 10)),
            folder=root / "b",
            root=str(root),
        ),
    ]
    assert expected == scan([tmp_path])


def test_folders_that_only_look_like_versions_are_ignored_aloud(tmp_path: Path) -> None:
    """There is one way to write each version; other spellings are named in a warning."""
    add(tmp_path, "m", "1", "01", "+2", "٣", "1.0", "99999999999999999999")
    (model,) = scan([tmp_path])
    assert [1] == [version.version for version in model.versions]
    assert ["'+2'", "'01'", "'99999999999999999999'", r"'\u0663'"] == [
        warning.split()[0] for warning in model.warnings
    ]


def test_a_model_without_versions_says_what_is_missing(tmp_path: Path) -> None:
    """An empty folder is a model that has nothing to serve."""
    (tmp_path / "m").mkdir()
    (model,) = scan([tmp_path])
    assert ("no version in it: expected a folder such as 1 with model.pt",) == model.warnings


def test_a_broken_version_is_said_and_the_others_are_kept(tmp_path: Path) -> None:
    """A folder without a file, or with something else in its place, is an error of that version."""
    root = tmp_path.resolve()
    model = add(root, "m", "1")
    (model / "2").mkdir()
    (model / "3" / "model.pt").mkdir(parents=True)
    (model / "4").write_bytes(b"not a folder")
    (model / "5").mkdir()
    os.mkfifo(model / "5" / "model.pt")

    (found,) = scan([root])

    assert (
        FoundVersion(1, model / "1/model.pt"),
        FoundVersion(2, None, "model.pt: there is no such file"),
        FoundVersion(3, None, "model.pt: not a regular file"),
        FoundVersion(4, None, "model.pt: cannot be read (Not a directory)"),
        FoundVersion(5, None, "model.pt: not a regular file"),
    ) == found.versions


def test_a_missing_model_file_is_said_with_what_there_is_instead(tmp_path: Path) -> None:
    """Another name, or another format; a link that leads nowhere is not a missing name."""
    root = tmp_path.resolve()
    model = add(root, "m")
    for file in ("1/encoder.pt", "2/model.onnx", "3/notes.txt", "4/.hidden.pt"):
        (model / file).parent.mkdir(parents=True)
        (model / file).write_bytes(b"x")
    (model / "5").mkdir()
    (model / "5" / "model.pt").symlink_to("nowhere.pt")
    missing = "model.pt: there is no such file"
    renamed = (
        "; there is 'encoder.pt': rename it, or name it with runtime.file in model.toml or "
        "default_model_filename in config.pbtxt"
    )

    (found,) = scan([root])

    assert [
        f"{missing}{renamed}",
        f"{missing}; there is 'model.onnx', and only TorchScript files are served",
        missing,
        missing,
        missing,
    ] == [version.error for version in found.versions]


def test_a_broken_manifest_is_that_models_error_only(tmp_path: Path) -> None:
    """The neighbours of a model with a wrong model.toml are found."""
    add(tmp_path, "bad", "1", toml="max_batch_size = -1")
    add(tmp_path, "good", "1")
    expected = {
        "bad": "model.toml: max_batch_size: expected a whole number from 0 to 65536, got -1",
        "good": [1],
    }
    assert expected == summary(scan([tmp_path]))


def test_a_triton_configuration_is_read_where_there_is_no_model_toml(tmp_path: Path) -> None:
    """config.pbtxt names the file and the labels; its warnings are the model's."""
    model = add(tmp_path, "m")
    (model / "1").mkdir(parents=True)
    (model / "1" / "net.pt").write_bytes(b"program")
    (model / "labels.txt").write_text("cat\ndog\n", encoding="utf-8")
    (model / "config.pbtxt").write_text(
        """
        backend: "pytorch" max_batch_size: 8 default_model_filename: "net.pt"
        output { name: "y" data_type: TYPE_FP32 dims: 2 label_filename: "labels.txt" }
        metric_tags { key: "a" value: "b" }
        """,
        encoding="utf-8",
    )

    (found,) = scan([tmp_path])

    assert found.manifest is not None
    assert found.manifest.outputs is not None
    assert ("cat", "dog") == found.manifest.outputs[0].labels
    assert (FoundVersion(1, (model / "1" / "net.pt").resolve()),) == found.versions
    assert ["config.pbtxt: metric_tags is ignored"] == [
        warning.rpartition(":")[0] for warning in found.warnings
    ]


def test_model_toml_beats_a_triton_configuration(tmp_path: Path) -> None:
    """Where both are, the other is not even read, and that is said."""
    model = add(tmp_path, "m", "1", toml="max_batch_size = 3")
    (model / "config.pbtxt").write_text("nonsense", encoding="utf-8")

    (found,) = scan([tmp_path])

    assert ModelManifest(max_batch_size=3) == found.manifest
    assert ("config.pbtxt is ignored: model.toml, which is beside it, says it all",) == (
        found.warnings
    )


def test_a_broken_triton_configuration_is_that_models_error_only(tmp_path: Path) -> None:
    """What it does not support is said with the model."""
    for name, text in (("bad", 'platform: "onnxruntime_onnx"'), ("good", "")):
        (add(tmp_path, name, "1") / "config.pbtxt").write_text(text, encoding="utf-8")
    expected = {
        "bad": (
            "config.pbtxt: platform: 'onnxruntime_onnx' is not supported by jitney: save the model "
            "as TorchScript, and write platform: 'pytorch_libtorch'"
        ),
        "good": [1],
    }
    assert expected == summary(scan([tmp_path]))


def test_labels_come_from_the_models_own_folder_only(tmp_path: Path) -> None:
    """A list of labels that leads elsewhere is an error that shows nothing of it."""
    root = tmp_path / "models"
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    for name, file in (("climbs", "../../secret"), ("links", "labels")):
        toml = f"[[output]]\nname='y'\ndatatype='FP32'\nshape=[1]\nlabels_file='{file}'"
        add(root, name, "1", toml=toml)
    (root / "links" / "labels").symlink_to(tmp_path / "secret")
    where = "model.toml: output[0].labels_file: "
    expected = {
        "climbs": (
            f"{where}expected the plain name of a file in the model's folder, got '../../secret'"
        ),
        "links": f"{where}labels: {LEADS_OUT}",
    }
    assert expected == summary(scan([root]))


def test_a_built_in_model_needs_no_file(tmp_path: Path) -> None:
    """Without a folder for a version it has version 1; with folders, it has those."""
    for name, versions in (("one", ()), ("two", ("2", "5"))):
        folder = tmp_path / name
        folder.mkdir()
        for version in versions:
            (folder / version).mkdir()
        (folder / "model.toml").write_text("[builtin]\nhandler = 'echo'", encoding="utf-8")

    one, two = scan([tmp_path])

    assert (FoundVersion(1, None),) == one.versions
    assert (FoundVersion(2, None), FoundVersion(5, None)) == two.versions
    assert () == one.warnings


def test_a_name_in_two_roots_is_an_error(tmp_path: Path) -> None:
    """Which of the two would be served must not depend on the order of flags."""
    roots = [tmp_path / "x", tmp_path / "y"]
    for root in roots:
        add(root, "both", "1")
    add(roots[1], "one", "1")
    twice = "found in more than one model repository; keep one of them"
    assert {"both": twice, "one": [1]} == summary(scan(roots))
    assert FoundModel("both", error=twice) == scan_model(roots, "both")


def test_a_root_that_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    """A missing folder, a file, and the same folder twice are mistakes in the settings."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path)
    for roots, expected in (
        ([tmp_path / "none"], "No such file or directory"),
        ([tmp_path / "file"], "Not a directory"),
        ([tmp_path, tmp_path / "link"], "is given twice"),
    ):
        with pytest.raises(ConfigError, match=expected):
            scan(roots)


def test_bad_names_are_reported_in_printable_ascii(tmp_path: Path) -> None:
    """A folder with another name is an error, and its name can be sent and logged."""
    for name in ("a b", "naïve", "new\nline", "x" * 129):
        add(tmp_path, name, "1")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))).mkdir()
    found = scan([tmp_path])
    assert [r"\udcff", "a b", r"na\xefve", r"new\nline", "x" * 129] == [m.name for m in found]
    assert all(m.error and m.error.startswith("not a model's name") for m in found)
    assert not any(safe_model_name(m.name) for m in found)


def test_links_inside_the_repository_are_followed(tmp_path: Path) -> None:
    """Kubernetes mounts volumes as links into a hidden folder beside them."""
    root = tmp_path.resolve()
    add(root, "..data/m", "1")
    (root / "m").symlink_to("..data/m")
    (root / "m" / "2").symlink_to("1")
    expected = tuple(FoundVersion(n, root / "..data/m/1/model.pt") for n in (1, 2))
    model = FoundModel("m", ModelManifest(), expected, folder=root / "..data/m", root=str(root))
    assert [model] == scan([root])


def test_links_out_of_the_repository_are_refused_at_every_level(
    tmp_path: Path, opened: Callable[[], Any]
) -> None:
    """A link to elsewhere is an error of what it stands for, and nothing behind it is opened."""
    root, outside = (tmp_path / "models").resolve(), tmp_path / "models-private"
    add(outside, "secret", "1", toml="max_batch_size = 1")
    root.mkdir()
    (root / "model").symlink_to(outside / "secret")
    add(root, "version", "1")
    (root / "version" / "2").symlink_to(outside / "secret" / "1")
    add(root, "file", "1")
    (root / "file" / "2").mkdir()
    (root / "file" / "2" / "model.pt").symlink_to(outside / "secret/1/model.pt")
    add(root, "manifest", "1")
    (root / "manifest" / "model.toml").symlink_to(outside / "secret/model.toml")
    add(root, "loop", "1")
    (root / "loop" / "2").symlink_to("2")

    with opened() as paths:
        found = {model.name: model for model in scan([root])}

    assert [] == [path for path in paths if not (path + "/").startswith(f"{root}/")]
    assert f"model: {LEADS_OUT}" == found["model"].error
    assert f"model.toml: {LEADS_OUT}" == found["manifest"].error
    assert [None, f"2: {LEADS_OUT}"] == [v.error for v in found["version"].versions]
    assert [None, f"model.pt: {LEADS_OUT}"] == [v.error for v in found["file"].versions]
    assert [None, "2: a symbolic link, or a loop of them"] == [
        v.error for v in found["loop"].versions
    ]


HOSTILE = [
    *("", ".", "..", " ..", ".. ", "../outside", "inside/../../outside", "inside/..", "inside/1"),
    *("/etc", "inside/", "inside\n", "inside\t", "inside\0", "\0", "%2e%2e", "..\\outside"),
    *("\u2024\u2024", "\uff0e\uff0e/outside", "x" * 129, ".hidden", "caf\u00e9", "\udcff"),
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_not_safe(name: str) -> None:
    """The known ways out of a folder are refused by the allowlist."""
    assert not safe_model_name(name)


@pytest.mark.parametrize("name", ["a", "A-b_c.d", "0", "x" * 128, "-", "a..b"])
def test_plain_names_are_safe(name: str) -> None:
    """Letters, digits and three signs, up to 128 of them."""
    assert safe_model_name(name)


@pytest.fixture(scope="module")
def fenced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with a model ``inside``, beside a folder ``outside`` that has one as well."""
    base = tmp_path_factory.mktemp("fenced").resolve()
    add(base / "root", "inside", "1", toml="")
    add(base, "outside", "1", toml="")
    (base / "root" / "way-out").symlink_to(base / "outside")
    return base / "root"


PIECES = st.sampled_from(
    ["..", ".", "/", "\\", "inside", "outside", "way-out", "root", "1", "model.toml", "\0", " "]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.one_of(st.sampled_from(HOSTILE), st.lists(PIECES).map("".join), st.text()))
def test_no_name_opens_anything_outside(fenced: Path, opened: Callable[[], Any], name: str) -> None:
    """Whatever a caller calls a model, nothing outside the root is opened or listed."""
    with opened() as paths:
        found = scan_model([fenced], name)

    assert [] == [path for path in paths if os.path.commonpath((path, fenced)) != str(fenced)]
    if name == "inside":
        assert found is not None
        assert found.error is None
    elif name == "way-out":
        assert found == FoundModel("way-out", error=f"way-out: {LEADS_OUT}")
    else:
        assert found is None


WAYS = (
    *("..", ".", "/", "//", "\\", "inside", "outside", "way-out", "root", "1", "model.toml", "\0"),
    *(
        " ",
        "\n",
        "\t",
        "%2e",
        "%2f",
        "\u2024",
        "\uff0e",
        "\uff0f",
        "~",
        "$HOME",
        "C:",
        "a",
        "-",
        "\udcff",
    ),
)


@pytest.mark.slow
def test_a_hundred_thousand_names_open_nothing_outside(
    fenced: Path, opened: Callable[[], Any]
) -> None:
    """R21: no name that is put together of ways out of a folder leads out, or to another model."""
    chance = random.Random(21)  # noqa: S311  # a test, not a secret
    models = set()
    with opened() as paths:
        for _ in range(100_000):
            name = "".join(chance.choices(WAYS, k=chance.randint(1, 5)))
            if (found := scan_model([fenced], name)) is not None:
                models.add((name, found.error))

    assert {("inside", None), ("way-out", f"way-out: {LEADS_OUT}")} == models
    assert set() == {path for path in paths if os.path.commonpath((path, fenced)) != str(fenced)}


def found_with(*versions: FoundVersion) -> FoundModel:
    """Return a model with these versions."""
    return FoundModel("m", ModelManifest(versions=VersionPolicy("latest", 2)), versions)


def test_versions_are_selected_by_the_policy() -> None:
    """The manifest's policy holds unless another is given."""
    one, two, three = (FoundVersion(n, Path(f"{n}")) for n in (1, 2, 3))
    found = found_with(one, two, three)
    assert (two, three) == select_versions(found)
    assert (three,) == select_versions(found, VersionPolicy())
    assert (one, two, three) == select_versions(found, VersionPolicy("all"))
    assert (one, three) == select_versions(found, VersionPolicy("specific", numbers=(1, 3)))


def test_a_broken_latest_version_is_selected_all_the_same() -> None:
    """An older version never takes its place without a word."""
    one, two = FoundVersion(1, Path("1")), FoundVersion(2, None, "broken")
    assert (two,) == select_versions(found_with(one, two), VersionPolicy())


def test_a_listed_version_that_is_missing_is_an_error() -> None:
    """What model.toml promises and the folder lacks is reported as a version."""
    (missing,) = select_versions(found_with(), VersionPolicy("specific", numbers=(7,)))
    expected = "listed under versions in model.toml, but there is no such folder"
    assert FoundVersion(7, None, expected) == missing


@pytest.mark.parametrize("name", ["readiness", "liveness", "_unknown"])
def test_names_that_mean_something_else_are_no_models(name: str) -> None:
    """Health checks and metrics use them for themselves."""
    assert not safe_model_name(name)
