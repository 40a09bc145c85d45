"""A version's life, its limits, and what it remembers of its requests."""

from __future__ import annotations

import dataclasses
import math

import pytest
from model_versions import ECHO, LIMITS, report, version_of

from jitney.config import BatchingSettings
from jitney.datatypes import DataType
from jitney.errors import BatchTooLarge, DeviceFailed, ModelLoadFailed, ModelNotReady
from jitney.repository.handle import OVERDUE, REMEMBERED, VersionState
from jitney.repository.limits import ModelLimits, limits_of
from jitney.repository.manifest import BatchingManifest, ModelManifest
from jitney.scheduling.batch import Mode
from jitney.signature import Signature, TensorSpec
from jitney.splitting import MAX_PARTS
from jitney.types import RequestHeader, TensorHeader

FP32 = DataType.FP32


def header(*shape: int, datatype: DataType = FP32) -> RequestHeader:
    """Return a header with one input x."""
    return RequestHeader("echo", "", (TensorHeader("x", datatype, shape),))


def test_a_version_is_ready_while_a_device_has_it() -> None:
    """LOADING until the first load, READY until the last loss, LOADING again."""
    version = version_of(devices=())
    states = [version.state]
    for device in ("d0", "d1"):
        version.loaded(device, report())
        states.append(version.state)
    for device in ("d0", "d1"):
        version.gone(device, "restarting")
        states.append(version.state)

    loading, ready = VersionState.LOADING, VersionState.READY
    assert [loading, ready, ready, ready, loading] == states
    assert "restarting" == version.reason


def test_a_request_may_wait_for_a_worker_that_is_expected_back_in_time() -> None:
    """By the limits that held before; one that would be late, or knows no time, is refused."""
    version = version_of(devices=())
    version.loaded("cpu", dataclasses.replace(report(), batchable=False))
    alone = version.plan(header(3, 4)).key.max_rows
    version.gone("cpu", "restarting", back_at=50.0)

    assert alone == version.plan(header(3, 4), 50.1).key.max_rows == 3
    assert VersionState.LOADING is version.state
    for deadline, now in ((0.0, 0.0), (50.0, 0.0), (math.inf, 50.0 + OVERDUE)):
        with pytest.raises(ModelNotReady, match="restarting"):
            version.plan(header(3, 4), deadline, now)
    version.refused("cpu", "its device failed")
    with pytest.raises(ModelLoadFailed):
        version.plan(header(3, 4), math.inf)


def test_a_version_whose_devices_were_given_up_may_be_served_elsewhere() -> None:
    """Its file is not to blame, so nobody is told that there is no use in trying again."""
    version = version_of(devices=("cpu",))
    version.refused("cpu", "device cpu failed", DeviceFailed)
    with pytest.raises(DeviceFailed, match="is not at ready state: device cpu failed"):
        version.plan(header(1, 4), math.inf)


def test_a_version_that_is_not_expected_back_takes_no_requests() -> None:
    """Nor does one that was never here."""
    version = version_of(devices=("cpu",))
    version.gone("cpu", "restarting")
    fresh = version_of(devices=())
    for one in (version, fresh):
        with pytest.raises(ModelNotReady):
            one.plan(header(1, 4), math.inf)


def test_a_version_is_unavailable_when_no_device_will_have_it() -> None:
    """One that has it keeps it ready, one that comes back keeps it loading; else it has failed."""
    version = version_of()
    version.loaded("other", version.reports["cpu"])

    version.refused("cpu", "no")
    assert VersionState.READY is version.state
    version.gone("other", "restarting")
    assert (VersionState.LOADING, "restarting") == (version.state, version.reason)
    version.refused("other", "no more")

    assert (VersionState.UNAVAILABLE, "no more") == (version.state, version.reason)


@pytest.mark.parametrize(
    ("fail", "kind", "reason"),
    [(False, ModelNotReady, "loading"), (True, ModelLoadFailed, "broken")],
)
def test_a_version_that_is_not_ready_says_why(
    fail: bool,  # noqa: FBT001  # a case
    kind: type[Exception],
    reason: str,
) -> None:
    """Loading is ModelNotReady, failed is ModelLoadFailed; both have the protocol's text."""
    version = version_of(devices=())
    if fail:
        version.refused("cpu", "broken")

    with pytest.raises(kind) as caught:
        version.plan(header(1, 4))

    assert (f"Request for unknown model: 'echo' version 1 is not at ready state: {reason}") == str(
        caught.value
    )


def test_equal_shapes_have_one_key_and_equal_headers_one_plan() -> None:
    """Keys are compared by identity, so they are interned; other shapes have other keys."""
    version = version_of()
    one, two, other = header(1, 4), header(2, 4), header(1, 5)

    assert version.plan(one) is version.plan(one)
    assert version.plan(one).key is version.plan(two).key
    assert version.plan(one).key is not version.plan(other).key


def test_the_batch_limit_is_the_least_of_all_devices() -> None:
    """A device that proved fewer rows lowers the limit for all, and forgets what was planned."""
    version = version_of()
    request = header(8, 4)
    assert 8 == version.plan(request).key.max_rows

    version.loaded("d1", report(4))

    assert 4 == version.max_batch_size
    assert 4 == version.plan(request).key.max_rows


def test_rows_that_would_not_fit_into_a_slot_lower_the_limit_of_their_shape() -> None:
    """With 64 KiB slots, rows of 16,000 bytes make batches of 4, not 8."""
    whole, split = version_of(limits=LIMITS._replace(split=False)), version_of()

    assert 4 == whole.plan(header(1, 4000)).key.max_rows
    with pytest.raises(BatchTooLarge):
        whole.plan(header(5, 4000))
    assert 5 == split.plan(header(5, 4000)).checked.rows


def test_a_request_larger_than_a_batch_is_taken_where_it_may_be_split() -> None:
    """Up to as many rows as may wait, if splitting is on and batches have more than one row."""
    mixing = version_of()
    mixing.loaded("cpu", report(1))
    fixed = Signature((TensorSpec("x", FP32, (-1,)),), (TensorSpec("y", FP32, (-1,)),))
    limits = LIMITS._replace(max_queue_rows=1 << 24)

    assert (True, 64) == (version_of().splits, version_of().max_request_rows)
    assert 8 * MAX_PARTS == version_of(limits=limits).max_request_rows
    assert (False, 1) == (mixing.splits, mixing.max_request_rows)
    assert not version_of(fixed).splits
    off = version_of(limits=LIMITS._replace(split=False))
    assert (False, 8) == (off.splits, off.max_request_rows)
    with pytest.raises(BatchTooLarge) as caught:
        version_of().plan(header(65, 4))
    assert "inference request batch-size must be <= 64 for 'echo', got 65" == str(caught.value)


def test_a_request_of_too_many_parts_is_too_large() -> None:
    """Where a slot holds one row only, a thousand and some rows are refused, and fewer are not."""
    version = version_of(limits=LIMITS._replace(max_queue_rows=1 << 24))
    row = 10_000

    assert 1 == version.plan(header(MAX_PARTS, row)).key.max_rows
    with pytest.raises(BatchTooLarge):
        version.plan(header(MAX_PARTS + 1, row))


@pytest.mark.parametrize(
    ("priority", "default", "expected"),
    [(0, 2, 1), (0, 1, 0), (1, 3, 0), (2, 1, 1), (1 << 63, 2, 2)],
)
def test_priorities_become_classes(priority: int, default: int, expected: int) -> None:
    """1 is the first class, 2 the second, all others the last, and 0 that of the model."""
    request = dataclasses.replace(header(1, 4), priority=priority)

    version = version_of(limits=LIMITS._replace(default_priority=default))

    assert expected == version.plan(request).priority


def test_a_request_too_large_for_a_slot_tells_its_bytes() -> None:
    """The text has what came and what may come, also beside texts, whose size is not known yet."""
    signature = Signature(
        (TensorSpec("x", FP32, ("N", -1)), TensorSpec("t", DataType.BYTES, ("N",))),
        (TensorSpec("y", FP32, ("N",)),),
    )
    version = version_of(signature)
    request = RequestHeader(
        "echo",
        "",
        (TensorHeader("x", FP32, (1, 1 << 20)), TensorHeader("t", DataType.BYTES, (1,))),
    )

    with pytest.raises(BatchTooLarge) as caught:
        version.plan(request)

    assert (
        f"the inputs of this request to 'echo' have {4 << 20} bytes, and one batch may have "
        f"{(1 << 16) - 128} (the server's --slot-bytes)"
    ) == str(caught.value)


def test_bytes_of_texts_are_bounded_by_the_slot() -> None:
    """Texts have no fixed size, so only their actual bytes are compared, to the byte."""
    version = version_of()
    plan, rows = version.plan(header(1, 4)), version.plan(header(2, 4))
    most = plan.key.max_bytes

    version.check_bytes(most, plan)
    version.check_bytes(most + 1, rows)  # in parts
    with pytest.raises(BatchTooLarge):
        version.check_bytes(most + 1, plan)
    with pytest.raises(BatchTooLarge):
        version_of(limits=LIMITS._replace(split=False)).check_bytes(most + 1, rows)


def test_a_model_without_batch_dimension_runs_one_request_at_a_time() -> None:
    """Its keys have one row, whatever the operator's limit, and metadata says 0."""
    signature = Signature((TensorSpec("x", FP32, (-1,)),), (TensorSpec("y", FP32, (-1,)),))
    version = version_of(signature)

    key = version.plan(header(5)).key

    assert (1, False, 0) == (key.max_rows, key.batched, version.max_batch_size)


def test_requests_that_share_no_batch_fill_one_each() -> None:
    """Their key has room for their rows and no more, and they are never split."""
    version = version_of()
    version.loaded("cpu", dataclasses.replace(report(), batchable=False))

    keys = [version.plan(header(rows, 4)).key for rows in (1, 3, 3)]

    assert [1, 3, 3] == [key.max_rows for key in keys]
    assert keys[1] is keys[2]
    assert (False, False) == (version.shares, version.splits)


def test_an_operator_may_let_every_request_run_alone() -> None:
    """Whatever was proved of the model's rows."""
    version = version_of(limits=LIMITS._replace(shared=False))

    assert (False, 2) == (version.shares, version.plan(header(2, 4)).key.max_rows)


def test_rows_without_bytes_are_batched_like_others() -> None:
    """Rows of 0 elements take no room, so only the batch limit counts."""
    assert 8 == version_of().plan(header(1, 0)).key.max_rows


def test_what_is_remembered_is_bounded() -> None:
    """Ten thousand different shapes leave at most REMEMBERED plans and keys."""
    version = version_of()

    for length in range(10_000):
        version.plan(header(1, length))

    assert len(version._plans) <= REMEMBERED
    assert len(version._keys) <= REMEMBERED


def test_a_refused_header_is_not_remembered() -> None:
    """Only what was accepted is kept: headers come from the wire."""
    version = version_of()

    with pytest.raises(BatchTooLarge):
        version.plan(header(1, 1 << 20))

    assert {} == version._plans


def test_limits_travel_into_the_key() -> None:
    """The operator's queue limit, delay and mode are the key's."""
    limits = LIMITS._replace(max_queue_delay=0.25, mode=Mode.EFFICIENCY)
    key = version_of(ECHO, limits).plan(header(1, 4)).key

    assert (0.25, 64, Mode.EFFICIENCY) == (key.max_delay, key.max_queue_rows, key.mode)


def test_the_manifest_beats_the_settings() -> None:
    """What model.toml says holds, also 0 and false; where it says nothing, the settings do."""
    settings = BatchingSettings(
        default_slo_ms=200, default_timeout_ms=100, mode="efficiency", default_priority=3
    )
    own = BatchingManifest(
        default_slo_ms=0.0, default_timeout_ms=50, mode="latency", split_large_requests=False
    )

    expected = ModelLimits(32, 4096, 0.0, 99, 0.2, 0.1, 3, Mode.EFFICIENCY, split=True)
    assert expected._replace(default_timeouts=(0.1,) * 3) == limits_of(
        ModelManifest(), settings, 99
    )
    expected = ModelLimits(32, 4096, 0.0, 99, math.inf, 0.05, 3, split=False)
    assert expected._replace(default_timeouts=(0.05,) * 3) == limits_of(
        ModelManifest(batching=own), settings, 99
    )


def test_repr_is_a_status_line() -> None:
    """The repr shows the version, its state and where it is."""
    assert "<ModelVersion echo/1 READY on ['cpu']>" == repr(version_of())
