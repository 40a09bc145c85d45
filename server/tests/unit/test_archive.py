"""Model files are read without running them, and hostile ones are refused before unpacking."""

from __future__ import annotations

import contextlib
import io
import json
import re
import struct
import sys
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest
from fake_loader import model_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jitney.cli.inspect import describe, run
from jitney.datatypes import DataType
from jitney.errors import ModelError
from jitney.repository.archive import Archive, Kind, read_archive
from jitney.repository.code import Argument
from jitney.repository.container import Container
from jitney.repository.pickles import StoredTensor, read_pickle
from jitney.samples import Sample, SampleTensor, write_samples
from jitney.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

ROOT = b"\x80\x02c__torch__.zoo\nNet\nq\x00)\x81}(ub."
"""The pickle of an object of the class ``__torch__.zoo.Net`` without attributes."""

TENSOR = (
    b"(X\x07\x00\x00\x00storagectorch\nLongStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
    b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)R"
)
"""The arguments of a LongStorage's tensor [2, 3], up to and without the tuple."""

PARAMETER = (
    b"\x80\x02c__torch__.zoo\nNet\n)\x81}(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
    + TENSOR
    + b"tRub."
)

CODE = """class Net(Module):
  __parameters__ = []
  training : bool
  def forward(self: __torch__.zoo.Net,
    image: Tensor,
    mask: Optional[Tensor]=None,
    texts: List[str]=["a, b)"],
    scale: float=1.) -> Tuple[Tensor, Tensor]:
    _0 = torch.add(image, torch.rand([1]))
    return (_0, _0)
class Other(Module):
  def forward(self: __torch__.zoo.Other,
    x: Tensor) -> Tensor:
    return x
"""

SIGNATURE = Signature(
    (TensorSpec("image", DataType.FP32, ("N", 2), low=0, high=1),),
    (TensorSpec("score", DataType.FP32, ("N", 2), labels=("cat", "dog")),),
    "Tells cats from dogs.",
)


def archive_bytes(
    entries: dict[str, bytes | str], *, root: str = "net/", method: int = zipfile.ZIP_STORED
) -> bytes:
    """Return a zip archive of the entries, all in one folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(root + name, content)
    return buffer.getvalue()


def torchscript(code: str = CODE, **extra: bytes | str) -> dict[str, bytes | str]:
    """Return the entries of a TorchScript file; keyword ``a__b`` is the entry ``a/b``."""
    entries: dict[str, bytes | str] = {
        "data.pkl": ROOT,
        "code/__torch__/zoo.py": code,
        "constants.pkl": b"\x80\x02).",
        "version": "3\n",
    }
    return entries | {name.replace("__", "/"): content for name, content in extra.items()}


def read(entries: dict[str, bytes | str]) -> Archive:
    """Read an archive of the entries."""
    return read_archive(io.BytesIO(archive_bytes(entries)))


def packed() -> dict[str, bytes | str]:
    """Return the entries of a file with signature and samples."""
    data = b"12345678"
    tensors = [SampleTensor(name, DataType.FP32, (1, 2), data) for name in ("image", "score")]
    entries = torchscript()
    entries["extra/jitney.json"] = json.dumps(SIGNATURE.to_json())
    entries["extra/jitney.samples"] = write_samples([Sample(tensors[:1], tensors[1:])])
    return entries


@pytest.mark.parametrize(
    ("entries", "kind"),
    [
        (torchscript(), Kind.TORCHSCRIPT),
        ({"models/model.json": "{}", "data/weights/w": b"1"}, Kind.EXPORTED),
        ({"data/aotinductor/model/a.so": b"1", "models/model.json": "{}"}, Kind.AOTINDUCTOR),
        ({"data.pkl": ROOT, "data/0": b"1"}, Kind.UNKNOWN),
    ],
)
def test_the_kind_is_told_by_the_entries(entries: dict[str, bytes | str], kind: Kind) -> None:
    """The three formats are zip archives, told apart by what is in them."""
    assert kind == read(entries).kind


def test_the_arguments_come_from_the_class_of_the_root() -> None:
    """The arguments of ``forward`` are those of the class that ``data.pkl`` begins with."""
    archive = read(torchscript())
    expected = (
        Argument("image", "Tensor", None),
        Argument("mask", "Optional[Tensor]", "None"),
        Argument("texts", "List[str]", '["a, b)"]'),
        Argument("scale", "float", "1."),
    )
    assert (expected, "Tuple[Tensor, Tensor]") == (archive.arguments, archive.returns)


def test_a_packed_file_has_signature_and_samples() -> None:
    """The signature and the samples are read from the extra files."""
    archive = read(packed())
    assert (SIGNATURE, 1, []) == (archive.signature, len(archive.samples), archive.missing())


def test_an_empty_extra_file_is_an_absent_one() -> None:
    """Torch hands out an absent extra file as empty, so an empty one is no signature."""
    assert read(torchscript(extra__jitney="") | {"extra/jitney.json": ""}).signature is None


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "the file's signature is no JSON"),
        ("[" * 100_000, "the file's signature is no JSON"),
        ('{"format": 9}', "signature.format: this server reads format 1, got 9"),
        (b"\xff", "the file's signature is no JSON"),
    ],
)
def test_a_wrong_signature_is_refused(content: bytes | str, text: str) -> None:
    """A file with a broken signature is refused, and not served as one without."""
    with pytest.raises(ModelError, match=re.escape(text)):
        read(torchscript() | {"extra/jitney.json": content})


def test_weights_are_counted_by_datatype() -> None:
    """The bytes of an entry count for the datatype of the tensors that use it."""
    archive = read(torchscript() | {"data.pkl": PARAMETER, "data/0": bytes(48)})
    assert (48, {"INT64": 48}) == (archive.weight_bytes, archive.weights)


def test_a_pickle_is_read_and_not_run() -> None:
    """A call in a pickle is recorded, never made."""
    hostile = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00exit\x85R."
    assert "exit" == read_pickle(hostile).value


def test_a_stored_tensor_has_shape_and_datatype() -> None:
    """Shape, datatype and entry of a tensor are read from its pickle."""
    values = read_pickle(PARAMETER)
    assert {"w": StoredTensor(DataType.INT64, (2, 3), "0", 6)} == values.value


def test_a_deeply_nested_key_does_not_end_the_process() -> None:
    """Keys other than texts are refused unhashed: a tuple's hash recurses without bound."""
    nested = b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s."
    with pytest.raises(ModelError, match="attributes cannot be read"):
        read_pickle(nested)


@given(data=st.binary(max_size=60), cut=st.integers(0, len(PARAMETER)))
def test_a_broken_pickle_raises_only_model_error(data: bytes, cut: int) -> None:
    """Random opcodes raise ModelError or give a value, and nothing else."""
    for pickle in (data, PARAMETER[:cut] + data):
        with contextlib.suppress(ModelError):
            read_pickle(pickle)


def test_the_skeleton_asks_for_what_the_file_does_not_tell() -> None:
    """The skeleton names every argument that can be fed and leaves a "?" for its sizes."""
    expected = """
[[input]]
name = "image"
datatype = "FP32"
shape = ["N", "?"]

[[input]]
name = "mask"
datatype = "FP32"
shape = ["N", "?"]
optional = true

[[input]]
name = "texts"
datatype = "BYTES"
shape = ["N"]
optional = true
# scale: float keeps its default, 1.

[[output]]
name = "OUTPUT__0"
datatype = "FP32"
shape = ["N", "?"]

[[output]]
name = "OUTPUT__1"
datatype = "FP32"
shape = ["N", "?"]
"""
    comment, _, rest = read(torchscript()).skeleton().partition("\n\n")
    assert (True, expected) == (comment.startswith("# model.toml"), "\n" + rest)


def test_the_skeleton_of_a_traced_file_has_its_shapes() -> None:
    """A traced file remembers its example, so its skeleton has shapes and datatypes."""
    code = CODE.replace("image: Tensor,\n    mask: Optional[Tensor]=None,", "ids: Tensor,")
    code = code.replace('    texts: List[str]=["a, b)"],\n', "")
    traced = (
        b"\x80\x02}(X\x07\x00\x00\x00forward](ctorch._utils\n_rebuild_tensor_v2\n("
        + TENSOR
        + b"tReu."
    )
    skeleton = read(torchscript(code) | {"traced_inputs.pkl": traced}).skeleton()
    assert '[[input]]\nname = "ids"\ndatatype = "INT64"\nshape = ["N", 3]\n' in skeleton


def test_the_report_of_a_packed_file() -> None:
    """A packed file's report has its signature, and says what deserves care."""
    report = describe(read(packed())).splitlines()
    care = "draws random numbers: equal requests get different replies"
    assert [
        "description  Tells cats from dogs.",
        "inputs       image  FP32 [N, 2]  0..1",
        "outputs      score  FP32 [N, 2]  2 labels",
        "batches      yes",
        "samples      1 (1 rows)",
        f"care         aten::rand in Net.forward: {care}",
    ] == report[3:]


def test_the_report_escapes_control_characters() -> None:
    """A file cannot send control sequences to the terminal of who inspects it."""
    report = describe(read(torchscript(CODE.replace("scale: float", "scale: \x1bcfloat"))))
    assert (False, True) == ("\x1b" in report, "\\x1bcfloat" in report)


def test_inspect_says_in_one_line_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends with 1 and names the file, not its folder."""
    file = tmp_path / "notes.pt"
    file.write_text("not a model")
    expected = (
        1,
        "jitney: notes.pt: not a model file: expected an archive as torch.jit.save writes it\n",
    )
    assert expected == (run(file), capsys.readouterr().err)


def test_a_missing_file_is_a_model_error(tmp_path: Path) -> None:
    """A path that does not exist is reported without the path."""
    with pytest.raises(ModelError, match=r"^the model file cannot be opened: No such file"):
        read_archive(tmp_path / "none.pt")


def bomb() -> bytes:
    """Return 64 MiB of zeros, deflated to 64 KiB."""
    return archive_bytes(torchscript(data__0=bytes(64 << 20)), method=zipfile.ZIP_DEFLATED)


def many_small_bombs() -> bytes:
    """Return 300 times 1 MiB of zeros: each below the limit of one entry."""
    zeros: dict[str, bytes | str] = {f"data/{nth}": bytes(1 << 20) for nth in range(300)}
    return archive_bytes(torchscript() | zeros, method=zipfile.ZIP_DEFLATED)


def overlapping() -> bytes:
    """Return two entries in the directory that are the same bytes of the file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/data/0", bytes(10_000))
        again = zipfile.ZipInfo("net/data/1")
        first = archive.infolist()[0]
        for field in ("CRC", "compress_size", "file_size", "header_offset"):
            setattr(again, field, getattr(first, field))
        archive.filelist.append(again)
    return buffer.getvalue()


def lying_about_size() -> bytes:
    """Return an entry that declares fewer bytes than it unpacks to."""
    data = archive_bytes(torchscript(), method=zipfile.ZIP_DEFLATED)
    declared = len(CODE).to_bytes(4, "little")
    return data.replace(declared, (5).to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not a model file"),
        (b"\x80\x02.", "not a model file"),
        (archive_bytes(torchscript())[:-30], "cut short"),
        (archive_bytes(torchscript())[:100], "cut short"),
        (archive_bytes(torchscript())[50:], "not a model file"),
        (bomb(), "would unpack to"),
        (many_small_bombs(), "would unpack to"),
        (overlapping(), "entries overlap"),
        (lying_about_size(), "file was cut short or changed"),
        (archive_bytes(torchscript(), method=zipfile.ZIP_LZMA), "does not read"),
        (archive_bytes({"a": "1", "A": "2"}), "occurs twice"),
        (archive_bytes({"../a": "1"}), "a path that no model has"),
        (archive_bytes({"a" * 2000: "1"}), "a path that no model has"),
        (archive_bytes(torchscript("x" * (33 << 20))), "at most 33554432 are read"),
        (archive_bytes(torchscript() | {"data.pkl": b"K\x01."}), "attributes cannot be read"),
    ],
)
def test_hostile_and_broken_files_are_refused(data: bytes, text: str) -> None:
    """What is no model, cut short or built to do harm is refused with the reason."""
    with pytest.raises(ModelError, match=re.escape(text)):
        read_archive(io.BytesIO(data))


@pytest.mark.parametrize(
    ("position", "value"), [(12, b"\xff\xff\xff\x7f"), (16, b"\xff\xff\xff\x7f"), (20, b"\1\0")]
)
def test_a_directory_that_claims_too_much_is_refused(position: int, value: bytes) -> None:
    """Counts and sizes of the end record are checked before the directory is parsed."""
    data = bytearray(archive_bytes(torchscript()))
    end = len(data) - 22
    data[end + position : end + position + len(value)] = value
    with pytest.raises(ModelError):
        read_archive(io.BytesIO(bytes(data)))


def two_directories(*, larger: bool) -> bytes:
    """Return a file whose end leads one reader to one directory, and another to another.

    :param larger: whether the end is of the form for more than 4 GiB.
    """
    one, other = archive_bytes(torchscript()), archive_bytes(torchscript("class Evil(Module):\n"))
    count, size, begin, _ = struct.unpack("<HIIH", one[-12:])
    (first,) = struct.unpack("<I", other[-6:-2])
    second = len(other) - 22 + 56 * larger + begin
    numbers = (count, count, size)
    if not larger:
        return other[:-22] + one[:-22] + struct.pack("<4s4xHHIIH", b"PK\5\6", *numbers, first, 0)
    large = struct.Struct("<4sQHHIIQQQQ")
    ends = [large.pack(b"PK\6\6", 44, 45, 45, 0, 0, *numbers, at) for at in (first, second)]
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(other) - 22, 1)
    end = struct.pack("<4s4xHHIIH", b"PK\5\6", *numbers, second, 0)
    return other[:-22] + ends[0] + one[:-22] + ends[1] + locator + end


@pytest.mark.parametrize("larger", [False, True])
def test_two_directories_are_refused(larger: bool) -> None:  # noqa: FBT001  # pytest's
    """Python and torch would each believe another one, so that torch runs what nobody read."""
    data = two_directories(larger=larger)
    assert zipfile.ZipFile(io.BytesIO(data)).namelist()
    with pytest.raises(ModelError, match="directory is broken"):
        read_archive(io.BytesIO(data))


def test_torch_and_python_agree_on_real_files() -> None:
    """Both forms of the end are read: Python's, and torch's, which is that for large files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/a", "1")
    assert ["a"] == list(Container(buffer).names())
    assert Kind.TORCHSCRIPT is read_archive(io.BytesIO(model_bytes())).kind


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (8, b"\1\0"),  # entries on this disk
        (10, b"\3\0"),  # entries in all
        (12, b"\1"),  # bytes of the directory
        (16, b"\1"),  # where it begins
    ],
)
def test_an_end_that_does_not_fit_its_directory_is_refused(position: int, value: bytes) -> None:
    """Count, size and place have to be those of the only directory that there is."""
    data = bytearray(archive_bytes(torchscript()))
    end = len(data) - 22
    data[end + position : end + position + len(value)] = value
    with pytest.raises(ModelError):
        read_archive(io.BytesIO(bytes(data)))


def test_fewer_entries_than_the_directory_holds_are_refused() -> None:
    """Torch would not see the last ones, and go by what was seen here."""
    data = bytearray(archive_bytes(torchscript()))
    for position in (8, 10):
        data[len(data) - 22 + position] -= 1
    with pytest.raises(ModelError, match="directory is broken"):
        read_archive(io.BytesIO(bytes(data)))


def test_an_entry_with_two_names_is_refused() -> None:
    """Python ends a name at a NUL, and from 3.12 on takes that of an extra field; torch neither."""
    data = archive_bytes(torchscript() | {"code/b.py!extra": "x"})
    with pytest.raises(ModelError, match="a path that no model has"):
        read_archive(io.BytesIO(data.replace(b"b.py!extra", b"b.py\0extra")))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python reads that field from 3.12 on")
def test_an_entry_with_another_name_in_an_extra_field_is_refused() -> None:
    """The field of Info-ZIP for names in Unicode."""
    buffer = io.BytesIO()
    name = b"net/code/b.py"
    info = zipfile.ZipInfo(name.decode())
    other = b"net/extra/b"
    field = struct.pack("<BL", 1, zlib.crc32(name)) + other
    info.extra = struct.pack("<HH", 0x7075, len(field)) + field
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, "x")
    with pytest.raises(ModelError, match="a path that no model has"):
        Container(buffer)


def test_an_encrypted_entry_is_refused() -> None:
    """Torch does not decrypt, so an encrypted entry is there to mislead."""
    data = bytearray(archive_bytes(torchscript()))
    directory = data.index(b"PK\x01\x02")
    data[directory + 8] |= 1
    with pytest.raises(ModelError, match="is encrypted"):
        read_archive(io.BytesIO(bytes(data)))


def test_unpacking_is_bounded_by_the_reader() -> None:
    """An entry larger than what its reader asked for is refused whatever the format allows."""
    container = Container(io.BytesIO(archive_bytes({"a": "12345", "b": ""})))
    with pytest.raises(ModelError, match="a: 5 bytes, at most 4 are read"):
        container.read("a", 4)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(position=st.integers(0, 3000), value=st.integers(0, 255), end=st.integers(0, 3000))
def test_damage_raises_only_model_error(position: int, value: int, end: int) -> None:
    """A changed byte, or a file cut anywhere, reads or raises ModelError, and nothing else."""
    whole = archive_bytes(packed(), method=zipfile.ZIP_DEFLATED)
    changed = bytearray(whole)
    changed[position % len(changed)] = value
    for damaged in (bytes(changed), whole[: end % len(whole)]):
        with contextlib.suppress(ModelError):
            describe(read_archive(io.BytesIO(damaged)))
