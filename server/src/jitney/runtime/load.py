"""Loading a model: read, bind, prove, choose a form, warm up."""

from __future__ import annotations

import contextlib
import copy
import gc
import time
import warnings
from typing import TYPE_CHECKING, Final

from jitney.errors import JitneyError, ModelError
from jitney.load_report import Golden, LoadReport
from jitney.runtime.binding import bind, schema_of
from jitney.runtime.buckets import ladder, refine
from jitney.runtime.faults import (
    MEMORY,
    NOT_BATCHABLE,
    RAISED,
    DeviceFault,
    classify,
    model_error,
    summary,
)
from jitney.runtime.forms import Choice, Forms, choose
from jitney.runtime.forward import Forward
from jitney.runtime.instance import Instance
from jitney.runtime.modes import mode_of, without_cudnn
from jitney.runtime.proofs import exact_arithmetic, prove_golden
from jitney.runtime.reading import read_model
from jitney.runtime.rehearsal import Rehearsal
from jitney.runtime.runner import Runner
from jitney.runtime.threads import choose_threads
from jitney.runtime.trial import REMEDY, Findings, Trial
from jitney.runtime.warmup import WarmUp

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from jitney.latency_profile import LatencyProfile
    from jitney.load_options import LoadOptions
    from jitney.runtime.device import Device
    from jitney.samples import Sample

__all__ = ["load_instance"]

GIBIBYTE: Final = 1 << 30
EVERY_SIZE: Final = 16
"""Up to so many rows every batch size is warmed where batches cannot be padded and new sizes are
expensive; a sequence batcher rarely has more."""


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
        cudnn = contextlib.nullcontext() if options.cudnn else without_cudnn()
        with warnings.catch_warnings(), device.active(), cudnn:
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
    return model_error(RAISED, f"the model raised on made-up inputs: {summary(exc)}; {REMEDY}")


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
        self.mode = mode_of(options)
        self.runner = Runner(options.signature, device, self.mode)
        # Padding repeats a row, which would move the state of the one whose row it is.
        self.pads = device.pads and options.signature.batched and not options.stateful
        self.warnings: list[str] = []

    def run(self) -> Instance:
        started, before = time.monotonic(), self.device.memory()["allocated"]
        self.progress("read")
        self.device.use_threads(self.device.threads)  # the model before may have used fewer
        module, samples = read_model(self.path, self.device)
        untouched = self._untouched(module)
        binding = bind(schema_of(module), self.signature)
        self.warnings += binding.warnings
        calls_cudnn = self.options.cudnn or self.device.torch_device.type != "cuda"
        forms = Forms(module, binding, calls_cudnn=calls_cudnn)
        # The least that it takes: on the CPU the process's growth hides what it reuses.
        weights = sum(t.nbytes for t in (*module.parameters(), *module.buffers()))
        with exact_arithmetic(self.device):
            self.progress("check")
            trial = Trial(self.runner, forms, self.options)
            found = trial.run(samples)
            self.warnings += trial.warnings
            limit = self._limit(found)
            # Nor may padding stand beside rows that influence each other.
            self.pads = self.pads and found.obstacle is None
            buckets = self._buckets(limit)
        choice = self._choose(forms, found, buckets)
        threads, why_threads = choose_threads(self.runner, choice.program, found.source, buckets)
        self.device.use_threads(threads.most)
        with exact_arithmetic(self.device):
            # Rows that influence each other were answered together when the samples were taken.
            together = limit if found.obstacle is None else self.options.max_batch_size
            golden = self._golden(choice, samples, together, found)
        forward = Forward(
            self.signature,
            self.device,
            choice.program,
            threads=threads,
            fresh_inputs=bool(found.behaviour.mutated_inputs) or found.writes,
            mode=self.mode,
        )
        warmth = self._warm_up(forward, found, buckets)
        latency = warmth.profile(padded=self.pads)
        self._rehearse(forward, found, latency)
        form = choice.program.form
        if found.writes:
            # The proofs and the warm-up have left traces in it: start as it was.
            untouched = untouched or read_model(self.path, self.device)[0]
            forward = forward.of(Forms(untouched, binding).plain)
        del module, untouched, forms, trial, choice
        gc.collect()  # the forms that lost
        self.device.release()
        report = LoadReport(
            form=form,
            why="; ".join(filter(None, (self.why, why_threads))),
            batchable=self.signature.batched and found.obstacle is None,
            batchable_why=found.obstacle or found.why_batchable,
            max_batch_size=latency.sizes[-1] if self.signature.batched else 0,
            deterministic=found.behaviour.deterministic,
            mutated_state=tuple(sorted(found.state)),
            mutated_inputs=found.behaviour.mutated_inputs,
            golden=golden,
            latency=latency,
            peak_bytes=tuple(warmth.measured[rows].peak_bytes for rows in latency.sizes),
            memory_bytes=max(weights, self.device.memory()["allocated"] - before),
            load_seconds=time.monotonic() - started,
            warnings=tuple(self.warnings),
        )
        return Instance(self.options, forward, report)

    def _untouched(self, module: torch.jit.ScriptModule) -> torch.jit.ScriptModule | None:
        """Return a copy of a model that is known to keep state, None where reading again has to do.

        A copy shares what the executor compiles for the original, so it is warm when it is served;
        one that is read again compiles everything in the middle of somebody's sequence.
        """
        if not self.options.stateful:
            return None
        try:
            copied: torch.jit.ScriptModule = copy.deepcopy(module)
        except Exception as exc:  # of classes that cannot be copied
            if classify(exc) != "model":
                raise
            return None
        return copied

    def _limit(self, found: Findings) -> int:
        required = self.options.batching_required and self.signature.batched
        if required and found.obstacle is not None:
            msg = f"batching is required, and the model cannot be batched: {found.obstacle}"
            raise model_error(NOT_BATCHABLE, msg)
        return found.most_rows

    def _buckets(self, limit: int) -> tuple[int, ...]:
        """Return the batch sizes to be measured: our own, and those that the operator wants."""
        if too_large := sorted({rows for rows in self.options.buckets if rows > limit}):
            self.warnings.append(
                f"the buckets {', '.join(map(str, too_large))} are left out: a batch of this model "
                f"has at most {limit} row{'s' if limit > 1 else ''}"
            )
        sizes = {*ladder(limit), *(rows for rows in self.options.buckets if rows <= limit)}
        if self.device.pads and not self.pads:
            sizes.update(range(1, min(limit, EVERY_SIZE) + 1))
        return tuple(sorted(sizes))

    def _choose(self, forms: Forms, found: Findings, buckets: tuple[int, ...]) -> Choice:
        if found.incomparable:
            why = f"{found.incomparable}, so no other form can be compared with it"
            choice = Choice(forms.plain, why)
        else:
            choice = choose(
                self.runner,
                forms,
                found.source,
                bare=found.bare,
                buckets=buckets,
                optimise=self.options.optimise,
                progress=self.progress,
            )
        self.why = choice.why
        self.warnings += choice.notes
        return choice

    def _golden(self, choice: Choice, samples: list[Sample], limit: int, found: Findings) -> Golden:
        if samples and found.incomparable:
            self.warnings.append(f"{found.incomparable}, so the golden samples were not compared")
            return Golden(0, 0.0)
        self.progress("compare golden samples")
        return prove_golden(self.runner, choice.program, samples, limit)

    def _warm_up(self, forward: Forward, found: Findings, buckets: tuple[int, ...]) -> WarmUp:
        warmth = WarmUp(
            forward,
            found.source,
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
        if self.pads:
            latency = warmth.profile(padded=True)
            slo = self.options.default_slo_seconds
            warmth.run(refine(latency.sizes, latency.seconds, slo))
        return warmth

    def _rehearse(self, forward: Forward, found: Findings, latency: LatencyProfile) -> None:
        rehearsal = Rehearsal(forward, latency, self.progress)
        if found.bare is not None:
            rehearsal.without_optional(found.bare)
        rehearsal.play(self.options.warmup)
