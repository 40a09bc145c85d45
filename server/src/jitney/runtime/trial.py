"""The first runs of a model: what it does with made-up inputs, and what follows for its batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import JitneyError, ModelError
from jitney.runtime.faults import SIGNATURE, classify, model_error, summary
from jitney.runtime.proofs import Behaviour, Watch, draws, not_batchable, observe, writes_in_graph
from jitney.runtime.random_inputs import RandomInputs, row_shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.load_options import LoadOptions
    from jitney.runtime.forms import Forms
    from jitney.runtime.runner import Runner
    from jitney.samples import Sample

__all__ = ["REMEDY", "Findings", "Trial"]

BATCHABLE: Final = "each row is answered as if it were alone"
UNTRIED: Final = "one row at a time is what the settings ask for"
DESCRIBED: Final = "its signature (config.pbtxt, model.toml or what was packed)"
REMEDY: Final = (
    f"correct the inputs in {DESCRIBED}, or bound their values with low and high in model.toml"
)
STATEFUL: Final = "it keeps state, and is told which row belongs to whom"


class Findings(NamedTuple):
    """What was found out.

    ``source`` makes inputs that the model takes, ``bare`` the same without the optional ones; it is
    None where none is optional. ``state`` names what a run writes of the model. ``obstacle`` says
    why rows of several requests must not share a batch, None where they may; ``most_rows`` is how
    many the model can be given at once, whosever they are.
    """

    source: RandomInputs
    bare: RandomInputs | None
    behaviour: Behaviour
    state: frozenset[str]
    obstacle: str | None
    most_rows: int
    stateful: bool
    why_batchable: str

    @property
    def writes(self) -> bool:
        """Whether a run leaves something behind, found or on purpose."""
        return bool(self.state) or self.stateful

    @property
    def incomparable(self) -> str:
        """Why two runs cannot be compared, empty where they can."""
        if self.writes:
            return "a run writes the model's state"
        return "" if self.behaviour.repeatable else "answers vary from run to run"


class Trial:
    """Runs a model as its file has it, with nothing around it; ``warnings`` are for the operator.

    A model that is ``stateful`` on purpose is not asked what only stateless ones can answer.
    """

    def __init__(self, runner: Runner, forms: Forms, options: LoadOptions) -> None:
        self.warnings: list[str] = []
        self._runner = runner
        self._forms = forms
        self._options = options
        self._signature = options.signature

    def run(self, samples: Sequence[Sample]) -> Findings:
        """Find out.

        :param samples: golden samples, whose inputs show what sizes work.
        :raises ModelError: if the model does not take or give what its signature says.
        """
        watch = Watch(self._forms.module)
        source, behaviour = self._observe(samples)
        bare = source.bare()
        if bare is not None:
            self._observe_bare(bare)
        state = self._state(watch)
        self._note(behaviour, state)
        obstacle = self._obstacle(source, bare, behaviour, state)
        most_rows = self._most_rows(source, obstacle)
        why = BATCHABLE if self._options.max_batch_size > 1 else UNTRIED
        stateful = self._options.stateful
        return Findings(
            *(source, bare, behaviour, frozenset(state), obstacle, most_rows, stateful),
            why_batchable=STATEFUL if stateful else why,
        )

    def _observe(self, samples: Sequence[Sample]) -> tuple[RandomInputs, Behaviour]:
        failure: Exception | None = None
        for shapes in row_shapes(self._signature, samples):
            source = RandomInputs(self._signature, shapes, self._runner.device.torch_device)
            try:
                behaviour = observe(self._runner, self._forms.plain, source)
            except ModelError:
                raise
            except Exception as exc:
                if classify(exc) != "model":
                    raise
                failure = failure or exc
                continue
            return source, behaviour
        if isinstance(failure, JitneyError):
            msg = f"{failure}; correct {DESCRIBED}, or the model"
        else:
            text = summary(failure) if failure is not None else "nothing to try"
            msg = f"the model raised on made-up inputs: {text}; {REMEDY}"
        raise model_error(SIGNATURE, msg)

    def _observe_bare(self, bare: RandomInputs) -> None:
        try:
            observe(self._runner, self._forms.plain, bare)
        except Exception as exc:
            if classify(exc) != "model":
                raise
            names = ", ".join(spec.name for spec in self._signature.inputs if spec.optional)
            msg = (
                f"the model fails without its optional inputs {names}: {summary(exc)}; remove "
                "optional from those that it needs"
            )
            raise model_error(SIGNATURE, msg) from None

    def _state(self, watch: Watch) -> set[str]:
        """Return what a run writes: seen at run time, or possible by the graph."""
        written = watch.changed()
        try:
            written |= writes_in_graph(self._forms.frozen_module())
        except RuntimeError as exc:
            if classify(exc) != "model":
                raise
            self.warnings.append(f"torch cannot freeze the model: {summary(exc)}")
        if written and not self._options.stateful:
            self.warnings.append(
                f"a run writes {', '.join(sorted(written))} of the model, so answers depend on "
                "what was asked before; requests are not batched"
            )
        return written

    def _note(self, behaviour: Behaviour, state: set[str]) -> None:
        if behaviour.not_finite:
            names = ", ".join(behaviour.not_finite)
            self.warnings.append(f"NaN or infinities on finite inputs, in {names}")
        if behaviour.mutated_inputs:
            names = ", ".join(behaviour.mutated_inputs)
            self.warnings.append(f"a run writes its inputs {names}; it is given copies")
        if not behaviour.deterministic and not state and not self._options.stateful:
            found = ", ".join(draws(self._forms.module))
            found = found or "no operator that is known to draw numbers"
            self.warnings.append(f"the same input gave two answers; the graph has {found}")

    def _obstacle(
        self,
        source: RandomInputs,
        bare: RandomInputs | None,
        behaviour: Behaviour,
        state: set[str],
    ) -> str | None:
        """Return why rows of several requests must not share a batch, or None."""
        if not self._signature.batched:
            return "the signature has no batch dimension"
        if self._options.stateful:
            return None
        if not self._options.shared:
            return "its operator lets every request run alone"
        if state:
            return f"a run writes {', '.join(sorted(state))} of the model"
        if self._options.max_batch_size == 1:
            return None
        obstacle = self._mixes(source, behaviour)
        if obstacle is None and bare is not None:
            without = self._mixes(bare, behaviour)
            obstacle = without and f"without its optional inputs, {without}"
        if obstacle is None and not behaviour.repeatable:
            self.warnings.append("answers vary, so it is not proved that rows do not mix")
        if obstacle is not None:
            self.warnings.append(f"not batchable, one request at a time: {obstacle}")
        return obstacle

    def _most_rows(self, source: RandomInputs, obstacle: str | None) -> int:
        """Return the most rows that the model is given at once.

        Where requests share no batch, those of one request still are one, as their caller means
        it; but a model for which that is so may have been made for single rows, which is seen.
        """
        if not self._signature.batched:
            return 1
        most = self._options.max_batch_size
        if obstacle is None or most == 1:
            return most
        try:
            self._runner.run(self._forms.plain, source.make(most), most)
        except Exception as exc:
            kind = classify(exc)
            if kind == "oom":
                return most  # the warm-up finds out how many fit
            if kind != "model":
                raise
            self.warnings.append(f"one row at a time: {most} rows at once fail with {summary(exc)}")
            return 1
        return most

    def _mixes(self, source: RandomInputs, behaviour: Behaviour) -> str | None:
        return not_batchable(
            self._runner,
            self._forms.plain,
            source,
            repeatable=behaviour.repeatable,
            padding=self._runner.device.pads,
        )
