"""The forms in which a model can run, compared with its plain form in answers and in speed.

``torch.jit.optimize_for_inference`` is a prototype and may be slower than doing nothing (seen:
four times, on a small convolution), and freezing moves answers by about 5e-7: so neither is
believed, both are measured on the device that will run them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from jitney.errors import JitneyError
from jitney.runtime.faults import classify, summary
from jitney.runtime.program import Program
from jitney.runtime.proofs import exact_arithmetic
from jitney.runtime.tensors import compare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.runtime.binding import Binding
    from jitney.runtime.random_inputs import RandomInputs
    from jitney.runtime.runner import Runner
    from jitney.runtime.tensors import Value

__all__ = ["Choice", "Forms", "choose"]

FORMS: Final = ("optimised", "frozen", "plain")
BUDGET_SECONDS: Final = 3.0
"""How long one form may be timed; larger batches are left out when they would take longer."""
ROUNDS: Final = 5
ROUND_SECONDS: Final = 1e-3
"""A round repeats a short run until it takes about so long: well above the clock's grain."""
LEAST_GAIN: Final = 1.03
"""Less is noise, and no reason to run something other than what the author tested."""
RUNS_UNTIL_COMPILED: Final = 3


class Choice(NamedTuple):
    """The form that runs, and why, in one sentence."""

    program: Program
    why: str
    notes: tuple[str, ...] = ()


class Forms:
    """Makes the forms of one loaded module; each is made when it is first asked for."""

    def __init__(
        self, module: torch.jit.ScriptModule, binding: Binding, *, calls_cudnn: bool = True
    ) -> None:
        """Take a module as its file has it.

        :param calls_cudnn: whether a form may call cuDNN by name, whatever torch's switch says.
        """
        self.module = module
        self._binding = binding
        self._calls_cudnn = calls_cudnn
        self._frozen: torch.jit.ScriptModule | None = None
        self.plain = Program("plain", module, binding)

    def frozen_module(self) -> torch.jit.ScriptModule:
        """Return the module with weights and attributes as constants.

        :raises RuntimeError: if torch cannot freeze it.
        """
        if self._frozen is None:
            with torch.no_grad():
                self._frozen = torch.jit.freeze(self.module)
        return self._frozen

    def make(self, form: str) -> Program:
        """Return a form of the module.

        :raises RuntimeError: if torch cannot make it.
        """
        if form == "plain":
            return self.plain
        module = self.frozen_module()
        if form == "optimised":
            if not self._calls_cudnn:
                msg = "it may call cuDNN by name, and the model's settings rule cuDNN out"
                raise RuntimeError(msg)
            with torch.no_grad():
                # From the plain module, not the frozen one: it freezes by itself.
                module = torch.jit.optimize_for_inference(self.module)
        return Program(form, module, self._binding)


class _Case(NamedTuple):
    """A batch size, its inputs, and the plain form's answer."""

    rows: int
    values: list[Value | None]
    expected: list[Value]


def choose(
    runner: Runner,
    forms: Forms,
    source: RandomInputs,
    *,
    bare: RandomInputs | None,
    buckets: Sequence[int],
    optimise: str,
    progress: Callable[[str], None],
) -> Choice:
    """Return the fastest form that answers like the plain one.

    Among forms that are equally fast it is the plainest.

    :param bare: makes inputs without the optional ones, where there are any: the answers to those
        are compared as well, at the smallest bucket.
    :param buckets: ascending; the first, the middle and the last are compared.
    :param optimise: as in ``LoadOptions``.
    """
    if optimise == "off":
        return Choice(forms.plain, "the model's settings ask for the plain form")
    notes: list[str] = []
    candidates: list[Program] = []
    with exact_arithmetic(runner.device):
        cases = _cases(runner, forms.plain, source, buckets)
        bare_cases = [] if bare is None else _cases(runner, forms.plain, bare, buckets[:1])
        for form in FORMS[:-1] if optimise != "frozen" else FORMS[1:-1]:
            progress(f"compare the {form} form")
            program, problem = _verified(runner, forms, form, [*cases, *bare_cases])
            if program is None:
                notes.append(f"the {form} form is not used: {problem}")
                continue
            candidates.append(program)
            if optimise != "auto":
                break
    candidates.append(forms.plain)
    if optimise != "auto" or len(candidates) == 1:
        why = "it answers like the plain form, and the model's settings ask for it"
        if candidates[0] is forms.plain:
            why = "no other form could be used"
        return Choice(candidates[0], why, tuple(notes))
    progress("time the forms")
    winner, why = _fastest(candidates, _times(runner, candidates, cases), cases)
    return Choice(winner, why, tuple(notes))


def _cases(
    runner: Runner, plain: Program, source: RandomInputs, buckets: Sequence[int]
) -> list[_Case]:
    cases: list[_Case] = []
    per_row = 0.0
    for rows in sorted({buckets[0], buckets[len(buckets) // 2], buckets[-1]}):
        # All runs of all forms at this size have to fit; the smallest size is always compared.
        if cases and per_row * rows * (RUNS_UNTIL_COMPILED + ROUNDS) > BUDGET_SECONDS:
            break
        values = source.make(rows, seed=2)
        try:
            for _ in range(RUNS_UNTIL_COMPILED):
                per_row = runner.seconds(plain, _copy(values), rows) / rows
            expected = runner.run(plain, _copy(values), rows)
        except Exception as exc:
            if classify(exc) != "oom" or not cases:
                raise
            break  # warm-up will find the largest size that fits
        cases.append(_Case(rows, values, expected))
    return cases


def _verified(
    runner: Runner, forms: Forms, form: str, cases: Sequence[_Case]
) -> tuple[Program | None, str]:
    try:
        program = forms.make(form)
        for rows, values, expected in cases:
            # Every run counts: the executor may compile another program after the first one.
            for _ in range(RUNS_UNTIL_COMPILED):
                actual = runner.run(program, _copy(values), rows)
                pairs = zip(runner.signature.outputs, expected, actual, strict=True)
                for spec, left, right in pairs:
                    within, difference = compare(left, right)
                    if not within:
                        return None, (
                            f"its output {spec.name!r} differs by {difference:.3g} from the plain "
                            f"form's at {rows} rows"
                        )
    except JitneyError as exc:
        return None, str(exc)
    except Exception as exc:  # torch raises many types here
        if classify(exc) == "fault":
            raise
        return None, summary(exc)
    return program, ""


def _copy(values: Sequence[Value | None]) -> list[Value | None]:
    # A model may write its inputs, and the next form has to see the same.
    return [v.clone() if isinstance(v, torch.Tensor) else v for v in values]


def _times(
    runner: Runner, candidates: Sequence[Program], cases: Sequence[_Case]
) -> dict[str, list[float]]:
    """Return the best time of each form at each size, in seconds.

    Rounds go through the forms in turn, so that a disturbance hits all of them; the minimum is
    what the form can do when nothing disturbs it.
    """
    times: dict[str, list[float]] = {program.form: [] for program in candidates}
    for rows, values, _ in cases:
        best = dict.fromkeys(times, math.inf)
        single = max(runner.seconds(candidates[-1], values, rows), 1e-7)
        repeats = max(1, min(100, int(ROUND_SECONDS / single)))
        for _ in range(max(1, min(ROUNDS, int(BUDGET_SECONDS / single)))):
            for program in candidates:
                seconds = runner.seconds(program, values, rows, repeats)
                best[program.form] = min(best[program.form], seconds)
        for form, seconds in best.items():
            times[form].append(seconds)
    return times


def _fastest(
    candidates: Sequence[Program], times: dict[str, list[float]], cases: Sequence[_Case]
) -> tuple[Program, str]:
    plain = times["plain"]
    ratios = {
        form: [base / own for base, own in zip(plain, measured, strict=True)]
        for form, measured in times.items()
    }
    means = {form: math.exp(sum(map(math.log, r)) / len(r)) for form, r in ratios.items()}
    winner = candidates[-1]
    for program in reversed(candidates[:-1]):
        if means[program.form] > LEAST_GAIN * means[winner.form]:
            winner = program
    sizes = ", ".join(str(case.rows) for case in cases)
    if winner.form == "plain":
        others = [program.form for program in candidates[:-1]]
        speeds = " and ".join(
            f"{form} runs at {means[form]:.2f} times its speed" for form in others
        )
        return winner, f"{speeds} (rows {sizes})"
    own = ", ".join(f"{ratio:.2f}" for ratio in ratios[winner.form])
    return winner, (
        f"it answers like the plain form and runs at {means[winner.form]:.2f} times its speed "
        f"(rows {sizes}: {own})"
    )
