"""From what was found of a version to what a loader needs."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from jitney.builtin import device_of
from jitney.errors import JitneyError, ModelError
from jitney.execution.builtin.rules import check, default_signature
from jitney.execution.loading import LoadSpec
from jitney.load_options import LoadOptions
from jitney.repository.archive import Kind, read_archive
from jitney.repository.handle import ModelVersion
from jitney.repository.limits import limits_of
from jitney.repository.manifest import FILE_NAME, TRITON_FILE_NAME, resolve_signature
from jitney.repository.placing import place
from jitney.repository.room import rows_that_fit
from jitney.repository.scan_policy import ScanPolicy
from jitney.repository.sealed import seal
from jitney.repository.side_files import nothing_to_read
from jitney.signature import Signature
from jitney.warmup_sample import WarmupInput, WarmupSample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from jitney.builtin import BuiltinSpec
    from jitney.config import BatchingSettings
    from jitney.execution.loading import HeldFile
    from jitney.repository.archive import Archive
    from jitney.repository.manifest import ModelManifest, WarmupManifest
    from jitney.repository.sealed import SealedFile
    from jitney.repository.side_files import ReadFile
    from jitney.types import ModelRef

    Source = Callable[[], SealedFile]
    Vet = Callable[[SealedFile], str]

__all__ = ["WARMUP_FOLDER", "Candidate", "Preparer", "from_path", "unvetted"]

WARMUP_FOLDER: Final = "warmup"
"""The folder of a model's folder in which the files of its warm-up samples are."""
TELL_EVERY: Final = 1.0
"""Seconds between two lines about one load; quick loads need none."""
MADE_UP: Final[Mapping[str, Literal["zero", "random"]]] = {"zero": "zero", "random": "random"}
"""What a manifest says in place of the name of a file."""


class Candidate(NamedTuple):
    """A version that is ready to be loaded, as callers see it and as a loader does.

    ``signer`` is the fingerprint of the key that signed its files, empty where none was asked for.
    """

    handle: ModelVersion
    spec: LoadSpec
    warnings: tuple[str, ...] = ()
    signer: str = ""


def from_path(path: Path) -> Source:
    """Return how to read a model's file: hashed, into memory that cannot change any more."""
    return lambda: seal(path)


def unvetted(_: SealedFile) -> str:
    """Demand nothing of a model's file."""
    return ""


class Preparer:
    """Reads what a version's files say, and puts it together with what its operator allows.

    A model's file is read once for every load; every later load (onto the worker that replaces a
    dead one) must find the same digest. Nothing is run, and torch is not imported.
    """

    def __init__(
        self,
        defaults: BatchingSettings,
        slot_bytes: int,
        devices: Sequence[str],
        say: Callable[[str], None],
        now: Callable[[], float],
        scan: ScanPolicy | None = None,
    ) -> None:
        """Prepare nothing yet.

        :param devices: the names of the server's.
        :param say: is told what the operator should see while models load.
        :param now: monotonic seconds, to say it no more than once a second.
        :param scan: what becomes of files in which something is found; refused, unless it says
            otherwise.
        """
        self._scan = scan or ScanPolicy()
        self._defaults = defaults
        self._slot_bytes = slot_bytes
        self._devices = devices
        self._say = say
        self._now = now

    def prepare(
        self,
        ref: ModelRef,
        source: Source | None,
        manifest: ModelManifest,
        read_warmup: ReadFile = nothing_to_read,
        vet: Vet = unvetted,
    ) -> Candidate:
        """Return a version as it would be loaded; takes as long as reading and hashing its file.

        :param source: reads its file; None for a built-in model.
        :param read_warmup: reads the files that its warm-up names.
        :param vet: is asked whether the file is the one that was promised, before it is read.
        :raises ModelError: when the file is not what it should be, no device may have it, or one
            row of it is larger than a batch buffer.
        :raises ConfigError: when its operator and its author contradict each other.
        """
        devices, warnings = place(manifest, self._devices)
        if manifest.builtin is not None:
            signature = _builtin_signature(manifest, manifest.builtin)
            digest, signer = hashlib.sha256(repr(manifest).encode()).hexdigest(), ""
            reopen: Callable[[], AbstractContextManager[HeldFile]] = _no_file
            runs_on: tuple[str, ...] = (device_of(ref),)
        else:
            if source is None:
                msg = "it has no file"
                raise ModelError(msg)
            with source() as sealed:
                digest = sealed.sha256
                try:
                    signer = vet(sealed)
                    archive = _read(sealed)
                    warnings = (*warnings, *self._scan.judge(archive.findings, digest))
                    signature = _signature(archive, manifest)
                except ModelError as error:
                    error.digest = digest
                    raise
            reopen = _unchanged(source, digest)
            runs_on = devices
        limits = limits_of(manifest, self._defaults, self._slot_bytes)
        asked = limits.max_batch_size if signature.batched else 1
        rows, too_many = rows_that_fit(signature, asked, self._slot_bytes)
        if manifest.max_batch_size is not None:  # a default need not be reached
            warnings = (*warnings, *too_many)
        most_rows = asked if signature.batched else math.inf
        limits = limits._replace(max_batch_size=min(limits.max_batch_size, rows))
        handle = ModelVersion(ref, signature, limits, digest, runs_on, manifest)
        options = LoadOptions(
            ref.name,
            ref.version,
            _unlabelled(handle.model_signature),
            max_batch_size=limits.max_batch_size,
            batching_required=manifest.batching.required,
            optimise=manifest.runtime.optimise,
            default_slo_seconds=limits.default_slo if limits.default_slo < math.inf else 0.0,
            inference_mode=manifest.runtime.inference_mode,
            cudnn=manifest.runtime.cudnn,
            stateful=manifest.sequence is not None,
            shared=limits.shared,
            buckets=manifest.batching.buckets,
            warmup=tuple(_sample(given, most_rows, read_warmup) for given in manifest.warmup),
        )
        spec = LoadSpec(ref, options, reopen, self._progress(ref), devices, manifest.builtin)
        return Candidate(handle, spec, warnings, signer)

    def _progress(self, ref: ModelRef) -> Callable[[str, str], None]:
        told_at = self._now()

        def progress(device: str, text: str) -> None:
            nonlocal told_at
            if (now := self._now()) - told_at >= TELL_EVERY:
                told_at = now
                self._say(f"{ref}: loading on {device}: {text}")

        return progress


def _read(sealed: SealedFile) -> Archive:
    with open(f"/proc/self/fd/{sealed.fd}", "rb") as file:  # noqa: PTH123  # a descriptor
        archive = read_archive(file)
    if archive.kind is Kind.UNKNOWN:
        msg = f"it lacks {'; '.join(archive.missing())}"
        raise ModelError(msg)
    if archive.kind is not Kind.TORCHSCRIPT:
        # A worker could not load it either, and nobody looked through its code.
        msg = f"its file is of the kind {archive.kind.value}, and only TorchScript is served"
        raise ModelError(msg)
    return archive


def _signature(archive: Archive, manifest: ModelManifest) -> Signature:
    signature = resolve_signature(manifest, archive.signature)
    if signature is None:
        also = f", or add input and output to {TRITON_FILE_NAME}" if manifest.config else ""
        msg = (
            f"nothing says what it takes and gives. Either pack it (jitney pack){also}, or put a "
            f"{FILE_NAME} into its folder, such as this:\n{archive.skeleton()}"
        )
        raise ModelError(msg)
    return signature


def _builtin_signature(manifest: ModelManifest, builtin: BuiltinSpec) -> Signature:
    signature = resolve_signature(manifest, None) or default_signature(builtin.handler)
    if signature is None:
        msg = "nothing says what it takes and gives: describe its inputs and outputs"
        raise ModelError(msg)
    check(builtin, signature)
    return signature


def _sample(given: WarmupManifest, most_rows: float, read: ReadFile) -> WarmupSample:
    """Return a sample with the bytes of the files that it names.

    :param most_rows: how many a batch may have by the operator's own settings, where rows count.
    """
    if given.rows > most_rows:
        msg = (
            f"warm-up sample {given.name!r}: {given.rows} rows, and a batch of this model may have "
            f"{most_rows}"
        )
        raise ModelError(msg)
    inputs = []
    for name, (source, shape) in given.inputs.items():
        if source in MADE_UP:
            inputs.append(WarmupInput(name, MADE_UP[source], shape))
        else:
            try:
                data = read(source)
            except JitneyError as error:
                msg = f"warm-up sample {given.name!r}: {WARMUP_FOLDER}/{error}"
                raise type(error)(msg) from None
            inputs.append(WarmupInput(name, "data", shape, data))
    return WarmupSample(given.name, given.rows, given.count, tuple(inputs))


def _unchanged(source: Source, digest: str) -> Source:
    def reopen() -> SealedFile:
        again = source()
        if again.sha256 != digest:
            again.close()
            msg = "its file changed since it was first loaded; load it again to serve the new one"
            raise ModelError(msg)
        return again

    return reopen


def _no_file() -> AbstractContextManager[HeldFile]:
    msg = "a built-in model has no file"
    raise ModelError(msg)


def _unlabelled(signature: Signature) -> Signature:
    """Return what a worker needs of a signature: names of classes can be long, and are not."""
    outputs = tuple(dataclasses.replace(spec, labels=()) for spec in signature.outputs)
    return Signature(signature.inputs, outputs)
