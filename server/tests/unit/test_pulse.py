"""The pulse notes how late the loop runs and how busy devices are."""

from __future__ import annotations

from jitney.execution.executor import Completion
from jitney.scheduling.batch import Batch, Reason
from jitney.telemetry.metrics import Metrics
from jitney.telemetry.pulse import BEAT, WINDOW, Pulse
from jitney.testing import FakeClock, make_key


class LateClock(FakeClock):
    """A clock whose loop is blocked: calls run ``lag`` after the moment they were asked for."""

    lag = 0.0

    def now(self) -> float:
        """Return the time at which a blocked loop would get round to looking."""
        return super().now() + self.lag


def work(metrics: Metrics, device: str, seconds: float) -> None:
    """Note that a device spent time on a batch."""
    batch = Batch(make_key(), [], 1, Reason.IDLE, device, 0.0)
    metrics.batch_done(batch, Completion(None, None, 10.0, 10.0, 10.0, 10.0 + seconds), 1)


def test_a_loop_that_is_in_time_has_no_lag() -> None:
    """Ten beats in a second, all of them punctual."""
    clock, metrics = FakeClock(), Metrics()
    Pulse(clock, metrics).start()

    clock.advance(1.0 + BEAT / 2)

    cell = metrics.loop_lag.cell(())
    assert 10 == cell.count
    assert cell.sum < 1e-9


def test_a_blocked_loop_shows_in_the_histogram() -> None:
    """A beat that comes 0.3 s late is counted as 0.3 s."""
    clock, metrics = LateClock(), Metrics()
    Pulse(clock, metrics).start()

    clock.lag = 0.3
    clock.advance(BEAT)

    cell = metrics.loop_lag.cell(())
    assert (1, 0.3) == (cell.count, round(cell.sum, 9))


def test_the_busy_ratio_is_that_of_the_last_window() -> None:
    """A quarter of the window spent on batches is 0.25; an idle window after it is 0."""
    clock, metrics = FakeClock(), Metrics()
    pulse = Pulse(clock, metrics)
    pulse.start()
    window = WINDOW * BEAT
    ratios = [pulse.busy_ratio("d0")]

    work(metrics, "d0", window / 4)
    clock.advance(window + BEAT / 2)
    ratios += [pulse.busy_ratio("d0"), pulse.busy_ratio("other")]
    clock.advance(window)
    ratios.append(pulse.busy_ratio("d0"))

    assert [0.0, 0.25, 0.0, 0.0] == [round(ratio, 6) for ratio in ratios]


def test_the_busy_ratio_is_at_most_1() -> None:
    """A long batch that ends in a window counts with the window's length at most."""
    clock, metrics = FakeClock(), Metrics()
    pulse = Pulse(clock, metrics)
    pulse.start()

    work(metrics, "d0", 100.0)
    clock.advance(WINDOW * BEAT + BEAT / 2)

    assert 1.0 == pulse.busy_ratio("d0")


def test_figures_that_grow_old_are_refreshed_once_a_window() -> None:
    """Who asked for it is told the time at the end of each window."""
    clock, told = FakeClock(), list[float]()
    began = clock.now()
    Pulse(clock, Metrics(), told.append).start()

    clock.advance(2 * WINDOW * BEAT + BEAT / 2)

    assert [1.0, 2.0] == [round(now - began, 6) for now in told]


def test_a_stopped_pulse_asks_for_nothing_more() -> None:
    """stop() takes the timer back, and may be called twice."""
    clock = FakeClock()
    pulse = Pulse(clock, Metrics())
    pulse.start()

    pulse.stop()
    pulse.stop()

    assert [] == clock.timers
