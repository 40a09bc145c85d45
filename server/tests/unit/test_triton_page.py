from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from jitney.errors import DeadlineExpired, InferenceFailed, InvalidRequest
from jitney.telemetry.gpu import GpuFigures, Gpus
from jitney.telemetry.host import Host, HostFigures
from jitney.telemetry.metrics import Metrics
from jitney.telemetry.triton_page import PinnedMemory, TritonPage, VersionFigures, number
from jitney.types import ModelRef

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REF = ModelRef("m", 1)
GPU = GpuFigures("GPU-1", 0.5, 150121545728, 1 << 30, 71.25, 700.0, 12.5)


class Known:
    """Sources with figures of our own choice."""

    def __init__(self, gpus: Sequence[GpuFigures] = ()) -> None:
        self._gpus = gpus

    def versions(self) -> list[VersionFigures]:
        """Return one version."""
        return [VersionFigures("m", "1", 1.5, 3)]

    def pinned(self) -> PinnedMemory:
        """Return some memory."""
        return PinnedMemory(1 << 33, 1 << 20)

    def host(self) -> HostFigures:
        """Return a busy machine."""
        return HostFigures(0.25, 1 << 34, 1 << 33)

    def gpus(self) -> Sequence[GpuFigures]:
        """Return what was given."""
        return self._gpus


def lines(metrics: Metrics | None = None, gpus: Sequence[GpuFigures] = ()) -> list[str]:
    """Return the lines of a page."""
    return TritonPage(metrics or Metrics(), Known(gpus)).render().splitlines()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (4.0, "4"),
        (150121545728.0, "150121545728"),
        (0.25, "0.25"),
        (1e-9, "0"),
        (1234567.125, "1234567.125"),
        (float("nan"), "0"),
        (float("inf"), "0"),
    ],
)
def test_numbers_have_no_exponent(value: float, text: str) -> None:
    """Whole numbers are printed in full, others with a point."""
    assert text == number(value)


def test_a_comment_comes_before_every_sample() -> None:
    """perf_analyzer finds a name only behind a line's end."""
    first = lines()[0]
    assert first.startswith("# HELP ")


def test_gpus_have_one_label() -> None:
    """Another label beside gpu_uuid would not be read."""
    assert 'nv_gpu_memory_total_bytes{gpu_uuid="GPU-1"} 150121545728' in lines(gpus=[GPU])
    assert 'nv_gpu_power_usage{gpu_uuid="GPU-1"} 71.25' in lines(gpus=[GPU])


def test_what_a_gpu_cannot_tell_is_not_there() -> None:
    """A device without a power sensor has no sample of it."""
    silent = GPU._replace(watts=None)
    assert not [line for line in lines(gpus=[silent]) if "nv_gpu_power_usage" in line]


def test_without_gpus_there_are_no_lines_of_them() -> None:
    """Not even a heading."""
    assert not [line for line in lines() if "gpu" in line]


def test_failures_by_reason() -> None:
    """Errors are told apart by what the operator can do about them."""
    metrics = Metrics()
    metrics.request_refused(REF, DeadlineExpired("late"))
    metrics.request_refused(REF, InferenceFailed("bad"))
    metrics.request_refused(REF, InvalidRequest("wrong"))
    metrics.request_refused(REF, InvalidRequest("wrong"))
    metrics.cancelled(REF, "queued", 0.5)
    page = lines(metrics)
    want = {"REJECTED": 1, "BACKEND": 1, "OTHER": 2, "CANCELED": 1}
    for reason, count in want.items():
        labels = f'{{model="m",reason="{reason}",version="1"}}'
        assert f"nv_inference_request_failure{labels} {count}" in page


def test_labels_are_escaped() -> None:
    """A name with a quote does not end the label."""

    class Odd(Known):
        def versions(self) -> list[VersionFigures]:
            return [VersionFigures('a"b\\c', "1", 0.0, 0)]

    page = TritonPage(Metrics(), Odd()).render()
    assert 'nv_inference_count{model="a\\"b\\\\c",version="1"} 0' in page


def test_first_responses_of_decoupled_models() -> None:
    """What counts is the first reply, not the end."""
    metrics = Metrics()
    metrics.produced(REF, 0, 0.2)
    metrics.produced(REF, 1, 4.0)
    page = lines(metrics)
    name = "nv_inference_first_response_histogram_ms"
    labels = 'model="m",version="1"'
    assert f'{name}_bucket{{le="100",{labels}}} 0' in page
    assert f'{name}_bucket{{le="500",{labels}}} 1' in page
    assert f"{name}_sum{{{labels}}} 200" in page
    assert f"{name}_count{{{labels}}} 1" in page


# -- the machine --------------------------------------------------------------------------------


def write_proc(folder: Path, busy: int, idle: int) -> None:
    """Write a kernel's tables."""
    (folder / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 9 9\ncpu0 1 1 1 1\n")
    (folder / "meminfo").write_text("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 40 kB\n")


def test_utilisation_is_that_since_the_last_reading(tmp_path: Path) -> None:
    """The first reading counts from the boot."""
    host = Host(tmp_path)
    write_proc(tmp_path, busy=10, idle=90)
    assert HostFigures(pytest.approx(0.1), 102400, 61440) == host.read()
    write_proc(tmp_path, busy=40, idle=160)
    assert pytest.approx(0.3) == host.read().utilisation


@pytest.mark.parametrize("text", ["", "cpu\n", "nonsense a b c d e"])
def test_a_kernel_without_such_tables(tmp_path: Path, text: str) -> None:
    """What cannot be read is 0, and no error."""
    (tmp_path / "stat").write_text(text)
    assert HostFigures(0.0, 0, 0) == Host(tmp_path).read()


# -- NVIDIA's devices ---------------------------------------------------------------------------


class Driver:
    """What we use of NVIDIA's management library, with one device."""

    class NVMLError(Exception):
        """Its error."""

    def __init__(self) -> None:
        self.joules = 5000
        self.lost = False

    def nvmlDeviceGetCount(self) -> int:
        """Return the number of devices."""
        if self.lost:
            raise self.NVMLError
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        """Return a handle."""
        return index

    def nvmlDeviceGetUUID(self, _: int) -> bytes:
        """Return a name; older libraries return bytes."""
        return b"GPU-1"

    def nvmlDeviceGetUtilizationRates(self, _: int) -> Any:
        """Return percentages."""
        return SimpleNamespace(gpu=37, memory=5)

    def nvmlDeviceGetMemoryInfo(self, _: int) -> Any:
        """Return bytes."""
        return SimpleNamespace(total=1000, used=400, free=600)

    def nvmlDeviceGetPowerUsage(self, _: int) -> int:
        """Return milliwatts."""
        return 71250

    def nvmlDeviceGetEnforcedPowerLimit(self, _: int) -> int:
        """Refuse, as some devices do."""
        raise self.NVMLError

    def nvmlDeviceGetTotalEnergyConsumption(self, _: int) -> int:
        """Return millijoules."""
        return self.joules


def test_figures_of_a_device() -> None:
    """Units are those of the page; what the device refuses to tell is None."""
    assert [GpuFigures("GPU-1", 0.37, 1000, 400, 71.25, None, 0.0)] == Gpus(Driver()).read()


def test_energy_counts_from_our_start() -> None:
    """The driver's counter began long before."""
    driver = Driver()
    gpus = Gpus(driver)
    gpus.read()
    driver.joules += 2500
    assert 2.5 == gpus.read()[0].joules


def test_a_driver_that_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, and there are no figures from then on."""
    driver = Driver()
    gpus = Gpus(driver)
    driver.lost = True
    assert ([], []) == (gpus.read(), gpus.read())
    assert 1 == len(caplog.records)
