"""``jitney.pack``: the file holds the contract and the answers, and pack refuses what would not."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import pytest
import torch

import jitney
from jitney.cli.inspect import describe
from jitney.datatypes import DataType
from jitney.errors import ConfigError, JitneyError, ModelError
from jitney.notation import read_tensor, write_tensor
from jitney.repository.archive import Kind, read_archive
from jitney.runtime.tensors import tensor_from
from jitney.samples import Sample, SampleTensor
from jitney.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path


class Halve(torch.nn.Module):
    """One input, one output."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return half of it."""
        return x / 2


class Table(torch.nn.Module):
    """A dict of results, one with a size of its own."""

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Return what depends on L, on nothing, and on neither in a fixed way."""
        kept = ids if mask is None else ids * mask
        return {
            "same": kept.float(),
            "sum": kept.sum(1),
            "pairs": ids.repeat_interleave(2, 1).to(torch.bfloat16),
        }


class Greet(torch.nn.Module):
    """Texts in, texts and their lengths out."""

    def forward(self, names: list[str]) -> tuple[list[str], torch.Tensor]:
        """Return a greeting per name, and its length."""
        greetings = ["Hello " + name for name in names]
        return greetings, torch.tensor([len(greeting) for greeting in greetings])


class Drawing(torch.nn.Module):
    """Gives another answer every time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add noise."""
        return x + torch.rand_like(x)


class Summing(torch.nn.Module):
    """Does not keep its rows apart."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one row for all."""
        return x.sum(0, keepdim=True)


class Picky(torch.nn.Module):
    """Takes only batches of two."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fail unless there are two rows."""
        return x.view(2, 4)


class Writing(torch.nn.Module):
    """Writes its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add one in place."""
        return x.add_(1)


def scripted(module: torch.nn.Module) -> torch.jit.ScriptModule:
    """Return the module in TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: torch.jit.ScriptModule = torch.jit.script(module)
        return program


def tensor_bytes(*values: float) -> bytes:
    """Return the values as FP32."""
    return torch.tensor(values, dtype=torch.float32).numpy().tobytes()


def test_signature_and_samples_are_in_the_file(tmp_path: Path) -> None:
    """The given samples are written with the model's answers to them."""
    file = tmp_path / "model.pt"
    signature = jitney.pack(
        Halve(),
        file,
        inputs=["x:FP32[N,2]"],
        samples=[{"x": torch.tensor([[2.0, 4.0]])}],
        labels=["left", "right"],
        description="Halves.",
    )
    spec = TensorSpec("OUTPUT__0", DataType.FP32, ("N", 2), labels=("left", "right"))
    expected = Signature((TensorSpec("x", DataType.FP32, ("N", 2)),), (spec,), "Halves.")
    sample = Sample(
        [SampleTensor("x", DataType.FP32, (1, 2), tensor_bytes(2, 4))],
        [SampleTensor("OUTPUT__0", DataType.FP32, (1, 2), tensor_bytes(1, 2))],
    )
    archive = read_archive(file)
    assert (expected, expected, (sample,)) == (signature, archive.signature, archive.samples)


def test_samples_are_made_up_of_one_and_three_rows(tmp_path: Path) -> None:
    """Without examples, pack makes two, the same ones for the same seed."""
    for name, seed in (("a.pt", 0), ("b.pt", 0), ("c.pt", 1)):
        jitney.pack(Halve(), tmp_path / name, inputs=["x:FP32[N,2]"], seed=seed)
    first, same, other = (
        read_archive(tmp_path / name).samples for name in ("a.pt", "b.pt", "c.pt")
    )
    shapes = [sample.inputs[0].shape for sample in first]
    assert ([(1, 2), (3, 2)], True, False) == (shapes, first == same, first == other)


def test_made_up_values_stay_within_the_bounds(tmp_path: Path) -> None:
    """Whole numbers and floats are drawn between low and high."""
    for line in ("x:INT64[N,50]:7..9", "x:FP32[N,50]:-1..-0.5", "x:FP64[N,50]:0.."):
        jitney.pack(Halve(), tmp_path / "model.pt", inputs=[line])
        spec = read_tensor(line)
        (tensor,) = read_archive(tmp_path / "model.pt").samples[1].inputs
        values = tensor_from(bytearray(tensor.data), spec.datatype, tensor.shape)
        low = spec.low if spec.low is not None else float("-inf")
        high = spec.high if spec.high is not None else float("inf")
        assert (True, True) == (bool((values >= low).all()), bool((values <= high).all()))


def test_outputs_are_told_from_the_answers(tmp_path: Path) -> None:
    """A size equal to that of a named dimension gets the name, one that follows nothing is -1."""
    signature = jitney.pack(
        Table(), tmp_path / "model.pt", inputs=["ids:INT64[N,L]:0..9", "mask?:INT64[N,L]:1..1"]
    )
    assert [
        "same:FP32[N,L]",
        "sum:INT64[N]",
        "pairs:BF16[N,-1]",
    ] == [write_tensor(spec) for spec in signature.outputs]


def test_an_optional_input_may_be_left_out_of_a_sample(tmp_path: Path) -> None:
    """A sample holds only the inputs that were fed."""
    ids = torch.ones(1, 3, dtype=torch.int64)
    specs = ["ids:INT64[N,L]", "mask?:INT64[N,L]"]
    jitney.pack(Table(), tmp_path / "model.pt", inputs=specs, samples=[{"ids": ids}])
    (sample,) = read_archive(tmp_path / "model.pt").samples
    assert ["ids"] == [tensor.name for tensor in sample.inputs]


def test_texts_go_in_and_out(tmp_path: Path) -> None:
    """BYTES are lists of texts in the model and length-prefixed in the samples."""
    file = tmp_path / "model.pt"
    signature = jitney.pack(Greet(), file, inputs=["names:BYTES[N]"], samples=[[["Zoë", "Al"]]])
    (sample,) = read_archive(file).samples
    expected = ("OUTPUT__0:BYTES[N]", (2,), b"\x0a\0\0\0Hello Zo\xc3\xab\x08\0\0\0Hello Al")
    greeting = sample.outputs[0]
    assert expected == (write_tensor(signature.outputs[0]), greeting.shape, greeting.data)


def test_the_callers_module_stays_as_it_is(tmp_path: Path) -> None:
    """Pack works on a copy: the module keeps its training mode, and it runs in evaluation mode."""
    module = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(2, 2)).train()
    jitney.pack(module, tmp_path / "model.pt", inputs=["input:FP32[N,2]"])
    assert module.training


def test_a_sample_holds_the_input_as_it_was_fed(tmp_path: Path) -> None:
    """A model that writes its input does not change the sample."""
    file = tmp_path / "model.pt"
    jitney.pack(Writing(), file, inputs=["x:FP32[N,1]"], samples=[[torch.tensor([[1.0]])]])
    (sample,) = read_archive(file).samples
    assert (tensor_bytes(1), tensor_bytes(2)) == (sample.inputs[0].data, sample.outputs[0].data)


def test_a_packed_file_can_be_packed_again(tmp_path: Path) -> None:
    """An existing file keeps its contract and what else is attached to it."""
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    program = scripted(Halve())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(program, first, _extra_files={"notes.txt": b"by Ann"})
    jitney.pack(first, first, inputs=["x:FP32[N,2]"], description="Halves.")
    signature = jitney.pack(first, second)
    archive = read_archive(second)
    assert (read_archive(first).signature, {"notes.txt", "jitney.json", "jitney.samples"}) == (
        signature,
        set(archive.extra_files),
    )


def test_an_empty_sequence_writes_no_samples(tmp_path: Path) -> None:
    """``samples=()`` packs the signature alone."""
    jitney.pack(Halve(), tmp_path / "model.pt", inputs=["x:FP32[N,2]"], samples=())
    archive = read_archive(tmp_path / "model.pt")
    assert ((), True) == (archive.samples, archive.signature is not None)


def test_real_files_are_read_without_torch(tmp_path: Path) -> None:
    """Kind, arguments and weights of what torch writes are read statically."""
    jitney.pack(torch.nn.Linear(2, 3), tmp_path / "model.pt", inputs=["input:FP32[N,2]"])
    archive = read_archive(tmp_path / "model.pt")
    assert (Kind.TORCHSCRIPT, ["input"], "Tensor", {"FP32": 36}) == (
        archive.kind,
        [argument.name for argument in archive.arguments],
        archive.returns,
        archive.weights,
    )


def test_a_traced_file_shows_its_example(tmp_path: Path) -> None:
    """What ``torch.jit.trace`` saw is in the skeleton of the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.trace(  # type: ignore[no-untyped-call]
            Halve(), (torch.ones(4, 7, dtype=torch.float64),)
        )
        torch.jit.save(program, tmp_path / "model.pt")
    archive = read_archive(tmp_path / "model.pt")
    assert 'name = "x"\ndatatype = "FP64"\nshape = ["N", 7]\n' in describe(archive)


def refused(tmp_path: Path, model: torch.nn.Module, **options: object) -> str:
    """Pack, expect an error, return its type and text; nothing may be left behind."""
    with pytest.raises(JitneyError) as caught:
        jitney.pack(model, tmp_path / "model.pt", **options)  # type: ignore[arg-type]
    assert [] == list(tmp_path.iterdir())
    return f"{type(caught.value).__name__}: {caught.value}"


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        (Halve(), {}, 'ConfigError: inputs: the model does not tell its shapes; write inputs=["x:'),
        (Halve(), {"inputs": ["x"]}, "ConfigError: 'x': expected a line such as image:FP32"),
        (Halve(), {"inputs": ["x:FP9[N]"]}, "ConfigError: 'x:FP9[N]'.datatype: expected one of"),
        (Table(), {"inputs": ["a:FP32[N]"] * 3}, "occurs more than once"),
        (Summing(), {"inputs": ["x:FP32[N,2]"]}, "has the shape [1, 2] for 3 rows"),
        (
            Picky(),
            {"inputs": ["x:FP32[N,4]"]},
            "ModelError: the model fails on inputs float32[1, 4]",
        ),
        (Drawing(), {"inputs": ["x:FP32[N,4]"]}, "(aten::rand_like in Drawing.forward)"),
        (
            Halve(),
            {"inputs": ["x:FP32[N,2]"], "outputs": ["y:FP64[N,2]"]},
            "ConfigError: y: expected y:FP64[N,2], got FP32[1, 2] where N = 1",
        ),
        (
            Halve(),
            {"inputs": ["x:FP32[N,2]"], "samples": [[torch.ones(1, 3)]]},
            "ConfigError: samples[0].x: expected x:FP32[N,2], got FP32[1, 3] where N = 1",
        ),
        (
            Halve(),
            {"inputs": ["x:FP32[N,2]"], "samples": [{"z": torch.ones(1, 2)}]},
            "ConfigError: samples[0]: no input 'z'; there are x",
        ),
        (
            Halve(),
            {"inputs": ["x:FP32[N,2]"], "samples": [{}]},
            "ConfigError: samples[0]: the input 'x' is missing",
        ),
        (
            Halve(),
            {"inputs": ["x:FP32[N,2]"], "labels": ["one"]},
            "ConfigError: labels: 1 given for OUTPUT__0:FP32[N,2]",
        ),
        (
            Halve(),
            {"inputs": ["x:FP32[N,2]"], "labels": {"score": ["a", "b"]}},
            "ConfigError: labels: no output 'score'; there are OUTPUT__0",
        ),
    ],
)
def test_what_cannot_be_packed_is_refused(
    tmp_path: Path, model: torch.nn.Module, options: dict[str, object], text: str
) -> None:
    """The error says what is wrong and what to write, and no file is left behind."""
    assert text in refused(tmp_path, model, **options)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """Weights alone are told apart from a program before torch is asked."""
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match="the file is unknown; only TorchScript can be packed"):
        jitney.pack(tmp_path / "weights.pt", tmp_path / "model.pt", inputs=["x:FP32[N,2]"])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A path that cannot be read is an error of the taxonomy."""
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        jitney.pack(tmp_path / "none.pt", tmp_path / "model.pt")


def test_a_module_that_cannot_be_scripted_is_explained(tmp_path: Path) -> None:
    """The error says to trace, which is the author's decision."""

    class Star(torch.nn.Module):
        """Takes as many inputs as there are."""

        def forward(self, *xs: torch.Tensor) -> torch.Tensor:
            """Return the first."""
            return xs[0]

    assert "ModelError: Star cannot be scripted (Compiled functions can't" in refused(
        tmp_path, Star()
    )


@pytest.mark.parametrize(
    "line", ["a:FP32[N,1,8,8]", "a?:BOOL[]", "ids:INT64[N,L]:0..30521", "x:FP32[N,-1]:..0.5"]
)
def test_a_line_is_read_as_it_is_written(line: str) -> None:
    """The notation of a tensor survives the way through its spec."""
    assert line == write_tensor(read_tensor(line))


def test_a_line_with_a_bound_that_is_no_number_is_refused() -> None:
    """The error repeats the line and names the bound."""
    with pytest.raises(ConfigError, match=re.escape("'x:FP32[N]:1.2.3..': expected numbers")):
        read_tensor("x:FP32[N]:1.2.3..")


def test_inspect_needs_no_torch(tmp_path: Path) -> None:
    """Reading a packed file imports neither torch nor numpy."""
    file = tmp_path / "model.pt"
    jitney.pack(Halve(), file, inputs=["x:FP32[N,2]"])
    code = (
        "import sys; from pathlib import Path; from jitney.repository.archive import read_archive; "
        "archive = read_archive(Path(sys.argv[1])); "
        "print(len(archive.samples), sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(  # our own words
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    assert "2 []\n" == done.stdout
