"""Loading a model: read, bind, prove, choose a form, warm up."""

from __future__ import annotations

import gc
import time
import warnings
from typing import TYPE_CHECKING, Final

import torch

from jitney.errors import JitneyError, ModelError
from jitney.load_report import Golden, LoadReport
from jitney.runtime.binding import bind, schema_of
from jitney.runtime.buckets import ladder, refine
from jitney.runtime.faults import (
    MEMORY,
    NOT_BATCHABLE,
    RAISED,
    SIGNATURE,
    UNREADABLE,
    DeviceFault,
    classify,
    model_error,
    summary,
)
from jitney.runtime.forms import Choice, Forms, choose
from jitney.runtime.forward import Forward
from jitney.runtime.instance import Instance
from jitney.runtime.proofs import (
    Behaviour,
    Watch,
    draws,
    exact_arithmetic,
    not_batchable,
    observe,
    prove_golden,
    writes_in_graph,
)
from jitney.runtime.random_inputs import RandomInputs, row_shapes
from jitney.runtime.runner import Runner
from jitney.runtime.threads import choose_threads
from jitney.runtime.warmup import WarmUp
from jitney.samples import EXTRA_FILE, read_samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.load_options import LoadOptions
    from jitney.runtime.device import Device
    from jitney.samples import Sample

__all__ = ["load_instance"]

GIBIBYTE: Final = 1 << 30
BATCHABLE: Final = "each row is answered as if it were alone"
UNTRIED: Final = "one row at a time is what the settings ask for"


def load_instance(
    path: str, options: LoadOptions, device: Device, progress: Callable[[str], None]
) -> Instance:
    """Load a TorchScript file onto a device, and prove that it does what its signature says.

    Runs code from the file: only ever in a worker, and only for files that the repository knows.
    Takes seconds for a small model; ``progress`` is called with a few words before each step.

    :raises ModelError: with ``reason`` naming the check that failed, and a text for the operator.
    :raises DeviceFault: if the device was lost on the way; the process must end.
    """
    try:
        with warnings.catch_warnings(), device.active():
            # The one place where warnings are silenced: TorchScript is deprecated, which is for
            # the operator of this project to know, not for that of a model.
            warnings.simplefilter("ignore")
            return _Loading(path, options, device, progress).run()
    except (ModelError, DeviceFault):
        raise
    except JitneyError as exc:
        failure: Exception = model_error("MODEL_INVALID", str(exc))
    except Exception as exc:  # noqa: BLE001  # a foreign program, and damaged files raise anything
        failure = _translate(exc, device)
    # Outside the handler, so that the tensors in the old exception's frames are free by now.
    device.release()
    raise failure


def _translate(exc: Exception, device: Device) -> Exception:
    kind = classify(exc)
    if kind == "fault":
        return DeviceFault(summary(exc))
    if kind == "oom":
        memory = device.memory()
        return model_error(
            MEMORY,
            f"the model does not fit into the memory of {device.name}: "
            f"{memory['allocated'] / GIBIBYTE:.1f} of {memory['total'] / GIBIBYTE:.1f} GiB are "
            "taken by others; unload some, or give it another device",
        )
    return model_error(RAISED, f"the model raised on made-up inputs: {summary(exc)}")


class _Loading:
    """The state of one load, step by step."""

    def __init__(
        self, path: str, options: LoadOptions, device: Device, progress: Callable[[str], None]
    ) -> None:
        self.path = path
        self.options = options
        self.signature = options.signature
        self.device = device
        self.progress = progress
        self.runner = Runner(options.signature, device)
        self.warnings: list[str] = []

    def run(self) -> Instance:
        started, before = time.monotonic(), self.device.memory()["allocated"]
        self.progress("read")
        self.device.use_threads(self.device.threads)  # the model before may have used fewer
        module, samples = self._read()
        binding = bind(schema_of(module), self.signature)
        self.warnings += binding.warnings
        forms = Forms(module, binding)
        # The least that it takes: on the CPU the process's growth hides what it reuses.
        weights = sum(t.nbytes for t in (*module.parameters(), *module.buffers()))
        with exact_arithmetic(self.device):
            self.progress("check")
            watch = Watch(module)
            source, behaviour = self._observe(forms, samples)
            state = self._state(forms, watch)
            self._note(forms, behaviour, state)
            obstacle = self._obstacle(forms, source, behaviour, state)
            limit = self._limit(obstacle)
            buckets = ladder(limit) if self.signature.batched else (1,)
        choice = self._choose(forms, source, buckets, behaviour, state)
        threads, why_threads = choose_threads(self.runner, choice.program, source, buckets)
        if why_threads:
            self.why += f"; {why_threads}"
        with exact_arithmetic(self.device):
            # Rows that influence each other were answered together when the samples were taken.
            together = limit if obstacle is None else self.options.max_batch_size
            golden = self._golden(choice, samples, together, behaviour, state)
        forward = Forward(
            self.signature,
            self.device,
            choice.program,
            threads=threads,
            fresh_inputs=bool(behaviour.mutated_inputs or state),
        )
        warmth = self._warm_up(forward, source, buckets)
        form = choice.program.form
        if state:
            # The proofs and the warm-up have left traces in it: start from the file again.
            module, _ = self._read()
            forward = forward.of(Forms(module, binding).plain)
        del module, forms, watch, choice
        gc.collect()  # the forms that lost
        self.device.release()
        latency = warmth.profile(padded=self.device.pads and self.signature.batched)
        report = LoadReport(
            form=form,
            why=self.why,
            batchable=self.signature.batched and obstacle is None,
            batchable_why=obstacle or (BATCHABLE if limit > 1 else UNTRIED),
            max_batch_size=latency.sizes[-1] if self.signature.batched else 0,
            deterministic=behaviour.deterministic,
            mutated_state=tuple(sorted(state)),
            mutated_inputs=behaviour.mutated_inputs,
            golden=golden,
            latency=latency,
            peak_bytes=tuple(warmth.measured[rows].peak_bytes for rows in latency.sizes),
            memory_bytes=max(weights, self.device.memory()["allocated"] - before),
            load_seconds=time.monotonic() - started,
            warnings=tuple(self.warnings),
        )
        return Instance(self.options, forward, report)

    def _read(self) -> tuple[torch.jit.ScriptModule, list[Sample]]:
        extra = {EXTRA_FILE: ""}
        try:
            # Not in inference mode: parameters loaded there stay inference tensors for ever.
            with self.device.active(), torch.no_grad():
                module: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
                    self.path, map_location=self.device.torch_device, _extra_files=extra
                )
                module.eval()
                self.device.wait()
        except Exception as exc:  # about a third of damaged files raise something odd
            if classify(exc) != "model":
                raise
            text = summary(exc).replace(self.path, "the file")
            msg = f"torch cannot read the file ({text}); save it again with torch.jit.save"
            raise model_error(UNREADABLE, msg) from None
        if not hasattr(module, "forward"):
            msg = "the file has no method forward; script or trace the whole module"
            raise model_error(SIGNATURE, msg)
        data: object = extra[EXTRA_FILE]  # bytes, whatever the annotation says; empty if absent
        return module, read_samples(data if isinstance(data, bytes) else b"")

    def _observe(self, forms: Forms, samples: list[Sample]) -> tuple[RandomInputs, Behaviour]:
        failure: Exception | None = None
        for shapes in row_shapes(self.signature, samples):
            source = RandomInputs(self.signature, shapes, self.device.torch_device)
            try:
                behaviour = observe(self.runner, forms.plain, source)
            except ModelError:
                raise
            except Exception as exc:
                if classify(exc) != "model":
                    raise
                failure = failure or exc
                continue
            return source, behaviour
        if isinstance(failure, JitneyError):
            msg = f"{failure}; correct the signature or the model"
        else:
            text = summary(failure) if failure is not None else "nothing to try"
            msg = f"the model raised on made-up inputs: {text}; do low and high bound its inputs?"
        raise model_error(SIGNATURE, msg)

    def _state(self, forms: Forms, watch: Watch) -> set[str]:
        """Return what a run writes: seen at run time, or possible by the graph."""
        written = watch.changed()
        try:
            written |= writes_in_graph(forms.frozen_module())
        except RuntimeError as exc:
            if classify(exc) != "model":
                raise
            self.warnings.append(f"torch cannot freeze the model: {summary(exc)}")
        if written:
            self.warnings.append(
                f"a run writes {', '.join(sorted(written))} of the model, so answers depend on "
                "what was asked before; requests are not batched"
            )
        return written

    def _note(self, forms: Forms, behaviour: Behaviour, state: set[str]) -> None:
        if behaviour.not_finite:
            names = ", ".join(behaviour.not_finite)
            self.warnings.append(f"NaN or infinities on finite inputs, in {names}")
        if behaviour.mutated_inputs:
            names = ", ".join(behaviour.mutated_inputs)
            self.warnings.append(f"a run writes its inputs {names}; it is given copies")
        if not behaviour.deterministic and not state:
            found = ", ".join(draws(forms.module)) or "no operator that is known to draw numbers"
            self.warnings.append(f"the same input gave two answers; the graph has {found}")

    def _obstacle(
        self, forms: Forms, source: RandomInputs, behaviour: Behaviour, state: set[str]
    ) -> str | None:
        """Return why rows of several requests must not share a batch, or None."""
        if not self.signature.batched:
            return "the signature has no batch dimension"
        if state:
            return f"a run writes {', '.join(sorted(state))} of the model"
        if self.options.max_batch_size == 1:
            return None
        obstacle = not_batchable(
            self.runner,
            forms.plain,
            source,
            repeatable=behaviour.repeatable,
            padding=self.device.pads,
        )
        if obstacle is None and not behaviour.repeatable:
            self.warnings.append("answers vary, so it is not proved that rows do not mix")
        if obstacle is not None:
            self.warnings.append(f"not batchable, one row at a time: {obstacle}")
        return obstacle

    def _limit(self, obstacle: str | None) -> int:
        if obstacle is not None and self.signature.batched:
            if self.options.batching_required:
                msg = f"batching is required, and the model cannot be batched: {obstacle}"
                raise model_error(NOT_BATCHABLE, msg)
            return 1
        return self.options.max_batch_size if self.signature.batched else 1

    def _choose(
        self,
        forms: Forms,
        source: RandomInputs,
        buckets: tuple[int, ...],
        behaviour: Behaviour,
        state: set[str],
    ) -> Choice:
        if state or not behaviour.repeatable:
            what = "a run writes the model's state" if state else "answers vary from run to run"
            choice = Choice(forms.plain, f"{what}, so no other form can be compared with it")
        else:
            choice = choose(
                self.runner,
                forms,
                source,
                buckets=buckets,
                optimise=self.options.optimise,
                progress=self.progress,
            )
        self.why = choice.why
        self.warnings += choice.notes
        return choice

    def _golden(
        self,
        choice: Choice,
        samples: list[Sample],
        limit: int,
        behaviour: Behaviour,
        state: set[str],
    ) -> Golden:
        if samples and (state or not behaviour.repeatable):
            self.warnings.append("answers vary, so the golden samples were not compared")
            return Golden(0, 0.0)
        self.progress("compare golden samples")
        return prove_golden(self.runner, choice.program, samples, limit)

    def _warm_up(self, forward: Forward, source: RandomInputs, buckets: tuple[int, ...]) -> WarmUp:
        warmth = WarmUp(
            forward,
            source,
            most_runs=self.options.warmup_runs,
            budget=self.options.sweep_seconds,
            progress=self.progress,
        )
        warmth.run(buckets)
        largest = max(warmth.measured)
        if warmth.dropped:
            self.warnings.append(
                f"batches of {', '.join(map(str, sorted(warmth.dropped)))} rows do not fit into "
                f"the memory of {self.device.name}; the limit is {largest} rows"
            )
        if self.device.pads and self.signature.batched:
            latency = warmth.profile(padded=True)
            slo = self.options.default_slo_seconds
            warmth.run(refine(latency.sizes, latency.seconds, slo))
        return warmth
