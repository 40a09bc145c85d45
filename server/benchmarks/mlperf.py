"""MLPerf's LoadGen against our server, beside our own generator: ``python -m benchmarks.mlperf``.

Two programs that share no code judge the same server at the same rate: LoadGen in its Server
scenario (Poisson arrivals, latency from the scheduled moment, a percentile under a bound) through
``jitney_client``, and then ``jitney bench``. LoadGen is not changed; what it has no word for, wrong
answers and failed calls, is counted here and voids the run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import uvloop

from benchmarks import machine
from benchmarks.command import add_results, end_on_sigterm
from benchmarks.dialects import OIP
from benchmarks.peers.environment import COMPAT
from benchmarks.peers.exhibits import EXHIBITS, install
from benchmarks.peers.jitney import Jitney
from benchmarks.peers.peer import RunningPeer
from benchmarks.process import SERVE, SERVER_FOLDER, BenchmarkError
from jitney_client import AsyncClient, JitneyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from benchmarks.peers.exhibits import Show

__all__ = ["agreement", "main", "read_summary"]

LOADGEN: Final = COMPAT / "loadgen"
SUMMARY: Final = "mlperf_log_summary.txt"
PERCENTILE: Final = 0.99
CALL_TIMEOUT: Final = 60.0
NANOSECONDS: Final = 1e6
"""Per millisecond."""


class System:
    """What LoadGen calls: sends each sample with our client, from one event loop of its own.

    LoadGen calls ``issue`` from a thread of its own and must not be kept waiting, since a late
    return is a late next call.
    """

    def __init__(self, loadgen: ModuleType, address: str, show: Show) -> None:
        self._loadgen = loadgen
        self._model = show.exhibit.name
        names = [slot.name for slot in show.exhibit.inputs]
        self._inputs = [dict(zip(names, arrays, strict=True)) for arrays in show.cases]
        self._outputs = [slot.name for slot in show.exhibit.outputs]
        self._answers = show.answers
        self._tolerance = show.tolerance()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = self._wait(self._connect(address))
        self._tasks: set[asyncio.Task[None]] = set()
        self.wrong = 0
        self.failed = 0
        self.example = ""

    def issue(self, samples: Sequence[Any]) -> None:
        """Begin a call for each sample."""
        pairs = [(sample.id, sample.index) for sample in samples]
        self._loop.call_soon_threadsafe(self._begin, pairs)

    def close(self) -> None:
        """Close the client and end the loop."""
        self._wait(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, coroutine: Any) -> Any:  # noqa: ANN401  # whatever it returns
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_TIMEOUT)

    async def _connect(self, address: str) -> AsyncClient:
        client = AsyncClient(address, timeout=CALL_TIMEOUT)
        await client.infer(self._model, self._inputs[0])  # it asks for the metadata first
        return client

    def _begin(self, pairs: Sequence[tuple[int, int]]) -> None:
        for identity, index in pairs:
            task = self._loop.create_task(self._call(identity, index))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _call(self, identity: int, index: int) -> None:
        try:
            result = await self._client.infer(self._model, self._inputs[index])
        except JitneyError as error:
            self.failed += 1
            self.example = self.example or str(error)
        else:
            self._check(index, result)
        # Without it LoadGen waits for ever; a call that failed voids the run afterwards.
        response = self._loadgen.QuerySampleResponse(identity, 0, 0)
        self._loadgen.QuerySamplesComplete([response])

    def _check(self, index: int, result: Mapping[str, np.ndarray[Any, Any]]) -> None:
        for name, answer in zip(self._outputs, self._answers[index], strict=True):
            if not (np.abs(result[name] - answer) <= self._tolerance).all():
                self.wrong += 1
                self.example = self.example or f"{name} of input {index}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge a model at a rate, twice; return 1 unless the two agree."""
    options = _parser().parse_args(arguments)
    end_on_sigterm()
    try:
        loadgen = _import_loadgen()
        document = _judge(loadgen, options)
    except BenchmarkError as error:
        print(f"## mlperf: failed\n\n{error}", file=sys.stderr)
        return 1
    print(_text(document))
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "mlperf.json").write_text(json.dumps(document, indent=1) + "\n")
    return int(not document["agree"])


def read_summary(text: str) -> dict[str, str]:
    """Return the lines ``key : value`` of LoadGen's summary, by their keys."""
    pairs = (line.split(" : ", 1) for line in text.splitlines() if " : " in line)
    return {key.strip(): value.strip() for key, value in pairs}


def agreement(mlperf: Mapping[str, Any], ours: Mapping[str, Any]) -> bool | None:
    """Return whether both say the same; None where either has a run that says nothing."""
    if mlperf["void"] or ours["fault"]:
        return None
    return (mlperf["result"] == "VALID") is ours["met"]


def _import_loadgen() -> ModuleType:
    """Return LoadGen's module, which is in a folder of its own.

    :raises BenchmarkError: when it is not installed.
    """
    sys.path.append(str(LOADGEN))
    try:
        return importlib.import_module("mlperf_loadgen")
    except ImportError as error:
        msg = f"LoadGen is not installed: make .compat/loadgen/.done ({error})"
        raise BenchmarkError(msg) from error


def _judge(loadgen: ModuleType, options: argparse.Namespace) -> dict[str, Any]:
    facts = machine.describe()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        show = install(EXHIBITS[options.model], folder / "model")
        peer, work = Jitney(), folder / "jitney"
        work.mkdir()
        running = RunningPeer(peer, peer.launch(show, work), work / "log")
        stack.enter_context(running)
        running.wait_until_ready(show.workload(OIP).requests[0])
        mlperf = _with_loadgen(loadgen, running.address, show, options, folder)
        ours = _with_bench(running.address, options, folder)
    return {
        **facts,
        "benchmark": "mlperf",
        "title": "MLPerf's LoadGen, Server scenario, and jitney bench at the same rate",
        "model": options.model,
        "rate": options.rate,
        "slo_ms": options.slo_ms,
        "seconds": options.seconds,
        "mlperf": mlperf,
        "bench": ours,
        "agree": agreement(mlperf, ours),
    }


def _with_loadgen(
    loadgen: ModuleType, address: str, show: Show, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Let LoadGen judge; return its verdict, and its whole summary."""
    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.Server
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.server_target_qps = options.rate
    settings.server_target_latency_ns = round(options.slo_ms * NANOSECONDS)
    settings.server_target_latency_percentile = PERCENTILE
    settings.min_duration_ms = round(1000 * options.seconds)
    settings.min_query_count = 1  # the duration counts; early stopping asks for enough on its own
    logs = loadgen.LogSettings()
    logs.log_output.outdir = str(folder)
    logs.log_output.copy_summary_to_stdout = False
    system = System(loadgen, address, show)
    count = len(show.cases)
    sut = loadgen.ConstructSUT(system.issue, lambda: None)
    qsl = loadgen.ConstructQSL(count, count, lambda _: None, lambda _: None)
    try:
        loadgen.StartTestWithLogSettings(sut, qsl, settings, logs)
    finally:
        loadgen.DestroyQSL(qsl)
        loadgen.DestroySUT(sut)
        system.close()
    summary = read_summary((folder / SUMMARY).read_text())
    void = ""
    if system.wrong or system.failed:
        void = f"{system.wrong} wrong answers, {system.failed} failed calls: {system.example}"
    return {
        "result": summary["Result is"],
        "void": void,
        "p99_ms": int(summary["99.00 percentile latency (ns)"]) / NANOSECONDS,
        "p50_ms": int(summary["50.00 percentile latency (ns)"]) / NANOSECONDS,
        "scheduled_rate": float(summary["Scheduled samples per second"]),
        "completed_rate": float(summary["Completed samples per second"]),
        "summary": summary,
    }


def _with_bench(address: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Let ``jitney bench`` judge the same rate; return its verdict and its point."""
    file = folder / "bench.json"
    command = [
        *(sys.executable, "-c", SERVE, "bench", options.model, "--address", address),
        *("--rate", f"{options.rate:g}", "--slo-ms", f"{options.slo_ms:g}"),
        # LoadGen's calls may take their time (CALL_TIMEOUT): none is refused for being late.
        *("--duration", f"{options.seconds:g}", "--deadline-ms", "0", "--json", str(file)),
    ]
    exhibit = EXHIBITS[options.model]
    if exhibit.name == "minilm":
        for slot in exhibit.inputs:
            command += ["--shape", f"{slot.name}={slot.shape[0]}"]
    done = subprocess.run(  # our own command
        command, cwd=SERVER_FOLDER, check=False, capture_output=True, text=True
    )
    if not file.exists():
        msg = f"jitney bench failed ({done.returncode}): {done.stderr.strip()}"
        raise BenchmarkError(msg)
    (point,) = json.loads(file.read_text())["points"]
    return {"met": bool(point["met"]), "fault": point["fault"], "point": point}


def _text(document: Mapping[str, Any]) -> str:
    mlperf, ours = document["mlperf"], document["bench"]
    calls = ours["point"]["calls"]
    rates = f"scheduled {mlperf['scheduled_rate']:,.1f}/s, done {mlperf['completed_rate']:,.1f}/s"
    found = f"p50 {mlperf['p50_ms']:.3f} ms, p99 {mlperf['p99_ms']:.3f} ms; {rates}"
    verdict = "met" if ours["met"] else "missed"
    lines = [
        f"## {document['model']} at {document['rate']:g} calls/s, {document['slo_ms']:g} ms",
        "",
        f"MLPerf LoadGen  {mlperf['result']}; {found}",
        f"jitney bench    {verdict}; p50 {calls['p50_ms']:.3f} ms, p99 {calls['p99_ms']:.3f} ms",
    ]
    lines += [f"void: {mlperf['void']}"] if mlperf["void"] else []
    lines += [ours["fault"]] if ours["fault"] else []
    said = {True: "the two agree", False: "the two do not agree", None: "there is no verdict"}
    lines.append(said[document["agree"]])
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mlperf", description=__doc__)
    parser.add_argument("--model", choices=tuple(EXHIBITS), default="mlp")
    parser.add_argument("--rate", type=float, default=300.0, help="calls per second")
    parser.add_argument("--slo-ms", type=float, default=50.0, help="the bound of the p99")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run, at least")
    add_results(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
