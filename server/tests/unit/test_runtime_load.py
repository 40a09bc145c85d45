"""What loading proves, chooses and reports."""

from __future__ import annotations

import json
import os
import random
import warnings
from typing import TYPE_CHECKING

import pytest
import torch
from runtime_models import (
    DIGITS,
    X4,
    Centred,
    Counter,
    Digits,
    Folded,
    InPlace,
    Lookup,
    Noise,
    Pooled,
    PuppetDevice,
    Remembering,
    Roots,
    Same,
    Texts,
    Twice,
    fp32,
    save,
)

from jitney.datatypes import DataType
from jitney.errors import ModelError
from jitney.load_options import LoadOptions
from jitney.load_report import Golden, LoadReport
from jitney.runtime.device import CpuDevice, Device
from jitney.runtime.faults import DeviceFault
from jitney.runtime.load import load_instance
from jitney.runtime.tensors import compare
from jitney.samples import Sample, SampleTensor
from jitney.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from jitney.runtime.instance import Instance


def load(
    module: nn.Module,
    signature: Signature,
    folder: Path,
    *,
    rows: int = 8,
    device: Device | None = None,
    samples: tuple[Sample, ...] = (),
    **options: object,
) -> Instance:
    """Save a module and load it."""
    path = save(module, folder / "model.pt", samples=samples)
    settings = LoadOptions("m", 1, signature, rows, **options)  # type: ignore[arg-type]  # by test
    return load_instance(path, settings, device or CpuDevice(), lambda _: None)


def sample(x: list[float], y: list[float]) -> Sample:
    """Return a golden sample of rows of four."""
    made = []
    for name, values in (("x", x), ("y", y)):
        data = torch.tensor(values).numpy().tobytes()
        made.append([SampleTensor(name, DataType.FP32, (len(values) // 4, 4), data)])
    return Sample(*made)


def test_a_good_model_is_batched_warm_and_without_warnings(tmp_path: Path) -> None:
    """Every bucket has a time, and the report is plain JSON."""
    report = load(Digits(), DIGITS, tmp_path, rows=10).report

    assert (report.batchable, report.max_batch_size, report.warnings) == (True, 10, ())
    assert (report.deterministic, report.mutated_state, report.mutated_inputs) == (True, (), ())
    latency = report.latency
    assert (1, 2, 4, 8, 10) == report.buckets == latency.sizes
    assert (5, 5, 5) == tuple(map(len, (latency.seconds, latency.spread, report.peak_bytes)))
    assert all(seconds > 0 for seconds in latency.seconds)
    assert not latency.padded
    assert report == LoadReport.from_json(json.loads(json.dumps(report.to_json())))


@pytest.mark.parametrize(
    ("optimise", "form", "why"),
    [
        ("off", "plain", "the model's settings ask for the plain form"),
        ("frozen", "frozen", "it answers like the plain form, and the model's settings ask for it"),
        ("optimised", "optimised", "it answers like the plain form, and the model's settings"),
    ],
)
def test_the_settings_choose_the_form(tmp_path: Path, optimise: str, form: str, why: str) -> None:
    """A form that is asked for is taken if it answers like the plain one."""
    report = load(Digits(), DIGITS, tmp_path, optimise=optimise).report

    assert report.form == form
    assert report.why.startswith(why)


def test_the_report_gives_the_measured_ratio(tmp_path: Path) -> None:
    """Whichever form won, the sentence says by how much, and at which sizes."""
    assert "times its speed (rows 1, 4, 8" in load(Digits(), DIGITS, tmp_path).report.why


def test_a_form_that_answers_differently_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next plainer form runs, and a warning says what differed and by how much."""
    path = save(Same(), tmp_path / "same.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = torch.jit.load(path)  # type: ignore[no-untyped-call]
    monkeypatch.setattr(torch.jit, "optimize_for_inference", lambda _: other)

    report = load(Twice(), X4, tmp_path, optimise="optimised").report

    assert report.form == "frozen"
    assert report.warnings[0].startswith("the optimised form is not used: its output 'y' differs")


def test_a_model_that_mixes_rows_is_given_one_request_at_a_time(tmp_path: Path) -> None:
    """With as many rows as that one has, and the report says why."""
    report = load(Centred(), X4, tmp_path).report

    assert (report.batchable, report.max_batch_size) == (False, 8)
    assert report.batchable_why.startswith("output 'y' of a row changes with the other rows")
    assert report.warnings == (f"not batchable, one request at a time: {report.batchable_why}",)


def test_a_model_that_mixes_rows_is_not_padded(tmp_path: Path) -> None:
    """A row more, even one that nobody awaits, would change its answers."""
    report = load(Centred(), X4, tmp_path, device=PuppetDevice()).report

    assert (report.batchable, report.latency.padded) == (False, False)


def test_a_model_for_single_rows_is_given_single_rows(tmp_path: Path) -> None:
    """State of the shape of one row fails with more, which is no reason to refuse the model."""
    report = load(Remembering(), X4, tmp_path).report

    assert (report.batchable, report.max_batch_size) == (False, 1)
    assert report.warnings[-1].startswith("one row at a time: 8 rows at once fail with")


def test_an_operator_may_let_every_request_run_alone(tmp_path: Path) -> None:
    """Nothing is proved then, and nothing warned about."""
    report = load(Twice(), X4, tmp_path, shared=False).report

    assert (report.batchable, report.max_batch_size, report.warnings) == (False, 8, ())
    assert report.batchable_why == "its operator lets every request run alone"


def test_a_model_that_mixes_rows_is_refused_where_batching_is_required(tmp_path: Path) -> None:
    """The text says which proof failed."""
    with pytest.raises(ModelError, match=r"batching is required.*changes with the other") as caught:
        load(Centred(), X4, tmp_path, batching_required=True)

    assert caught.value.reason == "MODEL_NOT_BATCHABLE"


def test_a_model_that_writes_its_state_is_not_batched_and_starts_fresh(tmp_path: Path) -> None:
    """Buffers, numbers and lists are noticed, and the proofs leave no trace."""
    instance = load(Counter(), X4, tmp_path)

    report = instance.report
    assert report.mutated_state == ("number", "runs", "seen")
    assert (report.batchable, report.form) == (False, "plain")
    forward = instance._forward  # the next run is to be the first
    assert forward is not None
    assert compare(forward._program([torch.zeros(1, 4)])[0], torch.ones(1, 4)) == (True, 0.0)


def test_a_model_that_draws_numbers_is_reported(tmp_path: Path) -> None:
    """Nothing can be compared, and the operator that draws is named."""
    report = load(Noise(), X4, tmp_path, samples=(sample([0.0] * 4, [0.0] * 4),)).report

    assert (report.deterministic, report.form, report.golden.samples) == (False, "plain", 0)
    assert "the same input gave two answers; the graph has aten::rand_like" in report.warnings


def test_a_model_that_writes_its_inputs_is_reported(tmp_path: Path) -> None:
    """It stays batchable, because it will be given copies."""
    report = load(InPlace(), X4, tmp_path).report

    assert (report.mutated_inputs, report.batchable) == (("x",), True)


def test_a_model_without_batch_dimension_has_no_limit(tmp_path: Path) -> None:
    """0 rows is how the report says that there are no rows."""
    signature = Signature((fp32("x", 2, 4),), (fp32("y", 2, 4),))

    report = load(Twice(), signature, tmp_path).report

    assert (report.max_batch_size, report.batchable, report.buckets) == (0, False, (1,))


def test_nan_on_finite_inputs_is_a_warning(tmp_path: Path) -> None:
    """Roots of negative numbers are the model's own business, but worth a word."""
    assert load(Roots(), X4, tmp_path).report.warnings == (
        "NaN or infinities on finite inputs, in y",
    )


def test_sizes_that_vary_are_tried_until_one_works(tmp_path: Path) -> None:
    """A model that needs images of 16x16 loads without being told so."""
    signature = Signature((fp32("x", "N", 3, "H", "W"),), (fp32("y", "N", 3),))

    assert load(Pooled(), signature, tmp_path).report.batchable


def test_golden_samples_show_sizes_that_work(tmp_path: Path) -> None:
    """Sizes that no guess has are taken from the first sample."""
    signature = Signature((fp32("x", "N", "L"),), (fp32("y", "N", 4),))

    report = load(Twice(), signature, tmp_path, samples=(sample([1.0] * 4, [2.0] * 4),)).report

    assert (report.golden.samples, report.golden.max_error) == (1, 0.0)


def test_bounds_keep_made_up_ids_inside_a_table(tmp_path: Path) -> None:
    """Whole numbers are drawn between low and high; beyond the table the model is refused."""
    ids = TensorSpec("ids", DataType.INT64, ("N", "L"), low=0, high=4)
    wild = TensorSpec("ids", DataType.INT64, ("N", "L"), low=50, high=60)
    output = (fp32("y", "N", 3),)

    assert load(Lookup(), Signature((ids,), output), tmp_path).report.batchable
    with pytest.raises(
        ModelError, match="index out of range in self; correct the inputs in its sig"
    ):
        load(Lookup(), Signature((wild,), output), tmp_path)


def test_texts_are_batched(tmp_path: Path) -> None:
    """BYTES go in and come out as lists of texts."""
    signature = Signature(
        (TensorSpec("text", DataType.BYTES, ("N",)),),
        (
            TensorSpec("shouted", DataType.BYTES, ("N",)),
            TensorSpec("length", DataType.INT64, ("N",)),
        ),
    )

    assert load(Texts(), signature, tmp_path).report.batchable


def test_golden_samples_are_compared(tmp_path: Path) -> None:
    """The report has their number; a model that is not batchable runs them row by row."""
    samples = (sample([1.0] * 4, [2.0] * 4), sample([3.0] * 12, [6.0] * 12))

    zeros = (sample([1.0] * 8, [0.0] * 8),)

    assert load(Twice(), X4, tmp_path, samples=samples).report.golden == Golden(2, 0.0)
    assert load(Centred(), X4, tmp_path, samples=zeros).report.golden == Golden(1, 0.0)


def test_a_wrong_answer_to_a_golden_sample_is_refused(tmp_path: Path) -> None:
    """The text names the sample, the output and the difference."""
    samples = (sample([1.0] * 4, [2.0] * 4), sample([1.0] * 4, [2.0, 2.0, 2.0, 2.5]))

    with pytest.raises(ModelError, match=r"golden sample 1: output 'y' differs by 0\.5") as caught:
        load(Twice(), X4, tmp_path, samples=samples)

    assert caught.value.reason == "MODEL_GOLDEN"


@pytest.mark.parametrize(
    ("signature", "text"),
    [
        (
            Signature((fp32("x", "N", 4),), (fp32("y", "N", 5),)),
            r"output 'y': expected FP32 \[1, 5\], the model returned float32 \[1, 4\]",
        ),
        (
            Signature((fp32("x", "N", 4),), (TensorSpec("y", DataType.FP64, ("N", 4)),)),
            r"output 'y': expected FP64 \[1, 4\], the model returned float32 \[1, 4\]",
        ),
        (
            Signature((TensorSpec("x", DataType.FP32, ("N", 4), low=2, high=1),), X4.outputs),
            "input 'x': low 2 is above high 1",
        ),
    ],
)
def test_a_model_that_does_not_keep_its_signature_is_refused(
    tmp_path: Path, signature: Signature, text: str
) -> None:
    """The text says which tensor, what was expected and what came."""
    with pytest.raises(ModelError, match=text) as caught:
        load(Twice(), signature, tmp_path)

    assert caught.value.reason == "MODEL_SIGNATURE"


def test_a_model_with_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    """One row already comes back as two."""
    with pytest.raises(ModelError, match=r"expected FP32 \[1, 4\], the model returned .*\[2, 2\]"):
        load(Folded(), X4, tmp_path)


def test_a_traced_model_loads_like_a_scripted_one(tmp_path: Path) -> None:
    """Tracing keeps nothing but the graph, which is enough."""
    path = save(Digits(), tmp_path / "m.pt", traced_with=torch.zeros(2, 1, 8, 8))

    instance = load_instance(path, LoadOptions("m", 1, DIGITS, 4), CpuDevice(), lambda _: None)

    assert instance.report.batchable


def test_damaged_files_raise_model_errors_only(tmp_path: Path) -> None:
    """Cut, flipped or overwritten anywhere, a file loads or is refused with a reason."""
    whole = tmp_path / "m.pt"
    save(Digits(), whole)
    content = whole.read_bytes()
    generator = random.Random(5)  # noqa: S311  # damage, no secret
    options = LoadOptions("m", 1, DIGITS, 1, optimise="off")
    refusals = []
    for number in range(24):
        damaged = bytearray(content)
        place = generator.randrange(len(damaged))
        if number % 4:
            damaged[place : place + 20] = generator.randbytes(20)
        else:
            del damaged[place:]
        whole.write_bytes(damaged)
        try:
            load_instance(os.fspath(whole), options, CpuDevice(), lambda _: None)
        except ModelError as exc:
            refusals.append(exc)
    assert "MODEL_UNREADABLE" in {refusal.reason for refusal in refusals}
    assert [str(refusal) for refusal in refusals if str(tmp_path) in str(refusal)] == []


def test_a_file_without_program_is_refused(tmp_path: Path) -> None:
    """Weights saved by torch.save, and files that are not there, are told by text."""
    torch.save({"weight": torch.ones(1)}, tmp_path / "weights.pt")
    for name in ("weights.pt", "missing.pt"):
        with pytest.raises(ModelError, match="torch cannot read the file") as caught:
            load_instance(
                str(tmp_path / name), LoadOptions("m", 1, X4, 1), CpuDevice(), lambda _: None
            )
        assert caught.value.reason == "MODEL_UNREADABLE"


def test_loading_tells_its_steps_and_raises_no_warnings(tmp_path: Path) -> None:
    """Progress comes before each step, the warm-up from the largest bucket down."""
    path = save(Twice(), tmp_path / "m.pt")
    steps: list[str] = []

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_instance(path, LoadOptions("m", 1, X4, 4), CpuDevice(), steps.append)

    assert steps[:2] == ["read", "check"]
    assert steps[-3:] == ["warm up 4 rows", "warm up 2 rows", "warm up 1 rows"]


def test_a_promise_refines_the_buckets_of_a_device_that_pads(tmp_path: Path) -> None:
    """With a default SLO of four times the smallest batch, there are buckets from there on."""
    coarse = load(Twice(), X4, tmp_path, rows=64, device=PuppetDevice()).report
    slo = 4 * coarse.latency.seconds[0]
    fine = load(Twice(), X4, tmp_path, rows=64, device=PuppetDevice(), default_slo_seconds=slo)
    exact = load(Twice(), X4, tmp_path, rows=64, default_slo_seconds=60.0).report

    assert coarse.latency.padded
    assert set(coarse.buckets) <= set(fine.report.buckets)
    assert coarse.buckets == exact.buckets
    assert not exact.latency.padded


class SmallDevice(PuppetDevice):
    """Runs out of memory while more than ``most`` rows are warmed."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.rows = 0

    def progress(self, step: str) -> None:
        """Listen to what comes next."""
        words = step.split()
        self.rows = int(words[2]) if words[:2] == ["warm", "up"] else 0

    def wait(self) -> None:
        """Fail for large batches."""
        if self.rows > self.most:
            msg = "CUDA out of memory. Tried to allocate 2 GiB"
            raise RuntimeError(msg)


def test_buckets_that_do_not_fit_lower_the_limit(tmp_path: Path) -> None:
    """The model is served with the largest batch that fits, with a warning."""
    path = save(Twice(), tmp_path / "m.pt")
    device = SmallDevice(most=8)

    report = load_instance(path, LoadOptions("m", 1, X4, 16), device, device.progress).report

    assert (report.max_batch_size, report.buckets) == (8, (1, 2, 4, 8))
    assert report.warnings == (
        "batches of 12, 16 rows do not fit into the memory of cuda:3; the limit is 8 rows",
    )


def test_a_model_that_does_not_fit_at_all_is_refused(tmp_path: Path) -> None:
    """The text says how much of the device is taken."""
    path = save(Twice(), tmp_path / "m.pt")
    device = SmallDevice(most=0)

    with pytest.raises(
        ModelError, match=r"does not fit into the memory of cuda:3: .* GiB are taken"
    ):
        load_instance(path, LoadOptions("m", 1, X4, 2), device, device.progress)


@pytest.mark.parametrize("calls", [0, 1, 3, 10])
def test_a_lost_device_is_never_blamed_on_the_model(tmp_path: Path, calls: int) -> None:
    """Whenever it happens, the worker is told to exit."""
    failures = [None] * calls + [RuntimeError("CUDA error: an illegal memory access was met")]
    device = PuppetDevice(failures)

    with pytest.raises(DeviceFault, match="illegal memory access"):
        load(Twice(), X4, tmp_path, device=device)


def test_padding_is_proved_inert_on_devices_that_pad(tmp_path: Path) -> None:
    """A model that averages over its batch fails there too."""
    report = load(Centred(), X4, tmp_path, device=PuppetDevice()).report

    assert not report.batchable
    assert load(Digits(), DIGITS, tmp_path, device=PuppetDevice()).report.batchable


def test_loading_again_and_again_does_not_grow(tmp_path: Path) -> None:
    """A closed instance gives its memory back, measured on this process."""
    path = save(Digits(), tmp_path / "m.pt")
    options, device = LoadOptions("m", 1, DIGITS, 1, optimise="off"), CpuDevice()
    resident = []
    for _ in range(30):
        load_instance(path, options, device, lambda _: None).close()
        resident.append(device.memory()["allocated"])

    assert resident[-1] - resident[10] < 4 << 20
