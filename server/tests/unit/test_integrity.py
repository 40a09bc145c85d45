"""Manifests: what they list is what is used, or nothing is."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from fake_loader import TENSORS, model_bytes, write_model
from hypothesis import given
from hypothesis import strategies as st
from listed_models import Bench, write_listed

from jitney.config import BatchingSettings
from jitney.errors import ModelError
from jitney.packing.listing import write_manifest
from jitney.repository.archive import read_archive
from jitney.repository.contents import FolderContents, UploadedContents
from jitney.repository.integrity import Integrity
from jitney.repository.listing import Listed, is_listable, read_listing, write_listing
from jitney.repository.manifest_reader import parse_manifest
from jitney.repository.preparing import Preparer, from_path
from jitney.repository.sealed import seal_bytes
from jitney.repository.units import unit_of
from jitney.testing.mutations import mutations
from jitney.types import ModelRef

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


CONFIG = {
    "platform": "pytorch_libtorch",
    "max_batch_size": 4,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [4]}],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository whose files are listed."""
    return write_listed(tmp_path / "models")


# -- manifests ----------------------------------------------------------------------------------


def test_what_is_as_listed_is_served(root: Path) -> None:
    """Side files included; the audit log has the digest."""
    bench = Bench(root, model_integrity="require")
    assert {"a/2": "READY"} == bench.start()
    digest = FolderContents(root / "a" / "2", str(root)).digest("model.pt").sha256
    assert ("model.load", "a", 2, digest) == bench.ear.last("model", "version", "sha256")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda v: (v / "model.pt").write_bytes(model_bytes("x")), "model.pt: not the file that"),
        (lambda v: (v / "extra.bin").write_bytes(b""), "extra.bin: not listed in manifest.json"),
        (lambda v: (v / "notes.txt").unlink(), "notes.txt: listed in manifest.json, and missing"),
        (lambda v: (v / "notes.txt").write_text("by m3"), "notes.txt: not the file that manifest"),
        (lambda v: (v / "manifest.json").write_text("{}"), "manifest.json: it is not JSON as"),
        (
            lambda v: (v.parent / "labels.txt").write_text("dog\ncat\nbird\ncow\n"),
            "labels.txt: not the file",
        ),
        (lambda v: (v.parent / "model.toml").write_text(TENSORS), "model.toml: not the file that"),
        (lambda v: (v.parent / "odd").mkdir() or (v.parent / "odd" / "x").touch(), "odd/x: not"),
    ],
)
def test_what_is_not_as_listed_is_refused(
    root: Path, change: Callable[[Path], object], why: str
) -> None:
    """Changed, missing and further files, in the version's folder or beside it."""
    change(root / "a" / "2")
    bench = Bench(root)
    (state,) = bench.start().values()
    assert state.startswith("UNAVAILABLE ")
    assert why in state
    assert [] == bench.loader.loaded


@pytest.mark.parametrize(
    ("policy", "state"), [("off", "READY"), ("check", "READY"), ("require", "UNAVAILABLE")]
)
def test_manifests_are_demanded_only_by_the_policy_require(
    tmp_path: Path, policy: str, state: str
) -> None:
    """Without one, a model is served unless the operator wants otherwise."""
    write_model(tmp_path, "a", 1)
    assert [state] == [
        s.split()[0] for s in Bench(tmp_path, model_integrity=policy).start().values()
    ]


def test_a_policy_that_is_off_looks_at_no_manifest(root: Path) -> None:
    """Not even at one that is wrong."""
    (root / "a" / "2" / "manifest.json").write_text("{}")
    assert {"a/2": "READY"} == Bench(root, model_integrity="off").start()


def test_the_version_before_is_served_on(root: Path) -> None:
    """A new file that is not the listed one takes nobody's place; mending the manifest lets it."""
    bench = Bench(root)
    bench.start()
    write_model(root, "a", 2, toml=(root / "a" / "model.toml").read_text(), salt="new")
    assert {"a/2": "READY"} == bench.poll()
    assert "model.refused" == bench.ear.last()[0]
    assert 1 == len(bench.loader.loaded)
    write_manifest(unit_of(root / "a" / "2"))
    assert {"a/2": "READY"} == bench.poll()
    assert 2 == len(bench.loader.loaded)
    assert ["model.load", "model.refused", "model.unload", "model.load"] == [
        event for event, _ in bench.ear.heard
    ]


def test_a_refusal_is_recorded_with_the_digest_of_what_was_there(root: Path) -> None:
    """An auditor can tell which bytes somebody wanted to be served."""
    (root / "a" / "2" / "model.pt").write_bytes(model_bytes("x"))
    bench = Bench(root)
    bench.start()
    digest = FolderContents(root / "a" / "2", str(root)).digest("model.pt").sha256
    assert ("model.refused", digest) == bench.ear.last("sha256")


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """Whichever it is: digests find all of them, checksums of archives do not (R13)."""
    write_model(tmp_path, "a", 1)
    version = tmp_path / "a" / "1"
    write_manifest(unit_of(version))
    file, contents = version / "model.pt", FolderContents(version, str(tmp_path))
    good, chance = file.read_bytes(), random.Random(5)  # noqa: S311
    by_digest = by_archive = 0
    for _ in range(1000):
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        with seal_bytes("model.pt", bytes(bad)) as sealed:
            try:
                Integrity("check").vet(contents, "model.pt", sealed)
            except ModelError:
                by_digest += 1
            try:
                with open(f"/proc/self/fd/{sealed.fd}", "rb") as opened:  # noqa: PTH123
                    read_archive(opened)
            except ModelError:
                by_archive += 1
    assert 1000 == by_digest
    assert by_archive < by_digest


def test_broken_archives_are_refused_and_nothing_else_happens() -> None:
    """1,000 wounds to a file without a manifest: a reason each time, or a file that can be read."""
    preparer = Preparer(BatchingSettings(), 1 << 20, ["cpu"], [].append, lambda: 0.0)
    manifest, ref = parse_manifest(TENSORS), ModelRef("a", 1)
    refused = 0
    for data in mutations([model_bytes(), model_bytes("longer" * 50)], 1000):
        try:
            preparer.prepare(ref, lambda data=data: seal_bytes("model.pt", data), manifest)  # type: ignore[misc]
        except ModelError:
            refused += 1
    assert refused > 900


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_file_that_is_swapped_while_it_is_checked(root: Path, when: str) -> None:
    """T19: the bytes that were compared are loaded, or nothing is; the path is not read again."""
    file = root / "a" / "2" / "model.pt"
    good = file.read_bytes()
    loaded: list[bytes] = []

    def source() -> Any:
        if when == "before":
            file.write_bytes(model_bytes("evil"))
        sealed = from_path(file)()
        file.write_bytes(model_bytes("evil"))
        return sealed

    contents = FolderContents(root / "a" / "2", str(root))
    with contextlib.suppress(ModelError), source() as sealed:
        Integrity("check").vet(contents, "model.pt", sealed)
        with open(f"/proc/self/fd/{sealed.fd}", "rb") as opened:  # noqa: PTH123
            loaded.append(opened.read())
    assert ([good] if when == "after" else []) == loaded


def test_a_replaced_worker_gets_the_bytes_that_were_checked(root: Path) -> None:
    """What is loaded again, after a crash, has the digest that was compared, or is refused."""
    bench = Bench(root)
    bench.start()
    (spec,) = bench.loader.specs
    (root / "a" / "2" / "model.pt").write_bytes(model_bytes("evil"))
    write_manifest(unit_of(root / "a" / "2"))  # even where the new manifest fits
    with pytest.raises(ModelError, match="its file changed since it was first loaded"):
        spec.open()


def test_a_file_that_is_gone_while_it_is_compared_is_compared_all_the_same(root: Path) -> None:
    """A manifest that does not list it does not let it pass because it was taken away."""
    (root / "a" / "2" / "manifest.json").write_text(write_listing({}))
    for name in ("model.pt", "notes.txt"):
        (root / "a" / "2" / name).unlink()
    contents = FolderContents(root / "a" / "2", str(root))
    with (
        seal_bytes("model.pt", b"evil") as sealed,
        pytest.raises(ModelError, match=r"model\.pt: not listed in manifest\.json"),
    ):
        Integrity("check").vet(contents, "model.pt", sealed)


def test_uploads_may_bring_their_manifest() -> None:
    """And must, where one is demanded."""
    data = model_bytes()
    listing = write_listing({"model.pt": UploadedContents({"m": data}).digest("m")}).encode()
    with seal_bytes("model.pt", data) as sealed:
        demanded = Integrity("require")
        files = {"model.pt": data, "manifest.json": listing}
        assert "" == demanded.vet(UploadedContents(files), "model.pt", sealed)
        with pytest.raises(ModelError, match=r"no manifest\.json"):
            demanded.vet(UploadedContents({"model.pt": data}), "model.pt", sealed)
        with pytest.raises(ModelError, match=r"more\.bin: not listed"):
            demanded.vet(UploadedContents({**files, "more.bin": b""}), "model.pt", sealed)


def test_links_within_the_repository_are_followed_and_others_are_not(
    root: Path, tmp_path: Path
) -> None:
    """As everywhere: a mounted volume of Kubernetes is all links."""
    notes = root / "a" / "2" / "notes.txt"
    notes.rename(root / "a" / "2" / "..data")
    notes.symlink_to("..data")
    assert {"a/2": "READY"} == Bench(root).start()
    notes.unlink()
    (tmp_path / "outside").write_text("by me")
    notes.symlink_to(tmp_path / "outside")
    assert "leads out of the model repository" in Bench(root).start()["a/2"]


def test_folders_that_lead_into_each_other_end(root: Path) -> None:
    """A loop of links is refused, and not walked for ever."""
    (root / "a" / "2" / "loop").symlink_to(root / "a" / "2")
    assert "lead into each other" in Bench(root).start()["a/2"]


@given(
    files=st.dictionaries(
        st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,2}", fullmatch=True),
        st.tuples(st.from_regex(r"[0-9a-f]{64}", fullmatch=True), st.integers(0, 1 << 50)),
        max_size=5,
    )
)
def test_a_listing_comes_back_as_it_was_written(files: dict[str, tuple[str, int]]) -> None:
    """Paths, digests and sizes."""
    listing = {path: Listed(*said) for path, said in files.items()}
    assert listing == read_listing(write_listing(listing).encode())


@given(path=st.text("ab./\\\n\0 é", max_size=8))
def test_no_listed_path_leads_out(path: str) -> None:
    """What may be listed is a plain path below the folder."""
    if is_listable(path):
        assert ".." not in path.split("/")
        assert not path.startswith("/")
        assert path.isprintable()


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(format="other"),
        lambda v: v["files"].append(v["files"][0]),
        lambda v: v["files"][0].update(path="../model.pt"),
        lambda v: v["files"][0].update(path="/model.pt"),
        lambda v: v["files"][0].update(sha256="0"),
        lambda v: v["files"][0].update(size=-1),
        lambda v: v["files"][0].update(size=True),
        lambda v: v["files"][0].pop("size"),
        lambda v: v.update(files={}) or v.update(files=5),
    ],
)
def test_a_manifest_that_is_none_is_refused(change: Callable[[Any], object]) -> None:
    """Whatever is wrong with it, it says how to write one."""
    value = json.loads(write_listing({"model.pt": Listed("0" * 64, 1)}))
    change(value)
    with pytest.raises(ModelError, match=r"^manifest\.json: .*; write it anew"):
        read_listing(json.dumps(value).encode())


def test_any_bytes_may_be_a_manifest() -> None:
    """10,000 wounds: refused, or read, and nothing else."""
    good = write_listing({"model.pt": Listed("0" * 64, 1), "a/b": Listed("1" * 64, 2)}).encode()
    for data in mutations([good], 10_000):
        with contextlib.suppress(ModelError):
            assert all(map(is_listable, read_listing(data)))


def test_archives_are_listed_whole(root: Path) -> None:
    """The digest is of the file and not of what is in it."""
    with zipfile.ZipFile(root / "a" / "2" / "model.pt", "a") as archive:
        archive.writestr("net/extra/note", "more")
    (state,) = Bench(root).start().values()
    assert "model.pt: not the file that manifest.json lists" in state


# -- what is recorded ---------------------------------------------------------------------------


def test_what_comes_with_a_load_is_recorded(root: Path) -> None:
    """Files and configurations of callers are in no folder, so an auditor gets their digests."""
    bench = Bench(root, "explicit", allow_model_uploads=True, model_integrity="off")
    data, config = model_bytes(), json.dumps(CONFIG)
    parameters: dict[str, str | bytes] = {"config": config, "file:3/model.pt": data}
    asyncio.run(bench.control.load("sent", parameters))
    heard = dict(bench.ear.heard)
    digest = hashlib.sha256(data).hexdigest()
    assert ["model.upload", "config.model", "model.load"] == list(heard)
    assert (digest, digest) == tuple(heard[e]["sha256"] for e in ("model.upload", "model.load"))
    assert config == heard["config.model"]["config"]


def test_a_load_of_what_did_not_change_is_recorded_as_such(root: Path) -> None:
    """Somebody asked for it, and nothing was replaced."""
    bench = Bench(root, "explicit")

    async def scenario() -> None:
        await bench.control.load("a")
        await bench.control.load("a")
        await bench.control.unload("a")

    asyncio.run(scenario())
    assert ["model.load", "model.unchanged", "model.unload"] == [e for e, _ in bench.ear.heard]


def test_devices_that_lose_what_they_had_are_recorded(root: Path) -> None:
    """A worker that is replaced, and a device that is given up."""
    bench = Bench(root)
    bench.repository.device_down("cpu")
    assert ("worker.lost", "cpu") == bench.ear.last("device")
    bench.repository.device_failed("cpu", "too many deaths")
    assert ("device.failed", "cpu", "too many deaths") == bench.ear.last("device", "why")
