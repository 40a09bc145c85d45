from __future__ import annotations

import re
import urllib.request
from typing import TYPE_CHECKING

import pytest
from calls import add_sub, error_of
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    import tritonclient.grpc as triton
    from live_server import LiveServer

SAMPLE = re.compile(r"^nv_[a-z_]+(\{([a-z_]+=\"[^\"]*\",?)+\})? [0-9]+(\.[0-9]+)?$")


def page(server: LiveServer) -> str:
    """Return the page of Triton's names."""
    with urllib.request.urlopen(f"{server.metrics_url}/triton", timeout=20) as reply:  # noqa: S310
        assert "text/plain" in reply.headers["Content-Type"]
        return str(reply.read().decode())


def value(text: str, start: str) -> float:
    """Return the value of the one sample that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return float(line.rsplit(" ", 1)[1])


def test_samples_have_digits_and_no_exponents(server: LiveServer) -> None:
    """perf_analyzer reads digits with an optional point, and nothing else."""
    lines = [line for line in page(server).splitlines() if not line.startswith("#")]
    assert [] == [line for line in lines if not SAMPLE.match(line)]


def test_a_parser_of_prometheus_reads_it(server: LiveServer) -> None:
    """The page is one in Prometheus' own format, too."""
    names = {family.name for family in text_string_to_metric_families(page(server))}
    assert {"nv_inference_count", "nv_cpu_utilization", "nv_inference_request_failure"} <= names


def test_requests_are_counted(server: LiveServer, client: triton.InferenceServerClient) -> None:
    """Requests, rows and batches, with labels in alphabetical order."""
    names = ("nv_inference_request_success", "nv_inference_count", "nv_inference_exec_count")
    labels = '{model="simple",version="1"}'
    before = [value(page(server), name + labels) for name in names]
    client.infer("simple", add_sub(rows=4))
    after = [value(page(server), name + labels) for name in names]
    assert [1, 4, 1] == [new - old for new, old in zip(after, before, strict=True)]


@pytest.mark.parametrize("stage", ["request", "queue", "compute_infer"])
def test_durations_grow(
    server: LiveServer, client: triton.InferenceServerClient, stage: str
) -> None:
    """Durations are cumulative microseconds."""
    name = f'nv_inference_{stage}_duration_us{{model="simple",version="1"}}'
    before = value(page(server), name)
    for _ in range(5):
        client.infer("simple", add_sub(rows=8))
    assert value(page(server), name) > before


@pytest.mark.parametrize("reason", ["REJECTED", "CANCELED", "BACKEND", "OTHER"])
def test_every_reason_is_there(server: LiveServer, reason: str) -> None:
    """All four reasons are listed from the start."""
    name = f'nv_inference_request_failure{{model="untouched",reason="{reason}",version="1"}}'
    assert 0 == value(page(server), name)


def test_failures_have_a_reason(server: LiveServer, client: triton.InferenceServerClient) -> None:
    """A request that breaks the contract is of the last kind."""
    name = 'nv_inference_request_failure{model="simple",reason="OTHER",version="1"}'
    before = value(page(server), name)
    error_of(client.infer, "simple", [])
    assert 1 == value(page(server), name) - before


def test_the_histogram_of_first_responses(
    server: LiveServer, client: triton.InferenceServerClient
) -> None:
    """Its buckets are Triton's, cumulative, and agree with the count."""
    client.infer("simple", add_sub())
    text = page(server)
    name = "nv_inference_first_response_histogram_ms"
    labels = 'model="simple",version="1"'
    counts = [
        value(text, f'{name}_bucket{{le="{edge}",{labels}}}')
        for edge in ("100", "500", "2000", "5000", "+Inf")
    ]
    assert sorted(counts) == counts
    assert counts[-1] == value(text, f"{name}_count{{{labels}}}")


def test_figures_of_the_machine(server: LiveServer) -> None:
    """Without labels, and in full."""
    text = page(server)
    assert 0 <= value(text, "nv_cpu_utilization ") <= 1
    assert value(text, "nv_cpu_memory_total_bytes ") >= value(text, "nv_cpu_memory_used_bytes ") > 0


def test_loads_and_what_waits(server: LiveServer) -> None:
    """Gauges of each version."""
    labels = '{model="simple",version="1"}'
    assert value(page(server), f"nv_model_load_duration_secs{labels}") > 0
    assert 0 == value(page(server), f"nv_inference_pending_request_count{labels}")


def test_our_own_page_is_beside_it(server: LiveServer) -> None:
    """The usual path has our own names."""
    with urllib.request.urlopen(server.metrics_url, timeout=20) as reply:  # noqa: S310
        text = reply.read().decode()
    assert "jitney_requests_total" in text
    assert "nv_inference_count" not in text
