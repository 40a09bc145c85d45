"""What the static scan finds in the code of a model, however it is written."""

from __future__ import annotations

import io
import tracemalloc
import warnings
import zipfile
from typing import TYPE_CHECKING

import pytest
import torch
from fake_loader import model_bytes
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from jitney.errors import ModelError
from jitney.repository.archive import Kind, read_archive
from jitney.repository.scan_policy import ScanPolicy, scan_policy_of
from jitney.repository.static_scan import (
    DISGUISED,
    MOST_FOUND,
    OLDEST,
    Finding,
    scan_code,
    scan_pickle,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# TorchScript evaluates annotations.
from typing import Dict, List, Optional, Tuple  # noqa: UP035  # what the compiler understands

HEAD = "class Net(Module):\n  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n"


def refused(line: str) -> list[str]:
    """Return what is refused in a method with that line."""
    return [f.what for f in scan_code("code/a.py", f"{HEAD}    {line}\n") if f.refused]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('torch.save(x, "f")', "aten::save"),
        ('torch . save (x, "f")', "aten::save"),
        ('(torch.\n  # a comment\n  save)(x, "f")', "aten::save"),
        ('_0 = torch.from_file("/etc/passwd", False, 4)', "aten::from_file"),
        ('ops.aten.save(x, "f")', "aten::save"),
        ("f = torch.save", "aten::save"),
        ('torch.autograd.save(x, "f")', "aten::save"),
        ('torch.autograd.autograd.save(x, "f")', "aten::save"),
        ('ops.quantized.autograd.save(x, "f")', "aten::save"),
        ('getattr(torch, "save")(x, "f")', "torch.aten"),
        ('getattr(ops.aten, "save")(x, "f")', "ops.aten"),
        ('t = torch\n    t.save(x, "f")', "torch.aten"),
        ('o = ops.aten\n    o.save(x, "f")', "ops.aten"),
        ('(torch).save(x, "f")', "torch.aten"),
        ('1.if False else torch.save(x, "f")', "aten::save"),
        ('_0 = "#"; torch.save(x, "f")', "aten::save"),
        ("_0 = '\"'; torch.save(x, '\"')", "aten::save"),
        ('_0 = """ " """; torch.save(x, "f") # """', "aten::save"),
        ('ops.debugprims.load_tensor("f", [1], [1])', "debugprims::load_tensor"),
        ("ops.c10d.send([x], x, 0, 0)", "c10d::send"),
        ("ops.prim.rpc_sync(x)", "prim::rpc_sync"),
        ("ops.my_library.run(x)", "my_library::run"),
        ("torch._sparse_coo_tensor_unsafe(x, x, [4])", "aten::_sparse_coo_tensor_unsafe"),
        ("_0 = __torch__.torch.classes.c10d.TCPStore(x)", "torch.classes.c10d.TCPStore"),
        ('_0 = 0x1.\n    torch.save(x, "f")', "aten::save"),
        ('_0 = [0x.8p1, .5, 2.j]\n    torch.save(x, "f")', "aten::save"),
        ('_0 = x is nottorch.save(x, "f")', "aten::save"),
        ('_0 = 1 not intorch.save(x, "f")', "aten::save"),
        ('if False:\n      ...\n    torch.save(x, "f")', "aten::save"),
        ("# type: (__torch__.torch.classes.c10d.Work) -> int", "torch.classes.c10d.Work"),
        ("_0 = __torch__\n    _1 = _0.torch.classes.c10d.Work()", "__torch__"),
        ("_0 = __torch__.torch\n    _1 = _0.classes.c10d.Work()", "__torch__.torch"),
        ('_0 = getattr(__torch__.torch.classes, "c10d").Work()', "__torch__.torch.classes"),
        ("torch._reshape_alias(x, [99], [1])", "aten::_reshape_alias"),
        ("(x)._reshape_alias([99], [1])", "aten::_reshape_alias"),
        ("_0 = x.a.b.c.d.e.f.g._reshape_alias_copy([99], [1])", "aten::_reshape_alias_copy"),
        ('getattr(x, "_reshape_alias")([99], [1])', "aten::_reshape_alias"),
        ('getattr(getattr(x, "0"), ("_reshape_alias"))([99], [1])', "aten::_reshape_alias"),
        ('getattr(x, "\\137reshape_alias")([99], [1])', "getattr"),
        ('getattr(x, "_reshape" "_alias")([99], [1])', "getattr"),
        ('_0 = getattr\n    _0(x, "_reshape_alias")([99], [1])', "getattr"),
        ("_0 = ops.\\\n  aten.save(x)", "code/a.py"),
        ("_0 = 'never closed", "code/a.py"),
        ('_0 = "never closed', "code/a.py"),
        ('_0 = """never" closed', "code/a.py"),
        ("tоrch.save(x)", "code/a.py"),  # noqa: RUF001  # a Cyrillic letter
        ("_0 = $(x)\0", "code/a.py"),
    ],
)
def test_what_a_model_must_not_do_is_found(line: str, what: str) -> None:
    """Under any spelling that torch takes; what cannot be read as code is found as well."""
    assert [what] == refused(line)[:1]


@pytest.mark.parametrize(
    "line",
    [
        "_0 = torch.relu(ops.prim.data(x))",
        '_0 = "torch.save(x)"',
        "_0 = 'ops.evil.run'",
        '_0 = """torch.save(1)"""',
        "_0 = x # torch.save(x)",
        "_0 = (self.torch).save(x)",
        "_0 = self.save(x, 1.5e-3)",
        '_0 = getattr(getattr(self.layers, "0"), "1").forward(x, "a\\n" + "b")',
        "_0 = 0x1F + 1.5e-3 + .5 + 2.j",
        "_0 = x[..., None] # type",
        "if not inputs:\n      _0 = x is nothing",
        "with __torch__.torch.classes.profiler._RecordFunction() as _0:\n      pass",
        "save = torch.add(x, x)",
        "_0 = torch.__is__(x, None)",
        "_0 = ops.quantized.linear(x, self._packed_params)",
        "_0 = annotate(List[__torch__.torch.nn.modules.linear.Linear], [])",
        "_0 = annotate(__torch__.torch.classes.quantized.LinearPackedParamsBase, x)",
        "_0 = CONSTANTS.c0",
    ],
)
def test_what_models_do_is_left_alone(line: str) -> None:
    """Texts, comments, attributes and torch's own arithmetic."""
    assert [] == refused(line)


def test_attributes_may_have_any_name() -> None:
    """A class, a method or a parameter may be called as a namespace is."""
    code = "class ops(Module):\n  ops : List[int]\n  def torch(self: __torch__.ops) -> int:\n"
    assert [] == list(scan_code("code/a.py", code))


def test_code_that_runs_at_load_is_found() -> None:
    """An exported ``__setstate__`` runs before anybody has looked at the model."""
    code = "class Net(Module):\n  def __setstate__(self: __torch__.Net,\n    s: int) -> NoneType:\n"
    (finding,) = scan_code("code/a.py", code)
    assert ("__setstate__", True) == (finding.what, finding.refused)


def test_printing_is_said_and_not_refused() -> None:
    """It is a nuisance and no danger."""
    (finding,) = scan_code("code/a.py", HEAD + "    print(x)\n")
    assert ("print", False) == (finding.what, finding.refused)


@pytest.mark.parametrize("text", ['"' + "a" * 2_000_000, "torch" + ".autograd" * 200_000 + ".x"])
def test_long_code_takes_little_memory(text: str) -> None:
    """A hostile file is refused, or not, with a small multiple of its size."""
    source = f'{text}"'
    tracemalloc.start()
    try:
        list(scan_code("code/a.py", source))
        assert tracemalloc.get_traced_memory()[1] < 2 * len(source) + 100_000
    finally:
        tracemalloc.stop()


def test_findings_are_bounded() -> None:
    """However much is found: what is told of it has to fit into a reply."""
    code = HEAD + "".join(f"    ops.n{nth}.x(x)\n" for nth in range(1_000))
    archive = read_archive(with_code(code))
    assert MOST_FOUND == len(archive.findings)
    with pytest.raises(ModelError, match=r"; and 95 more\. If you trust this") as caught:
        ScanPolicy().judge(archive.findings, "d" * 64)
    assert len(str(caught.value)) < 1_000


@given(text=st.text("torchps.ave_()\"'#\\\n 1é", max_size=60))
def test_any_text_can_be_scanned(text: str) -> None:
    """Code that is none is found, and raises nothing."""
    for finding in scan_code("code/a.py", text):
        assert isinstance(finding, Finding)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x80\x02cposix\nsystem\nq\x00.", ["posix.system"]),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00.", []),
        (b"\x80\x02cbuiltins\ncomplex\nq\x00.", []),
        (b"\x80\x02cbuiltins\neval\nq\x00.", ["builtins.eval"]),
        (b"\x80\x02c__torch__.zoo\nNet\nq\x00)\x81}(ub.", []),
        (
            b"\x80\x02c__torch__.torch.classes.c10d\nTCPStore\nq\x00.",
            ["torch.classes.c10d.TCPStore"],
        ),
        (b"\x80\x02c__torch__.torch.classes.quantized\nLinearPackedParamsBase\n.", []),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", ["a class by STACK_GLOBAL"]),
        (b"\x80\x02(i__builtin__\neval\n.", ["__builtin__.eval"]),
        (b"no pickle at all", ["data.pkl"]),
    ],
)
def test_classes_of_a_pickle_are_torchs_or_the_files(data: bytes, what: list[str]) -> None:
    """Whatever else it names would be looked up in the process that loads it."""
    assert what == [finding.what for finding in scan_pickle("data.pkl", data)]


def with_code(code: str) -> io.BytesIO:
    """Return a model's file with other code in it."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(model_bytes())) as source,
        zipfile.ZipFile(buffer, "w") as target,
    ):
        for name in source.namelist():
            target.writestr(name, code if name.endswith(".py") else source.read(name))
    return buffer


def test_the_oldest_form_of_a_file_is_refused() -> None:
    """Torch would then take the code from wherever that entry says."""
    buffer = with_code(HEAD)
    with zipfile.ZipFile(buffer, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/Model.json", "{}")
    assert [OLDEST] == [finding.why for finding in read_archive(buffer).findings]


def with_entry(old: str, new: str) -> io.BytesIO:
    """Return a model's file with an entry under another name."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(model_bytes())) as source,
        zipfile.ZipFile(buffer, "w") as target,
    ):
        for name in source.namelist():
            target.writestr(name.replace(old, new), source.read(name))
    return buffer


@pytest.mark.parametrize(
    ("old", "new"), [("zoo.py", "ZOO.PY"), ("code/", "CODE/"), ("data.pkl", "Data.pkl")]
)
def test_entries_that_only_torch_would_find_are_found(old: str, new: str) -> None:
    """It looks names up without regard to case, so code could hide from a reader that does not."""
    archive = read_archive(with_entry(old, new))
    found = [finding.why for finding in archive.findings if finding.refused]
    # Without any code it is no TorchScript file at all, and not loaded either.
    assert archive.kind is Kind.UNKNOWN or [DISGUISED] == found


# -- what becomes of it -------------------------------------------------------------------------

BAD = Finding("aten::save", "code/a.py", "why")
ODD = Finding("print", "code/a.py", "why", refused=False)


def test_the_policy_decides() -> None:
    """Refused unless the operator warns only, looks away, or allowed this very file."""
    with pytest.raises(ModelError, match="refused by the static scan: aten::save") as caught:
        ScanPolicy().judge((BAD, ODD), "d" * 64)
    assert ("STATIC_SCAN", True) == (caught.value.reason, f"allow {'d' * 64}" in str(caught.value))
    assert 2 == len(ScanPolicy("warn").judge((BAD, ODD), "d"))
    assert 2 == len(ScanPolicy(allowed=frozenset({"d"})).judge((BAD, ODD), "d"))
    assert () == ScanPolicy("off").judge((BAD, ODD), "d")
    assert ("print in code/a.py: why",) == ScanPolicy().judge((ODD,), "d")


def test_the_settings_name_policy_and_digests() -> None:
    """Several digests are separated by commas."""
    from jitney.config import RepositorySettings  # noqa: PLC0415

    settings = RepositorySettings(model_scan="warn", model_scan_allow=f"{'a' * 64},{'b' * 64}")
    assert ScanPolicy("warn", frozenset({"a" * 64, "b" * 64})) == scan_policy_of(settings)
    assert ScanPolicy() == scan_policy_of(RepositorySettings())


# -- real files ---------------------------------------------------------------------------------


class Saves(nn.Module):
    """Writes a file with every answer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Save and return."""
        torch.save(x, "stolen")
        return x


class Reads(nn.Module):
    """Answers with a file of the machine."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Read and return."""
        return x + torch.from_file("/etc/passwd", False, 4)  # noqa: FBT003


class Wakes(nn.Module):
    """Runs while it is loaded."""

    @torch.jit.export
    def __getstate__(self) -> Tuple[int, bool]:  # noqa: UP006
        """Return something."""
        return 1, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[int, bool]) -> None:  # noqa: UP006
        """Do something."""
        self.training = state[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Echo."""
        return x


class Inner(nn.Module):
    """Hides it one level down."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pass on."""
        result: torch.Tensor = self.inner(x)
        return result


def scanned(module: nn.Module, example: torch.Tensor | None = None) -> list[Finding]:
    """Return what is refused in a module, scripted, or traced with an example."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = (
            torch.jit.script(module)
            if example is None
            else torch.jit.trace(module, example, check_trace=False)
        )
        torch.jit.save(made, buffer)
    return [finding for finding in read_archive(buffer).findings if finding.refused]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (Saves, "aten::save"),
        (Reads, "aten::from_file"),
        (Wakes, "__setstate__"),
        (lambda: Inner(Saves()), "aten::save"),
        (lambda: nn.Sequential(nn.Linear(4, 4), Inner(Wakes())), "__setstate__"),
    ],
)
def test_hostile_modules_are_refused(make: Callable[[], nn.Module], what: str) -> None:
    """As torch itself writes them (T17)."""
    assert [what] == [finding.what for finding in scanned(make())]


class Various(nn.Module):
    """What scripted models are full of: loops, dicts, optionals, submodules by number."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU()])
        self.ops = nn.Parameter(torch.zeros(8))
        self.norm = nn.ModuleDict({"save": nn.BatchNorm1d(8), "aten": nn.Dropout(0.5)})

    def forward(
        self,
        x: torch.Tensor,
        mask: Optional[torch.Tensor] = None,  # noqa: UP045
    ) -> Dict[str, torch.Tensor]:  # noqa: UP006
        """Compute."""
        kept: List[torch.Tensor] = []  # noqa: UP006
        for layer in self.layers:
            x = layer(x)
            kept.append(x)
        if mask is not None:
            x = x.masked_fill(mask == 0, float("-inf"))
        for part in self.norm.values():
            x = part(x)
        assert x.dim() == 2, "torch.save is not called: ops.evil"
        return {"save": x + self.ops, "rows": torch.stack(kept)}


class Block(nn.Module):
    """A residual block as torchvision's."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute."""
        out = self.relu(self.bn1(self.conv1(x)))
        out += x
        return torch.flatten(self.pool(out), 1)


def convolutions() -> nn.Module:
    """Return layers of the families that torchvision builds its classifiers of."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.Hardswish(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=8, padding=1),
        nn.SiLU(),
        nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False),
        nn.ConvTranspose2d(8, 4, 2, stride=2),
        nn.Dropout2d(0.1),
        nn.GroupNorm(2, 4),
        nn.PReLU(),
        nn.Flatten(),
    )


ORDINARY: list[tuple[str, Callable[[], nn.Module], tuple[int, ...] | None]] = [
    ("block", lambda: Block(4), (1, 4, 8, 8)),
    ("convolutions", convolutions, (1, 3, 16, 16)),
    ("various", Various, None),
    ("linear", lambda: nn.Linear(4, 2), (1, 4)),
    ("encoder", lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (1, 3, 8)),
    ("attention", lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True), None),
    ("lstm", lambda: nn.LSTM(4, 8, 2, batch_first=True, bidirectional=True), (1, 3, 4)),
    ("gru", lambda: nn.GRU(4, 8), (3, 1, 4)),
    ("embedding", lambda: nn.EmbeddingBag(10, 3), None),
    ("unfold", lambda: nn.Sequential(nn.Unfold(2), nn.Softmax(1)), (1, 2, 4, 4)),
]


@pytest.mark.parametrize(("name", "make", "shape"), ORDINARY)
def test_ordinary_modules_are_not_refused(
    name: str, make: Callable[[], nn.Module], shape: tuple[int, ...] | None
) -> None:
    """Scripted, and traced where an example suffices: no false alarm (T17)."""
    assert (name, []) == (name, scanned(make().eval()))
    if shape is not None:
        assert (name, []) == (name, scanned(make().eval(), torch.rand(shape)))
