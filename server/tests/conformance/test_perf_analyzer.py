from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from perf import PerfAnalyzer, Run

from jitney.telemetry.gpu import GpuFigures
from jitney.telemetry.host import HostFigures
from jitney.telemetry.metrics import Metrics
from jitney.telemetry.triton_page import PinnedMemory, TritonPage, VersionFigures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import tritonclient.grpc as triton
    from live_server import LiveServer

MANY = 16


@pytest.fixture
def perf(server: LiveServer, tmp_path: Path) -> PerfAnalyzer:
    """Return perf_analyzer, pointed at the shared server."""
    return PerfAnalyzer(server.address, tmp_path)


def check(run: Run, *, concurrency: int = 1, batch: int = 1) -> None:
    """Check that nothing went wrong, and that the server's figures add up to the client's.

    perf_analyzer counts the requests that ended within its windows, and takes the server's counters
    a moment later: a level's two counts differ by what ended in that moment, which is about as many
    as are under way at once. Over the whole run the server has seen those as well that came before
    the first window and after the last.

    :param concurrency: requests under way at once, at most.
    :param batch: rows of a request.
    """
    assert [] == run.complaints
    assert run.levels
    for level in run.levels:
        moment = 2 * concurrency + level.requests // 20
        assert 0 < level.requests
        assert abs(level.successes - level.requests) <= moment
        assert level.inferences == batch * level.successes
        assert 0 < level.executions <= level.successes
        # What the server says of itself is part of what the client waited for.
        assert 0 < level.server_us <= level.latency_us
        # Each of the five is cut to whole microseconds.
        assert abs(level.server_us - sum(level.server_parts)) <= len(level.server_parts)
    seen = sum(level.requests for level in run.levels)
    outside = run.moved.success - seen
    assert 0 <= outside <= 2 * concurrency * (len(run.levels) + 1) + seen // 4
    assert (0, run.moved.success) == (run.moved.fail, run.moved.queue)
    assert batch * run.moved.success == run.moved.inferences
    assert len(run.levels) == len(run.table)
    # The rest of the latency, after the server's part, is the network's; never less than nothing.
    assert all(float(row["Network+Server Send/Recv"]) > 0 for row in run.table)


def test_synchronous(perf: PerfAnalyzer) -> None:
    """One request at a time, the next when the last was answered."""
    run = perf.run("simple", "--sync")
    check(run)
    assert run.moved.success == run.moved.executions


def test_synchronous_threads(perf: PerfAnalyzer) -> None:
    """Four threads that each wait for their reply."""
    check(perf.run("simple", "--sync", "--concurrency-range", "4"), concurrency=4)


def test_asynchronous(perf: PerfAnalyzer) -> None:
    """Sixteen requests at once, which the server runs together."""
    run = perf.run("simple", "--async", "--concurrency-range", f"{MANY}")
    check(run, concurrency=MANY)
    assert run.moved.executions < run.moved.success


def test_streaming(perf: PerfAnalyzer) -> None:
    """The same requests on streams."""
    flags = ("--async", "--streaming", "--concurrency-range", f"{MANY}")
    check(perf.run("simple", *flags), concurrency=MANY)


def test_rows(perf: PerfAnalyzer) -> None:
    """Requests of four rows count as four inferences each."""
    check(perf.run("simple", "-b", "4", "--concurrency-range", "2"), concurrency=2, batch=4)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(perf: PerfAnalyzer, algorithm: str) -> None:
    """Requests may be compressed."""
    check(perf.run("simple", "--grpc-compression-algorithm", algorithm))


def test_concurrency_range(perf: PerfAnalyzer) -> None:
    """One level of concurrency after the other, in one run."""
    run = perf.run("simple", "--async", "--concurrency-range", "1:4", "-p", "300")
    check(run, concurrency=4)
    assert [1, 2, 3, 4] == [level.limit for level in run.levels]


def test_request_rate(perf: PerfAnalyzer) -> None:
    """Requests that come when they come, and not when the last was answered."""
    flags = ("--request-rate-range", "200", "--request-distribution", "poisson")
    run = perf.run("simple", "--async", *flags)
    check(run, concurrency=MANY)
    # Two hundred per second for three windows, each half as long again at most.
    assert 0.3 * 200 <= run.levels[0].requests <= 2 * 200


@pytest.mark.parametrize(
    "mode", [["--sync"], ["--async"], ["--async", "--streaming"]], ids=["sync", "async", "stream"]
)
def test_system_shared_memory(
    perf: PerfAnalyzer, client: triton.InferenceServerClient, mode: list[str]
) -> None:
    """Tensors go through regions that the client registers, and are gone afterwards."""
    flags = ("--shared-memory", "system", "--output-shared-memory-size", "64")
    run = perf.run("simple", *flags, "--concurrency-range", "2", *mode)
    check(run, concurrency=2)
    assert not client.get_system_shared_memory_status().regions


def test_large_tensors_in_shared_memory(perf: PerfAnalyzer) -> None:
    """A megabyte each way."""
    flags = ("--shared-memory", "system", "--output-shared-memory-size", f"{1 << 20}")
    check(perf.run("large", *flags, "--shape", f"INPUT0:{(1 << 20) // 4}"))


@pytest.mark.parametrize("model", ["simple_sequence", "simple_dyna_sequence"])
@pytest.mark.parametrize("mode", ["--sync", "--async", "--streaming"])
def test_sequences(perf: PerfAnalyzer, model: str, mode: str) -> None:
    """Sequences of about five requests each, in the ways that perf_analyzer has for them."""
    flags = ("--sequence-length", "5", "--sequence-id-range", "1000:2000")
    modes = ("--async", mode) if mode == "--streaming" else (mode,)
    run = perf.run(model, *flags, *modes, "--concurrency-range", "3")
    check(run, concurrency=3)
    assert "Sequence count" in run.output


def test_sequences_at_a_rate(perf: PerfAnalyzer) -> None:
    """Sequences whose requests come at a rate, and do not wait for their predecessors."""
    flags = ("--sequence-length", "5", "--num-of-sequences", "3", "--request-rate-range", "200")
    check(perf.run("simple_dyna_sequence", "--async", *flags), concurrency=MANY)


def test_texts(perf: PerfAnalyzer) -> None:
    """Every element is the text that it was told to send."""
    check(perf.run("simple_string", "--string-data", "42"))


def test_random_texts(perf: PerfAnalyzer) -> None:
    """Random texts, four in a row."""
    flags = ("--string-length", "32", "--shape", "INPUT0:4")
    check(perf.run("simple_identity", *flags, "-b", "2"), batch=2)


def test_texts_in_shared_memory(perf: PerfAnalyzer) -> None:
    """Texts have a region as well, as large as they may become."""
    flags = ("--string-length", "32", "--shape", "INPUT0:4", "--shared-memory", "system")
    check(perf.run("simple_identity", *flags, "--output-shared-memory-size", "1024"))


def test_a_model_without_batches(perf: PerfAnalyzer) -> None:
    """Shapes are the whole shapes where a model has no batch dimension."""
    check(perf.run("identity_fp32", "--shape", "INPUT0:3,5"))


def test_decoupled(perf: PerfAnalyzer, tmp_path: Path) -> None:
    """Each request has three replies, and counts once."""
    data = tmp_path / "repeat.json"
    request = {
        "IN": {"content": [1, 2, 3], "shape": [3]},
        "DELAY": {"content": [0, 0, 0], "shape": [3]},
        "WAIT": {"content": [0], "shape": [1]},
    }
    data.write_text(json.dumps({"data": [request]}))
    flags = ("--async", "--streaming", "--concurrency-range", "2", "--input-data", str(data))
    run = perf.run("repeat_int32", *flags)
    check(run, concurrency=2)
    (row,) = run.table
    assert 3 == pytest.approx(
        float(row["Response Throughput"]) / float(row["Inferences/Second"]), rel=0.02
    )


# -- metrics --------------------------------------------------------------------------------------


def collect(perf: PerfAnalyzer, url: str) -> Run:
    """Run while the figures behind an address are read every tenth of a second."""
    flags = ("--collect-metrics", "--metrics-url", url, "--metrics-interval", "100")
    return perf.run("simple", *flags)


def test_our_page_of_metrics(perf: PerfAnalyzer, server: LiveServer) -> None:
    """Our page is read; on a machine without a GPU it has no figures of one, as Triton's."""
    run = collect(perf, f"{server.metrics_url.removeprefix('http://')}/triton")
    only_gpus = [line for line in run.complaints if "'nv_gpu_" not in line]
    assert [] == only_gpus
    assert "Server Prometheus Metrics" in run.output


class OneGpu:
    """The sources of a page with one device."""

    def versions(self) -> Sequence[VersionFigures]:
        """None."""
        return ()

    def pinned(self) -> PinnedMemory:
        """None."""
        return PinnedMemory(0, 0)

    def host(self) -> HostFigures:
        """Whatever."""
        return HostFigures(0.5, 1 << 37, 1 << 36)

    def gpus(self) -> Sequence[GpuFigures]:
        """One, with more memory than fits into the digits of a float."""
        return [GpuFigures("GPU-1", 0.5, 150_121_545_728, 75_060_772_864, 350.5, 700.0, 1e6)]


@contextmanager
def serve_page(page: str) -> Iterator[str]:
    """Serve a text on a port of the loopback address; yield its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{http.server_port}/metrics/triton"
        finally:
            http.shutdown()
            thread.join()


def test_figures_of_a_gpu(perf: PerfAnalyzer) -> None:
    """Our rendering of a device's figures is one that perf_analyzer can read."""
    with serve_page(TritonPage(Metrics(), OneGpu()).render()) as url:
        run = collect(perf, url)
    check(run)
    (row,) = run.table
    assert (
        "GPU-1:0.5;",
        "GPU-1:350.5;",
        "GPU-1:75060772864;",
        "GPU-1:150121545728;",
    ) == (
        row["Avg GPU Utilization"],
        row["Avg GPU Power Usage"],
        row["Max GPU Memory Usage"],
        row["Total GPU Memory"],
    )
