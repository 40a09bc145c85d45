"""The pages say what the code does."""

from __future__ import annotations

import dataclasses
import re
import runpy
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from test_triton_page import GPU, lines

from jitney.access import RULES
from jitney.access.entries import parse_entries
from jitney.app import REPLY_GRACE, WORKER_STOP_TIMEOUT, Server
from jitney.config import Settings
from jitney.config.key import KEYS
from jitney.config.tritonserver import INSTEAD
from jitney.execution.link import KEPT_VARIABLES
from jitney.overview import Overview
from jitney.repository.manifest_reader import parse_manifest
from jitney.repository.triton.fields import FIELDS, Treatment
from jitney.repository.triton.mapping import manifest_of
from jitney.repository.triton.text import parse_config
from jitney.scheduling.batch import Reason
from jitney.telemetry.audit_readings import audit_readings
from jitney.telemetry.labels import WHY
from jitney.telemetry.log_queue import LogQueue
from jitney.telemetry.metrics import Metrics
from jitney.telemetry.span_export import SpanSender
from jitney.testing import FakeClock
from jitney.transport.doors import Doors
from jitney.transport.listeners import exposed
from jitney.transport.server import channel_options
from jitney.transport.status import CODES
from jitney.transport.tls import CertificateWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
# Not everything below the root: environments have pages of their own.
FOLDERS = ("docs", "models", "clients", "server", "loadtests", "protos", "native", "deploy")
PAGES = sorted(
    {*ROOT.glob("*.md"), *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))}
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def read(path: Path) -> str:
    """Return a page."""
    return path.read_text(encoding="utf-8")


def rows(page: str) -> Iterator[list[str]]:
    """Yield the cells of every row of every table, without quotes of code."""
    for line in page.splitlines():
        if line.startswith("| `"):
            yield [cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")]


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


# -- metrics --------------------------------------------------------------------------------------


def families() -> set[tuple[str, str, str]]:
    """Return name, type and labels of every metric that a server has."""
    clock = FakeClock()
    # Gauges are only made here and never read, so nobody needs to be behind them.
    nobody = cast("Any", None)
    overview = Overview(*[nobody] * 6, clock, strict_readiness=True)
    metrics = Metrics()
    found = set()
    for family in metrics.collect():
        suffix = "_total" if family.type == "counter" else ""
        labels = ", ".join(family._labelnames)  # type: ignore[attr-defined]  # of every family class
        found.add((family.name + suffix, family.type, labels))
    others = (
        *exposed(nobody, nobody, nobody),
        *CertificateWatch.readings(nobody),
        *Doors.readings(nobody),
        *audit_readings(nobody),
        Server._build_info(nobody),
        LogQueue.reading(nobody),
        SpanSender.reading(nobody),
    )
    for gauge in (*overview.readings(), *others):
        kind, name = ("counter", f"{gauge.name}_total") if gauge.counts else ("gauge", gauge.name)
        found.add((name, kind, ", ".join(gauge.labels)))
    return found


def test_every_metric_is_in_its_page_and_nothing_else() -> None:
    """Names, types and labels of docs/metrics.md are those of the code."""
    page = read(DOCS / "metrics.md")

    documented = {
        (name, kind, "" if labels == "none" else labels)
        for name, kind, labels, *_ in rows(page)
        if not name.startswith("nv_")
    }

    assert families() == documented


def test_every_metric_under_tritons_names_is_in_its_page() -> None:
    """Names and types of docs/metrics.md are those of the page that is served."""
    served = re.findall(r"^# TYPE (\w+) (\w+)$", "\n".join(lines(gpus=[GPU])), re.MULTILINE)

    page = read(DOCS / "metrics.md")
    documented = [tuple(cells[:2]) for cells in rows(page) if cells[0].startswith("nv_")]

    assert sorted(served) == sorted(documented)


def test_every_word_for_a_rejection_is_in_its_table() -> None:
    """docs/metrics.md lists the words with the reasons of the errors that they stand for."""
    section = read(DOCS / "metrics.md").partition("## Why requests are rejected")[2]
    table = re.findall(r"^\| ([a-z]+) \| (`[^|]*`) \|", section, re.MULTILINE)

    documented = {
        (reason, word) for word, reasons in table for reason in re.findall(r"`(\w+)`", reasons)
    }

    assert {*WHY.items(), ("DRAINING", "draining")} == documented


def test_every_reason_of_a_batch_is_explained() -> None:
    """docs/batching.md has a row for each reason why a batch leaves."""
    page = read(DOCS / "batching.md")

    explained = {cells[0] for cells in rows(page)} & {reason.value for reason in Reason}

    assert {reason.value for reason in Reason} == explained


# -- settings and options -------------------------------------------------------------------------


def test_the_page_of_settings_is_up_to_date() -> None:
    """docs/settings.md is what docs/generate_settings.py makes of the tree."""
    render = runpy.run_path(str(DOCS / "generate_settings.py"))["render"]

    assert render() == read(DOCS / "settings.md")


def test_every_setting_is_in_its_page_under_its_three_names() -> None:
    """Flag, variable and key of each setting stand in docs/settings.md, in one cell."""
    page = read(DOCS / "settings.md")

    missing = [k for k in KEYS if f"`{k.flag}`<br>`{k.variable}`<br>`{k.path}`" not in page]

    assert [] == missing


def test_the_example_of_a_settings_file_is_one() -> None:
    """The TOML in docs/settings.md has settings that exist."""
    (example,) = blocks(read(DOCS / "settings.md"), "toml")
    tables = tomllib.loads(example)

    paths = {f"{section}.{field}" for section, table in tables.items() for field in table}

    assert paths <= {key.path for key in KEYS}


def test_every_option_of_grpc_is_explained_with_its_value() -> None:
    """Names and default values in docs/operations.md are those that the server sets."""
    settings = Settings()
    options = channel_options(settings.limits, settings.max_message_bytes)

    documented = {
        tuple(cells[:2])
        for cells in rows(read(DOCS / "operations.md"))
        if cells[0].startswith("grpc.")
    }

    assert {(name, str(value)) for name, value in options} == documented


def test_the_example_of_a_file_of_tokens_is_one() -> None:
    """The TOML in docs/access.md is read as a server does."""
    (example,) = blocks(read(DOCS / "access.md"), "toml")

    entries = parse_entries(example)

    assert ["web"] == [token.name for token in entries.tokens]
    assert ["batch"] == [one.name for one in entries.certificates]
    assert entries.anonymous is not None


def test_the_page_says_what_every_method_takes() -> None:
    """Each method that is not denied by itself is named in the table of docs/access.md."""
    page = read(DOCS / "access.md")
    named = set(re.findall(r"`(?:grpc\.health\.v1\.Health/)?([A-Z]\w+)`", page))
    # These are told of by other words.
    said = {"Check", "Watch", "GetStatus", "ServerReflectionInfo"}

    methods = {path.rpartition("/")[2] for path in RULES}
    memory = {name for name in methods if "SharedMemory" in name}
    assert 6 == len(memory)
    assert set() == methods - memory - said - named


def test_the_time_that_a_supervisor_should_allow_is_enough() -> None:
    """What docs/operations.md adds to the two settings covers all other waits of a stop."""
    (more,) = re.findall(
        r"`drain_delay_seconds \+ drain_timeout_seconds` and (\d+) seconds more",
        " ".join(read(DOCS / "operations.md").split()),
    )
    ports = 2  # the main one and that of the operator, one after the other
    waits = ports * REPLY_GRACE + WORKER_STOP_TIMEOUT

    assert int(more) >= waits + 2


def test_what_a_worker_inherits_is_listed() -> None:
    """docs/operations.md names each variable that a worker inherits."""
    page = read(DOCS / "operations.md")

    assert [] == [name for name in KEPT_VARIABLES if f"`{name}`" not in page]


# -- errors and models ----------------------------------------------------------------------------


def test_every_error_is_in_the_table_with_its_status_and_reason() -> None:
    """The table of docs/architecture.md is the one of transport/status.py."""
    known = {kind.__name__ for kind in CODES}

    documented = {
        tuple(cells[:3]) for cells in rows(read(DOCS / "architecture.md")) if cells[0] in known
    }

    assert {(kind.__name__, code.name, kind.reason) for kind, code in CODES.items()} == documented


def test_the_example_of_a_model_toml_is_one() -> None:
    """The manifest in docs/models.md is read, and its keys have the defaults where they say so."""
    example, *_ = blocks(read(DOCS / "models.md"), "toml")
    defaults = parse_manifest("")

    manifest = parse_manifest(example)

    assert dataclasses.replace(defaults, max_batch_size=32, inputs=None, outputs=None) == (
        dataclasses.replace(manifest, batching=defaults.batching, inputs=None, outputs=None)
    )
    settings = Settings().batching
    given = dataclasses.asdict(manifest.batching) | {"max_batch_size": manifest.max_batch_size}
    own = dataclasses.asdict(defaults.batching) | {"max_batch_size": None}
    expected = {key: getattr(settings, key, default) for key, default in own.items()}
    assert expected == given


@pytest.mark.parametrize("page", ["models.md", "migrating-from-triton.md"])
def test_examples_of_configurations_are_some(page: str) -> None:
    """Whatever the pages show of model.toml and config.pbtxt is read without an error."""
    text = read(DOCS / page)

    for example in blocks(text, "toml"):
        parse_manifest(example, lambda _: b"cat\ndog\n")
    for example in blocks(text, "protobuf"):
        manifest_of(parse_config(example), "m", read_file=lambda _: b"cat\ndog\n")


def test_what_triton_configures_and_we_do_not_is_listed() -> None:
    """docs/migrating-from-triton.md names each field that is refused or ignored."""
    page = read(DOCS / "migrating-from-triton.md")
    missing = {
        path
        for path, rule in FIELDS.items()
        if rule.treatment in (Treatment.REFUSE, Treatment.WARN) and f"`{path}`" not in page
    }

    assert set() == missing


def test_every_flag_of_tritonserver_that_is_answered_is_listed() -> None:
    """docs/migrating-from-triton.md has what to write instead of each, in one of its rows."""
    page = read(DOCS / "migrating-from-triton.md")
    assert {flag for flag in INSTEAD if f"`{flag}`" not in page} == set()


# -- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of a page is a file that exists, and its anchor a heading in it."""
    broken = []
    for link in LINK.findall(CODE.sub("", read(page))):
        target, _, anchor = link.partition("#")
        if "://" in link or target.startswith("mailto:"):
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(read(file))):
            broken.append(link)

    assert [] == broken


def test_every_decision_is_in_the_list_of_decisions() -> None:
    """docs/adr/README.md links to each decision."""
    listed = set(LINK.findall(read(DOCS / "adr" / "README.md")))

    assert {page.name for page in (DOCS / "adr").glob("0*.md")} == listed
