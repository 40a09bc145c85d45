"""What ``jitney profile`` makes of a sweep."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from model_versions import report

from jitney.cli import main
from jitney.cli.advice import advise
from jitney.cli.plot import require_plots, save_plot
from jitney.cli.profile import describe, to_json
from jitney.cli.sweep import Swept, located
from jitney.errors import ConfigError
from jitney.latency_profile import LatencyProfile
from jitney.types import ModelRef

MIB = 1 << 20
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


def profile(
    *, padded: bool = False, per_row: float = 0.001, per_batch: float = 0.02
) -> LatencyProfile:
    """Return a sweep of a model that takes 1 ms per row and 20 ms per batch."""
    seconds = tuple(per_row * rows + per_batch for rows in SIZES)
    return LatencyProfile(SIZES, seconds, (0.0,) * len(SIZES), padded)


def swept(latency: LatencyProfile | None = None, *, version: int = 1) -> Swept:
    """Return a version with that profile."""
    latency = latency or profile()
    peaks = tuple((100 + rows) * MIB for rows in latency.sizes)
    found = replace(report(128), latency=latency, peak_bytes=peaks)
    return Swept(ModelRef("echo", version), "cpu", "cpu, 2 threads", found)


def test_the_limit_is_where_nine_tenths_are_reached() -> None:
    """Of 128 rows in 148 ms, 64 rows in 84 ms have 88 %, and a larger batch may have more."""
    advice = advise(profile())

    assert (pytest.approx(0.001), pytest.approx(0.02)) == (advice.alpha, advice.beta)
    assert (pytest.approx(128 / 0.148), 128, 128) == (
        advice.throughput,
        advice.fastest,
        advice.limit,
    )
    assert advice.rising
    assert (None, ()) == (advice.target, advice.buckets)

    flat = advise(profile(per_batch=0.001))
    assert (16, False) == (flat.limit, flat.rising)


@pytest.mark.parametrize(
    ("slo", "devices", "target"),
    [(0.2, 1, 78), (0.2, 8, 128), (0.1, 1, 29), (0.1, 4, 58), (0.04, 1, 0), (60.0, 1, 128)],
)
def test_a_promise_allows_a_batch(slo: float, devices: int, target: int) -> None:
    """The wait for a device and the batch fit, each planned with two spreads of 1 %."""
    advice = advise(profile(), slo=slo, devices=devices)

    assert target == advice.target
    expected = devices * target / (0.001 * target + 0.02)
    assert pytest.approx(expected) == advice.target_throughput


def test_a_promise_is_not_filled_with_slow_batches() -> None:
    """Where a larger size runs at half the speed, the smaller one is advised."""
    latency = LatencyProfile((1, 24, 32), (0.005, 0.06, 0.136), (0.0,) * 3)
    advice = advise(latency, slo=0.2)

    assert (24, pytest.approx(400)) == (advice.target, advice.target_throughput)


def test_a_size_that_is_slower_than_the_next_is_not_advised() -> None:
    """Throughput is told as it was measured."""
    latency = LatencyProfile((1, 2, 4), (0.001, 0.01, 0.002), (0.0,) * 3)
    advice = advise(latency)

    assert (2000.0, 4, 4) == (advice.throughput, advice.fastest, advice.limit)


def test_buckets_are_told_where_it_pads() -> None:
    """A device that runs every size needs none."""
    assert SIZES == advise(profile(padded=True)).buckets


def test_the_report_is_a_table() -> None:
    """Sizes, times, what they bring, and what follows."""
    one = swept(profile(padded=True))
    expected = """\
echo/1 on cpu (cpu, 2 threads), plain form

ROWS  MS   SPREAD  ROWS/S  OF BEST  MEMORY
1     21   0.0%    47.619  6%       101.0 MiB
2     22   0.0%    90.909  11%      102.0 MiB
4     24   0.0%    166.67  19%      104.0 MiB
8     28   0.0%    285.71  33%      108.0 MiB
16    36   0.0%    444.44  51%      116.0 MiB
32    52   0.0%    615.38  71%      132.0 MiB
64    84   0.0%    761.9   88%      164.0 MiB
128   148  0.0%    864.86  100%     228.0 MiB

line         1 ms per row + 20 ms per batch
batch limit  128 rows have 90 % of the best throughput, which still rises at 128: \
try --max-batch-size 256
for 100 ms   16 rows on 1 device, 444.44 rows/s
buckets      1, 2, 4, 8, 16, 32, 64, 128
"""
    lines = describe(one, advise(one.report.latency, slo=0.1))

    assert expected.splitlines() == list(lines)


@pytest.mark.parametrize(
    ("slo", "devices", "line"),
    [
        (
            0.03,
            2,
            "for 30 ms    too short on 2 devices: one row alone takes 21 ms, waiting excluded",
        ),
        (60.0, 1, "for 60000 ms 128 rows on 1 device, 864.86 rows/s, as many as were measured"),
    ],
)
def test_promises_at_both_ends_are_explained(slo: float, devices: int, line: str) -> None:
    """Too short for one row, and long enough for all."""
    one = swept()
    lines = list(describe(one, advise(one.report.latency, slo=slo, devices=devices)))

    assert line in lines
    assert "buckets      none: batches run at their own size on this device" in lines


def test_the_report_without_batches_and_memory() -> None:
    """A model without batch dimension has one size; a worker may not know its memory."""
    latency = LatencyProfile((1,), (0.005,), (0.01,))
    bare = replace(report(0), latency=latency, peak_bytes=())
    one = replace(swept(), report=bare)
    lines = list(describe(one, advise(latency)))

    assert "1     5   1.0%    200     100%     -" in lines
    assert "batch limit  the model has no batch dimension" in lines


def test_json_has_what_was_measured_and_what_follows() -> None:
    """It is plain JSON, in seconds and bytes."""
    found = json.loads(json.dumps(to_json(swept(), advise(profile(), slo=0.2))))

    assert ("echo", 1, "cpu") == (found["model"], found["version"], found["device"])
    assert list(SIZES) == found["latency"]["sizes"]
    assert [21, 22] == [pytest.approx(1e3 * s) for s in found["latency"]["seconds"][:2]]
    assert (78, 0.2) == (found["advice"]["target"], found["advice"]["slo"])


@pytest.mark.parametrize("versions", [1, 2])
def test_a_plot_is_a_picture(tmp_path: Path, versions: int) -> None:
    """One curve per version, in a PNG of a size that can be read."""
    pytest.importorskip("matplotlib")
    file = tmp_path / "out.png"
    curves = [swept(profile(per_batch=0.02 * n), version=n) for n in range(1, versions + 1)]

    save_plot(curves, advise(profile(), slo=0.2), file)

    written = file.read_bytes()
    assert b"\x89PNG\r\n\x1a\n" == written[:8]
    assert (900, 1080) == tuple(int.from_bytes(written[at : at + 4]) for at in (16, 20))


def test_a_plot_of_one_size_without_memory(tmp_path: Path) -> None:
    """There is little to see, and still a picture."""
    pytest.importorskip("matplotlib")
    latency = LatencyProfile((1,), (0.005,), (0.01,))
    one = replace(swept(), report=replace(report(0), latency=latency))

    save_plot([one], advise(latency), tmp_path / "out.svg")

    assert "<svg" in (tmp_path / "out.svg").read_text()


@pytest.mark.parametrize("name", ["missing/out.png", "out.nothing"])
def test_a_plot_that_cannot_be_written_is_told(tmp_path: Path, name: str) -> None:
    """The error names the flag and the file."""
    pytest.importorskip("matplotlib")
    with pytest.raises(ConfigError, match=f"--plot .*{name}: "):
        save_plot([swept()], advise(profile()), tmp_path / name)


def test_without_matplotlib_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told before anything is measured."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    assert 1 == main(["profile", "echo", "--plot", "echo.png"])
    expected = "jitney: error: --plot needs matplotlib: pip install 'jitney[plots]'\n"
    assert expected == capsys.readouterr().err
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    require_plots(Path("echo.png"))


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("echo.txt", "--plot echo.txt: expected a name that ends in .png, .svg, .pdf"),
        ("nowhere/echo.png", "--plot nowhere/echo.png: there is no such folder"),
    ],
)
def test_a_picture_that_cannot_be_written_is_told_at_once(
    capsys: pytest.CaptureFixture[str], file: str, fault: str
) -> None:
    """Before minutes are spent on measuring."""
    assert 1 == main(["profile", "echo", "--plot", file])
    assert f"jitney: error: {fault}\n" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--slo-ms", "0"), "argument --slo-ms: expected milliseconds above 0, got '0'"),
        (("--slo-ms", "nan"), "argument --slo-ms: expected milliseconds above 0, got 'nan'"),
        (("--devices", "x"), "argument --devices: expected a number >= 1, got 'x'"),
        (("--device", "gpu"), "--device: expected auto, cpu, cuda, or a list"),
    ],
)
def test_wrong_flags_are_named(
    flags: tuple[str, str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is that of a wrong command line."""
    assert 2 == main(["profile", "echo", *flags])
    assert text in capsys.readouterr().err


def test_a_name_is_looked_up_in_the_repositories(tmp_path: Path) -> None:
    """A folder is its own repository's model."""
    (tmp_path / "echo").mkdir()
    with located("echo", (tmp_path,)) as found:
        assert ((tmp_path,), "echo") == found
    with located(str(tmp_path / "echo"), ()) as found:
        assert ((tmp_path,), "echo") == found


@pytest.mark.parametrize("model", ["missing.pt", "no/such/folder"])
def test_a_path_that_is_not_there_is_told(model: str) -> None:
    """What looks like a path is not looked up as a name."""
    with (
        pytest.raises(ConfigError, match=f"{model}: there is no such file or folder"),
        located(model, ()),
    ):
        pass


def test_a_file_becomes_a_repository(tmp_path: Path) -> None:
    """A loose file is version 1 of a model with its name, if that can be one."""
    for name, model in (("echo.pt", "echo"), ("#1.pt", "model")):
        (tmp_path / name).write_bytes(b"file")
        with located(str(tmp_path / name), ()) as ((root,), found):
            assert model == found
            assert b"file" == (root / model / "1" / "model.pt").read_bytes()
            assert [root / model / "1"] == list((root / model).iterdir())
        assert not root.exists()


def test_a_file_in_a_repository_keeps_its_manifest(tmp_path: Path) -> None:
    """Name, version and ``model.toml`` are those of its folder; other versions stay behind."""
    for version in ("3", "4"):
        (tmp_path / "echo" / version).mkdir(parents=True)
        (tmp_path / "echo" / version / "model.pt").write_bytes(version.encode())
    (tmp_path / "echo" / "model.toml").write_text("max_batch_size = 4")

    with located(str(tmp_path / "echo" / "3" / "model.pt"), ()) as ((root,), found):
        assert "echo" == found
        assert b"3" == (root / "echo" / "3" / "model.pt").read_bytes()
        assert "max_batch_size = 4" == (root / "echo" / "model.toml").read_text()
        assert ["3", "model.toml"] == sorted(path.name for path in (root / "echo").iterdir())


def test_the_command_brings_no_torch() -> None:
    """Models run in the worker; plots are imported when one is asked for."""
    code = (
        "import sys; import jitney.cli.profile, jitney.cli.sweep, jitney.cli.plot; "
        "print(sorted({'torch', 'matplotlib', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run(  # our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "[]\n" == done.stdout
