"""The built-in identity: whatever goes in comes out, in its rows, and no later than it should."""

from __future__ import annotations

import pytest
from builtin_bench import Bench, texts
from hypothesis import given
from hypothesis import strategies as st

from jitney.datatypes import DataType
from jitney.errors import InferenceFailed
from jitney.execution.builtin.tensors import row_offsets
from jitney.execution.builtin.trial import delayed
from jitney.latency_profile import LatencyProfile
from jitney.load_report import LoadReport
from jitney.scheduling.batch import Batch, Reason
from jitney.signature import Signature, TensorSpec
from jitney.testing import EchoCarrier


def identity_of(datatype: DataType, *shape: int | str, count: int = 1) -> Signature:
    """Return the signature of an identity over ``count`` equal tensors."""
    return Signature(
        tuple(TensorSpec(f"INPUT{i}", datatype, shape) for i in range(count)),
        tuple(TensorSpec(f"OUTPUT{i}", datatype, shape) for i in range(count)),
    )


BYTES = identity_of(DataType.BYTES, "N", -1)
NOT_TEXT = texts(b"\x00\xff\xfe", b"", b"\x80")


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [(d, (2, 3), bytes(range(6 * d.item_size))) for d in DataType if d is not DataType.BYTES]
    + [(d, (2, 0), b"") for d in DataType]
    + [(DataType.BYTES, (1, 3), NOT_TEXT), (DataType.BYTES, (3, 1), NOT_TEXT)],
)
def test_every_datatype_comes_back_as_it_went_in(
    datatype: DataType, shape: tuple[int, int], data: bytes
) -> None:
    """Rows of any datatype come back byte for byte: empty ones too, and BYTES that are no text."""
    bench = Bench()
    bench.load("identity", identity_of(datatype, "N", -1))

    assert {"OUTPUT0": data} == bench.run((shape, data))


@pytest.mark.parametrize("datatype", list(DataType))
def test_without_a_batch_dimension_a_scalar_comes_back(datatype: DataType) -> None:
    """A tensor without dimensions is one element."""
    bench = Bench()
    data = bytes(datatype.item_size) or texts(b"\xffone")
    report = bench.load("identity", identity_of(datatype))

    assert {"OUTPUT0": data} == bench.run(((), data))
    assert isinstance(report, LoadReport)
    assert 0 == report.max_batch_size


def test_outputs_are_the_inputs_by_position() -> None:
    """The first output is the first input, whatever they are called."""
    bench = Bench()
    bench.load("identity", identity_of(DataType.UINT8, "N", 2, count=2))

    assert {"OUTPUT0": b"ab", "OUTPUT1": b"cd"} == bench.run(((1, 2), b"ab"), ((1, 2), b"cd"))


def test_requests_share_a_batch_and_get_their_own_rows() -> None:
    """What waits together runs together, in one batch that is gathered once."""
    bench = Bench()
    carrier = EchoCarrier()
    bench.load("identity", BYTES)
    sent = {
        "a": ((1, 2), texts(b"a", b"aa")),
        "b": ((3, 2), texts(b"b", b"", b"bb", b"\xff", b"", b"bbbb")),
        "c": ((1, 2), texts(b"", b"")),
    }
    for name, tensor in sent.items():
        bench.submit(name, tensor, carrier=carrier)
    bench.clock.run_soon()

    replies = {name: reply.outputs["OUTPUT0"] for name, reply in bench.ends.replies.items()}
    assert {name: data for name, (_, data) in sent.items()} == replies
    assert (1, 1) == (carrier.gathered, carrier.replied)


def test_a_request_that_is_alone_is_not_copied() -> None:
    """A load test's target should cost little: the reply is made from the request's own bytes."""
    bench = Bench()
    carrier = EchoCarrier()
    bench.load("identity", BYTES)
    bench.submit("a", ((2, 1), texts(b"a", b"b")), carrier=carrier)
    bench.clock.run_soon()

    assert ["a"] == bench.ends.ids
    assert 0 == carrier.gathered


class Elsewhere:
    """A ``RemoteBuffer`` over some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        """Return how many bytes there are."""
        return len(self._data)

    def read(self) -> bytes:
        """Return a copy."""
        return self._data

    def read_into(self, region: memoryview) -> None:
        """Copy them."""
        region[:] = self._data


class ReadingCarrier(EchoCarrier):
    """A carrier that knows of bytes that are elsewhere."""

    def gather(self, placed: object, inputs: object) -> None:
        """Read the rows of every request into their place."""
        at = 0
        for p in placed:  # type: ignore[attr-defined]
            part = p.request.data[0]
            part.read_into(inputs[0][at : at + len(part)])  # type: ignore[index]
            at += len(part)


def test_bytes_that_are_elsewhere_are_fetched_by_their_carrier() -> None:
    """Also for a request that is alone: only its carrier knows how."""
    bench = Bench()
    bench.load("identity", BYTES)
    data = texts(b"far", b"away")
    bench.submit("a", ((2, 1), Elsewhere(data)), carrier=ReadingCarrier())
    bench.clock.run_soon()

    assert data == bench.ends.replies["a"].outputs["OUTPUT0"]


@given(st.lists(st.tuples(st.integers(1, 4), st.binary(max_size=24)), min_size=1, max_size=4))
def test_elements_that_are_not_what_they_were_spoil_nobody_elses_rows(
    requests: list[tuple[int, bytes]],
) -> None:
    """Whatever the bytes are, offsets ascend, and each request's begin and end with its bytes."""
    bench = Bench()
    bench.load("identity", BYTES)
    entries = [bench.submit("x", ((rows, 2), data)) for rows, data in requests]
    total = sum(rows for rows, _ in requests)
    batch = Batch(entries[0].key, entries, total, Reason.IDLE, "", 0.0)
    joined = b"".join(data for _, data in requests)

    offsets = list(row_offsets(batch, 0, memoryview(joined)))

    assert total + 1 == len(offsets)
    assert sorted(offsets) == offsets
    row = at = 0
    for rows, data in requests:
        assert at == offsets[row]
        row, at = row + rows, at + len(data)
    assert len(joined) == offsets[-1]


def test_a_delay_holds_the_device_for_so_long() -> None:
    """A batch ends the delay after it began; the next one begins then, and has its own."""
    bench = Bench()
    report = bench.load("identity", BYTES, {"execute_delay_ms": "250"})
    bench.submit("a", ((1, 1), texts(b"a")))
    bench.clock.run_soon()
    bench.submit("b", ((1, 1), texts(b"b")))
    bench.clock.advance(0.249)
    assert [] == bench.ends.ids
    bench.clock.advance(0.001)
    assert ["a"] == bench.ends.ids
    bench.clock.advance(0.249)
    assert ["a"] == bench.ends.ids
    bench.clock.advance(0.001)

    assert ["a", "b"] == bench.ends.ids
    assert [0.25, 0.25] == bench.busy
    assert 0.25 == bench.ends.replies["b"].timing.compute_infer
    assert isinstance(report, LoadReport)
    assert all(0.25 <= seconds < 0.26 for seconds in report.latency.seconds)


def test_a_delay_is_not_less_certain_for_what_the_copies_beside_it_vary() -> None:
    """Microseconds that double are nothing beside a delay, and a plan has to know it by shares."""
    bare = LatencyProfile((1, 8), (0.0001, 0.0003), (1.5, 1.0))

    profile = delayed(bare, 0.3)

    assert (0.3001, 0.3003) == pytest.approx(profile.seconds)
    assert (0.0001 * 1.5 / 0.3001, 0.0003 / 0.3003) == pytest.approx(profile.spread)
    assert bare is delayed(bare, 0.0)


def test_a_carrier_that_fails_ends_its_own_request_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A carrier is somebody else's code: its request is told, the log has it, the rest go on."""

    class Broken(EchoCarrier):
        def gather(self, *_: object) -> None:
            raise ZeroDivisionError

    bench = Bench()
    bench.load("identity", BYTES)
    bench.submit("bad", ((1, 1), Elsewhere(texts(b"a"))), carrier=Broken())
    bench.submit("good", ((1, 1), texts(b"b")))
    bench.clock.run_soon()

    assert ["good"] == list(bench.ends.replies)
    assert InferenceFailed is type(bench.ends.errors["bad"])
    assert "ZeroDivisionError" in caplog.text
