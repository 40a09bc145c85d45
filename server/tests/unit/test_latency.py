"""What a latency model knows, and how it learns."""

from __future__ import annotations

import itertools
import math
import random
from typing import TYPE_CHECKING

import pytest

from jitney.latency_profile import LatencyProfile
from jitney.scheduling.drift import Drift
from jitney.scheduling.isotonic import isotonic
from jitney.scheduling.latency import LatencyModel
from jitney.scheduling.line import Line
from jitney.scheduling.margin import Margin

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
ALPHA, BETA = 0.0002, 0.002
JITTER = 0.02


def seconds(rows: int, factor: float = 1.0) -> float:
    """Return what the device of these tests takes."""
    return factor * (ALPHA * rows + BETA)


def profile(factor: float = 1.0, *, padded: bool = False, spread: float = 0.02) -> LatencyProfile:
    """Return a sweep of that device, wrong by ``factor``."""
    return LatencyProfile(
        SIZES, tuple(seconds(n, factor) for n in SIZES), (spread,) * len(SIZES), padded
    )


def error(model: LatencyModel, factor: float = 1.0) -> float:
    """Return the mean relative error over all rows."""
    return sum(
        abs(model.mean(rows) / seconds(model.padded(rows), factor) - 1) for rows in range(1, 65)
    ) / len(range(1, 65))


def feed(
    model: LatencyModel,
    batches: int,
    factor: Callable[[int], float] = lambda _: 1.0,
    *,
    seed: int = 0,
    jitter: float = JITTER,
) -> list[tuple[float, float]]:
    """Let a model see batches of random sizes; return what each was planned for and took."""
    rng = random.Random(seed)  # noqa: S311  # a history, not a secret
    seen = []
    for number in range(batches):
        rows = rng.randint(1, 64)
        took = seconds(model.padded(rows), factor(number)) * max(0.5, rng.gauss(1, jitter))
        seen.append((model.planned(rows), took))
        model.observe(rows, took)
    return seen


def check(model: LatencyModel) -> None:
    """Assert what must hold whatever a model has seen."""
    plans = [model.planned(rows) for rows in range(1, 81)]
    means = [model.mean(rows) for rows in range(1, 81)]
    learnt = model.statistics()
    assert all(a <= b for a, b in itertools.pairwise(plans))
    assert all(a <= b for a, b in itertools.pairwise(means))
    assert all(plan >= mean >= 0 for plan, mean in zip(plans, means, strict=True))
    assert all(spread >= 0 for spread in learnt.spread)
    assert learnt.alpha >= 0
    assert learnt.beta >= 0
    assert 1 <= model.z <= 6
    budgets = [f * plan for plan in plans[:64] for f in (0.99, 1.0, 1.01)]
    for budget in budgets:
        rows = model.rows_within(budget)
        assert rows == 0 or model.planned(rows) <= budget
        assert rows == 64 or model.planned(rows + 1) > budget


def test_known_line_is_planned_exactly() -> None:
    """With two knots on a line and no spread, every size is planned on the line."""
    exact = LatencyProfile((1, 1000), (0.021, 1.02), (0.0, 0.0))
    model = LatencyModel(exact, 1000, least_spread=0)
    for rows in range(1, 1001):
        assert math.isclose(0.001 * rows + 0.02, model.planned(rows), abs_tol=1e-12)
        assert rows == model.rows_within(model.planned(rows))


def test_known_line_stays_exact_while_it_is_confirmed() -> None:
    """Batches that take what was expected change nothing."""
    model = LatencyModel(profile(spread=0.0), 64, least_spread=0)
    feed(model, 500, jitter=0.0)
    for rows in range(1, 65):
        assert math.isclose(seconds(rows), model.planned(rows), abs_tol=1e-12)


def test_measured_spread_has_a_floor() -> None:
    """A sweep that shows no spread is still planned with 1 %."""
    model = LatencyModel(profile(spread=0.0), 64)
    assert math.isclose(1.02 * seconds(64), model.planned(64))


@pytest.mark.parametrize(
    ("rows", "computed"), [(1, 1), (3, 4), (8, 8), (9, 12), (33, 48), (64, 64), (65, 65)]
)
def test_padding_rounds_up(rows: int, computed: int) -> None:
    """A padding device computes the next bucket, and is planned for it."""
    model = LatencyModel(profile(padded=True), 64)
    assert computed == model.padded(rows)
    assert model.planned(rows) == model.planned(computed)


@pytest.mark.parametrize(
    ("budget", "padded", "exact"),
    [
        (0.0, 0, 0),
        (-1.0, 0, 0),
        (seconds(1) * 1.04 - 1e-9, 0, 0),
        (seconds(1) * 1.04 + 1e-9, 1, 1),
        (seconds(9) * 1.04 + 1e-9, 8, 9),
        (seconds(40) * 1.04 + 1e-9, 32, 40),
        (seconds(64) * 1.04 + 1e-9, 64, 64),
        (math.inf, 64, 64),
    ],
)
def test_rows_within_a_budget(budget: float, padded: int, exact: int) -> None:
    """Where it pads, a bucket is returned; otherwise the last row that fits."""
    assert padded == LatencyModel(profile(padded=True), 64).rows_within(budget)
    assert exact == LatencyModel(profile(), 64).rows_within(budget)


def test_limit_below_the_largest_bucket() -> None:
    """A limit between two buckets is returned where the bucket above it fits."""
    model = LatencyModel(profile(padded=True), 10)
    assert 8 == model.rows_within(seconds(8) * 1.04 + 1e-9)
    assert 10 == model.rows_within(seconds(12) * 1.04 + 1e-9)


def test_line_extrapolates_beyond_the_last_size() -> None:
    """Only beyond the sweep the fitted line is used."""
    model = LatencyModel(profile(), 200, z=0.0)
    assert math.isclose(seconds(150), model.planned(150))
    assert 150 == model.rows_within(seconds(150) + 1e-9)
    assert 200 == model.rows_within(1.0)


def test_flat_model_takes_all_rows() -> None:
    """A model whose duration does not depend on its rows has no slope to be divided by."""
    flat = LatencyProfile((1, 8), (0.005, 0.005), (0.0, 0.0))
    model = LatencyModel(flat, 100)
    assert 100 == model.rows_within(0.0052)
    assert 0 == model.rows_within(0.005)
    assert (0.0, 0.005) == (model.alpha, pytest.approx(model.beta))


def test_sizes_below_the_first_take_as_long() -> None:
    """A table that begins at 4 plans one row like four."""
    model = LatencyModel(LatencyProfile((4, 8), (0.004, 0.005), (0.0, 0.0)), 8)
    assert model.planned(4) == model.planned(1)


def test_sweep_that_falls_is_levelled() -> None:
    """A sweep in which a larger size was faster is made to rise."""
    model = LatencyModel(LatencyProfile((1, 2, 4), (0.01, 0.03, 0.02), (0.0,) * 3), 4)
    assert [0.01, *[pytest.approx(math.sqrt(0.0006))] * 2] == [model.mean(n) for n in (1, 2, 4)]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("wrong", [1.3, 0.8])
def test_wrong_start_is_corrected(wrong: float, *, padded: bool) -> None:
    """A table that begins 30 % high or 20 % low is within 5 % after 80 batches of all sizes."""
    model = LatencyModel(profile(wrong, padded=padded), 64)
    feed(model, 80)
    assert error(model) < 0.05


def test_one_size_is_learnt_quickly() -> None:
    """A size that is run again and again is within 5 % after 20 batches, though 30 % high."""
    model = LatencyModel(profile(1.3, padded=True), 64)
    for _ in range(20):
        model.observe(32, seconds(32))
    assert abs(model.mean(32) / seconds(32) - 1) < 0.05


def test_equal_batches_do_not_tilt_the_line() -> None:
    """A thousand batches of one size leave the line as the sweep left it."""
    model = LatencyModel(profile(), 64)
    for _ in range(1000):
        model.observe(16, seconds(16))
    assert pytest.approx(ALPHA, rel=0.01) == model.alpha
    assert pytest.approx(BETA, rel=0.01) == model.beta


def test_line_follows_batches_that_vary() -> None:
    """The line finds a slope and an offset that have changed."""
    line = Line([(n, seconds(n)) for n in SIZES])
    rng = random.Random(5)  # noqa: S311  # sizes, not a secret
    for _ in range(2000):
        rows = rng.randint(1, 64)
        line.observe(rows, 0.0004 * rows + 0.001)
    assert (pytest.approx(0.0004, rel=0.01), pytest.approx(0.001, rel=0.02)) == (
        line.alpha,
        line.beta,
    )


@pytest.mark.parametrize(
    ("points", "alpha", "beta"),
    [
        ([(1, 0.004)], 0.004, 0.0),
        ([(4, 0.004), (8, 0.004)], 0.0, 0.004),
        ([(1, 0.004), (8, 0.002)], 0.0, None),
        ([(1, 0.001), (8, 0.020)], None, 0.0),
    ],
)
def test_line_has_no_negative_part(
    points: list[tuple[int, float]], alpha: float | None, beta: float | None
) -> None:
    """A fit that would be negative is made without that part."""
    line = Line(points)
    assert line.alpha == (alpha if alpha is not None else pytest.approx(0.0025, rel=0.2))
    assert line.beta == (beta if beta is not None else pytest.approx(0.0023, rel=0.2))


def test_single_size_costs_its_rows() -> None:
    """Of a model that takes one row at a time, a waiting row costs a whole batch."""
    model = LatencyModel(LatencyProfile((1,), (0.004,), (0.0,)), 1)
    assert (0.004, 0.0, 0.004) == (model.alpha, model.beta, model.row_seconds)


def test_best_row_cost_is_that_of_the_best_size() -> None:
    """The least seconds per row come from the table, so a limit of rows counts."""
    assert pytest.approx(seconds(64) / 64) == LatencyModel(profile(), 64).row_seconds


def test_batch_between_sizes_moves_both() -> None:
    """An exact size in the middle of two moves the two alike, and itself by a tenth."""
    model = LatencyModel(profile(), 64, Drift())
    before = {n: model.mean(n) for n in (16, 20, 24, 32)}
    model.observe(20, before[20] * 1.2)
    g = model.drift.g
    assert before[20] * 1.02 == pytest.approx(model.mean(20) / g)
    assert before[16] * 1.02 == pytest.approx(model.mean(16) / g)
    assert before[24] * 1.02 == pytest.approx(model.mean(24) / g)
    assert before[32] == pytest.approx(model.mean(32) / g)


def test_slow_clock_drift_is_followed() -> None:
    """A device that becomes 20 % slower over 2000 batches is never far from its plan."""
    model = LatencyModel(profile(), 64)
    seen = feed(model, 2000, lambda n: 1 + 0.2 * n / 2000)
    assert error(model, 1.2) < 0.03
    assert sum(took > planned for planned, took in seen) < 0.04 * len(seen)


def test_thermal_step_is_followed() -> None:
    """After a step of 40 % the plans hold again within 50 batches."""
    model = LatencyModel(profile(), 64)
    seen = feed(model, 300, lambda n: 1.4 if n >= 100 else 1.0)
    assert sum(took > planned for planned, took in seen[150:]) < 0.04 * 150
    assert error(model, 1.4) < 0.05


def test_drift_helps_sizes_and_models_that_are_not_run() -> None:
    """What one size finds out raises the others, of all models of the device, by a part."""
    drift = Drift()
    busy = LatencyModel(profile(padded=True), 64, drift)
    idle = LatencyModel(profile(padded=True), 64, drift)
    before = idle.planned(8)
    for _ in range(60):
        busy.observe(32, seconds(32, 1.4))
    assert before * 1.03 < busy.planned(8)
    assert before * 1.03 < idle.planned(8)
    assert before * drift.g == pytest.approx(idle.planned(8))


def test_new_model_on_a_slow_device_is_taken_at_its_word() -> None:
    """The sweep of a model was measured under the present drift, which must not count twice."""
    model = LatencyModel(profile(), 64, Drift(1.25), z=0.0)
    assert pytest.approx(seconds(16)) == model.planned(16)


def test_sweep_of_earlier_is_drifted_since() -> None:
    """Where the drift at the time of the sweep is told, what came since counts."""
    model = LatencyModel(profile(), 64, Drift(1.5), z=0.0, measured_at=1.2)
    assert pytest.approx(seconds(16, 1.25)) == model.planned(16)


def test_alternating_cotenant_is_covered() -> None:
    """Where every other batch takes half as long again, plans hold for the slow ones."""
    model = LatencyModel(profile(), 64)
    seen = feed(model, 2000, lambda n: 1.5 if n % 2 else 1.0)
    late = sum(took > planned for planned, took in seen[200:])
    assert late < 0.02 * 1800


def test_outlier_is_forgotten() -> None:
    """One batch of a hundred times its duration moves plans by an eighth, and not for long."""
    model = LatencyModel(profile(), 64)
    before = model.planned(20)
    model.observe(20, seconds(20, 100))
    assert before * 1.125 > model.planned(20)
    feed(model, 100, seed=1)
    assert before * 1.05 > model.planned(20)


@pytest.mark.parametrize("odd", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_no_durations_are_ignored(odd: float) -> None:
    """What cannot be a duration teaches nothing."""
    for model in (LatencyModel(profile(), 64), LatencyModel.unknown(64)):
        before = model.statistics()
        model.observe(8, odd)
        model.observe(0, 0.1)
        assert before == model.statistics()


def test_unknown_model_refuses_nothing() -> None:
    """Before the first batch everything seems to take no time."""
    model = LatencyModel.unknown(64)
    assert (0.0, 0.0, 64, ()) == (
        model.planned(64),
        model.mean(1),
        model.rows_within(0.0),
        model.sizes,
    )
    assert 0 == model.rows_within(-1.0)


def test_unknown_model_believes_its_first_batch() -> None:
    """The first batch sets the plan for its size; larger ones are guessed to take longer."""
    model = LatencyModel.unknown(64)
    model.observe(8, 0.01)
    assert pytest.approx(0.01) == model.mean(8) == model.mean(1)
    assert pytest.approx(0.015) == model.mean(16)


def test_unknown_model_learns_its_curve() -> None:
    """After a hundred batches a table has been made that is within 3 %, of few sizes."""
    model = LatencyModel.unknown(64)
    feed(model, 100)
    assert error(model) < 0.03
    assert len(model.sizes) <= 16
    check(model)


def test_unknown_model_forgets_a_slow_first_run() -> None:
    """A first run that was twenty times slower, as when a shape is compiled, is soon forgotten."""
    model = LatencyModel.unknown(64)
    model.observe(16, seconds(16, 20))
    for _ in range(6):
        model.observe(16, seconds(16))
    assert pytest.approx(seconds(16), rel=0.15) == model.mean(16)


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_prior_is_scaled_as_a_whole(factor: float) -> None:
    """A shape of four times the cost, or a quarter, shows in its first batch, for all sizes."""
    model = LatencyModel.prior(profile(), 64)
    model.observe(4, seconds(4, factor))
    for rows in (1, 4, 33, 64):
        assert pytest.approx(seconds(rows, factor)) == model.mean(rows)
    assert pytest.approx(ALPHA * factor, rel=0.05) == model.alpha
    assert 1.0 == model.drift.g


def test_prior_forgets_a_slow_first_run() -> None:
    """A first run that was forty times slower does not keep a shape from being planned well."""
    model = LatencyModel.prior(profile(), 64)
    for factor in (39, 7, 1, 1, 1, 1, 1):
        model.observe(4, seconds(4, factor))
    assert pytest.approx(seconds(4), rel=0.15) == model.mean(4)


def test_margin_grows_when_promises_break() -> None:
    """The sixth late one of a thousand raises z by a tenth, and no other one of that thousand."""
    model = LatencyModel(profile(), 64)
    before = model.planned(8)
    model.outcome(100, 5)
    assert 2.0 == model.z
    model.outcome(0, 1)
    assert pytest.approx(2.2) == model.z
    assert before < model.planned(8)
    model.outcome(500, 300)
    assert pytest.approx(2.2) == model.z


def test_margin_shrinks_while_promises_hold() -> None:
    """A thousand in time lower z by a hundredth; it stays between 1 and 6."""
    margin = Margin(2.0)
    margin.outcome(1000, 0)
    assert pytest.approx(1.98) == margin.z
    for _ in range(200):
        margin.outcome(1000, 0)
    assert 1.0 == margin.z
    for _ in range(200):
        margin.outcome(0, 1000)
    assert 6.0 == margin.z


def test_doubt_ends_a_refusal_that_keeps_itself_true() -> None:
    """A table that trouble raised fivefold returns to the sweep while nothing may be run."""
    model = LatencyModel(profile(), 64)
    for _ in range(300):
        model.observe(8, seconds(8, 5))
    assert 4 * seconds(8) < model.planned(8)
    for _ in range(100):
        model.doubt(0.5)
    assert pytest.approx(seconds(8), rel=0.05) == model.planned(8)


def test_doubt_is_settled_by_one_batch() -> None:
    """When the trouble turns out to be there still, the first batch says so."""
    model = LatencyModel(profile(), 64)
    for _ in range(300):
        model.observe(8, seconds(8, 5))
    model.doubt(math.inf)
    model.observe(8, seconds(8, 5))
    assert pytest.approx(seconds(8, 5), rel=0.05) == model.mean(8)


def test_doubt_of_what_is_as_it_was_measured_changes_nothing() -> None:
    """One stalled batch after it counts as little as ever, and the spread is the sweep's."""
    trusted, doubted = LatencyModel(profile(), 64), LatencyModel(profile(), 64)
    doubted.doubt(math.inf)
    assert trusted.planned(8) == doubted.planned(8)
    for model in (trusted, doubted):
        model.observe(8, seconds(8, 5))
    assert trusted.planned(8) == doubted.planned(8)


def test_doubt_of_what_was_never_measured_is_complete() -> None:
    """A shape without a sweep is tried again however dear it seemed."""
    for model in (LatencyModel.prior(profile(), 64), LatencyModel.unknown(64)):
        model.observe(8, 10.0)
        model.doubt(math.inf)
        assert 1e-6 > model.planned(8)
        model.observe(8, 0.01)
        assert pytest.approx(0.01, rel=0.5) == model.mean(8) or model.mean(8) < 0.01
        check(model)


def test_statistics_tell_what_was_learnt() -> None:
    """Sizes, means, counts and the factors are all there."""
    model = LatencyModel(profile(padded=True), 64)
    model.observe(3, seconds(4))
    model.observe(64, seconds(64))
    learnt = model.statistics()
    assert SIZES == learnt.sizes
    assert (0, 0, 1, 0, 0, 0, 0, 0, 0, 1) == learnt.observations
    assert [pytest.approx(seconds(n)) for n in SIZES] == list(learnt.seconds)
    assert [model.planned(n) for n in SIZES] == list(learnt.planned)
    assert (2.0, 1.0, True, 2) == (learnt.z, learnt.g, learnt.padded, model.batches)
    assert "<LatencyModel 1: 2.29 ms, 64: 15.4 ms, z 2.00, g 1.000>" == repr(model)


def test_looking_at_a_model_changes_nothing() -> None:
    """The metrics page reads on a thread of its own, so nothing is made anew for it."""
    model = LatencyModel(profile(), 64)
    model.planned(8)
    model.observe(8, seconds(8, 1.3))
    held = (model._plan, model._mean, model._made_for)

    learnt = model.statistics()

    assert held == (model._plan, model._mean, model._made_for)
    assert [model.planned(n) for n in SIZES] == list(learnt.planned)
    assert [model.mean(n) for n in SIZES] == list(learnt.seconds)
    assert (model.row_seconds, 1) == (learnt.row_seconds, model.batches)


@pytest.mark.parametrize(
    ("values", "level"),
    [
        ([], []),
        ([1.0, 1.0, 2.0], [1.0, 1.0, 2.0]),
        ([4.0, 1.0], [2.0, 2.0]),
        ([1.0, 8.0, 4.0, 2.0, 16.0], [1.0, 4.0, 4.0, 4.0, 16.0]),
        ([2.0, 4.0, 1.0], [2.0, 2.0, 2.0]),
    ],
)
def test_descents_are_pooled(values: list[float], level: list[float]) -> None:
    """Neighbours that descend are replaced by their geometric mean."""
    assert [pytest.approx(v) for v in level] == isotonic(values, [1.0] * len(values))


def test_heavier_values_decide_in_a_pool() -> None:
    """A value of three times the weight counts three times, in logarithms."""
    assert [pytest.approx(2.0)] * 2 == isotonic([16.0, 1.0], [1.0, 3.0])


@pytest.mark.parametrize("seed", range(60))
def test_random_histories(seed: int) -> None:
    """Whatever happens to a model, its plans rise with the rows, and can be asked both ways."""
    rng = random.Random(seed)  # noqa: S311  # a history, not a secret
    make = rng.choice((LatencyModel, LatencyModel.prior))
    model = rng.choice((make(profile(padded=rng.random() < 0.5), 64), LatencyModel.unknown(64)))
    factor = 1.0
    for _ in range(rng.randint(1, 200)):
        what = rng.random()
        if what < 0.02:
            model.doubt(rng.expovariate(0.2))
        elif what < 0.05:
            factor = rng.uniform(0.3, 4)
        elif what < 0.1:
            model.outcome(rng.randrange(500), rng.randrange(8))
        elif what < 0.12:
            model.observe(rng.randint(1, 64), 10 ** rng.uniform(-7, 2))
        else:
            rows = min(64, 1 + int(rng.expovariate(0.1)))
            model.observe(rows, seconds(rows, factor) * rng.lognormvariate(0, 0.2))
    check(model)


def test_the_densest_batch_is_the_largest_unless_a_smaller_one_does_more() -> None:
    """Larger batches are wanted, but not where each of their rows takes longer."""
    sizes = (1, 2, 4, 8, 16)

    def densest(*seconds: float, most: int = 32) -> int:
        profile = LatencyProfile(sizes, seconds, (0.01,) * 5, padded=False)
        return LatencyModel.prior(profile, most).densest

    assert 32 == densest(1.0, 1.5, 2.5, 4.5, 8.5)
    # As measured of resnet18 on two cores: 116 rows a second at 8, 100 at 16.
    assert 8 == densest(0.0147, 0.0218, 0.0367, 0.0689, 0.1604)
    assert 4 == densest(0.0147, 0.0218, 0.0367, 0.0689, 0.1604, most=4)
    assert 32 == densest(1.0, 2.0, 4.0, 8.0, 16.5)
