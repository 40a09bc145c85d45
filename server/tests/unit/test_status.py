"""Every error has its status, and what goes with it."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, NoReturn

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from jitney import errors
from jitney.execution.wire import WireError
from jitney.transport.status import CODES, COMPAT, MAX_TEXT, Statuses, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

Metadata = tuple[tuple[str, str | bytes], ...]
Code = grpc.StatusCode
OURS, TRITONS = Statuses(), Statuses(compat=True)


class Aborted(Exception):  # gRPC's own name for it
    """What a context raises."""


class FakeContext:
    """A call that remembers how it was aborted."""

    def __init__(self) -> None:
        self.ended: tuple[grpc.StatusCode, str, Metadata] | None = None

    def time_remaining(self) -> float | None:
        """Return that there is no deadline."""
        return None

    def invocation_metadata(self) -> Metadata:
        """Return that nothing came with the call."""
        return ()

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str,
        trailing_metadata: Metadata = (),
    ) -> NoReturn:
        """Remember and raise."""
        self.ended = (code, details, trailing_metadata)
        raise Aborted


def aborted(
    error: Exception, statuses: Statuses = OURS
) -> tuple[grpc.StatusCode, str, dict[str, str | bytes]]:
    """Return the code, the text and the metadata with which a call ends."""
    context = FakeContext()
    with pytest.raises(Aborted):
        asyncio.run(statuses.abort(context, error))
    assert context.ended is not None
    code, details, metadata = context.ended
    return code, details, dict(metadata)


def details(error: errors.JitneyError) -> tuple[str, float | None]:
    """Return reason and wait from the standard details, as ``grpc_status`` reads them.

    It refuses details whose code or message is not that of the call.
    """
    code, text, metadata = aborted(error)
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert (code.value[0], text) == (status.code, status.message)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    wait = None
    for detail in status.details:
        if detail.Unpack(retry):
            wait = retry.retry_delay.ToMicroseconds() / 1e6
        else:
            assert detail.Unpack(info)
    assert "jitney" == info.domain
    return info.reason, wait


def subclasses(kind: type[errors.JitneyError]) -> Iterator[type[errors.JitneyError]]:
    """Yield every error below ``kind``."""
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def test_the_table_covers_the_taxonomy() -> None:
    """Every error of jitney.errors has a code of its own, so that none gets one by accident."""
    taxonomy = {getattr(errors, name) for name in errors.__all__}

    assert taxonomy == set(CODES)


def test_an_error_of_another_module_gets_the_code_of_its_base() -> None:
    """Errors that are not told to callers, such as a broken worker's, are INTERNAL."""
    others = {kind for kind in subclasses(errors.JitneyError) if kind not in CODES}

    assert WireError in others
    assert Code.INTERNAL is OURS.code_of(WireError("x"))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidRequest(), Code.INVALID_ARGUMENT),
        (errors.BatchTooLarge(), Code.INVALID_ARGUMENT),
        (errors.InputRejected(), Code.INVALID_ARGUMENT),
        (errors.ModelNotFound(), Code.NOT_FOUND),
        (errors.ModelNotReady(), Code.UNAVAILABLE),
        (errors.Draining(), Code.UNAVAILABLE),
        (errors.WorkerLost(), Code.UNAVAILABLE),
        (errors.ModelLoadFailed(), Code.FAILED_PRECONDITION),
        (errors.Overloaded("full"), Code.RESOURCE_EXHAUSTED),
        (errors.OutOfDeviceMemory(), Code.RESOURCE_EXHAUSTED),
        (errors.OutputTooLarge(), Code.RESOURCE_EXHAUSTED),
        (errors.DeadlineExpired(), Code.DEADLINE_EXCEEDED),
        (errors.QueueTimeout(), Code.DEADLINE_EXCEEDED),
        (errors.DeadlineTooShort(), Code.DEADLINE_EXCEEDED),
        (errors.InferenceFailed(), Code.INTERNAL),
        (errors.NotSupported(), Code.UNIMPLEMENTED),
        (errors.JitneyError(), Code.INTERNAL),
    ],
)
def test_errors_have_the_codes_of_the_protocol(
    error: errors.JitneyError, code: grpc.StatusCode
) -> None:
    """The codes are those that clients of the protocol act on."""
    assert code is OURS.code_of(error)


def test_every_status_says_its_reason() -> None:
    """The machine-readable reason travels beside the text, that of the instance if it has one."""
    error = errors.Overloaded("too much", reason="BYTE_BUDGET", retry_after=0.25)

    code, text, metadata = aborted(error)

    assert (Code.RESOURCE_EXHAUSTED, "too much") == (code, text)
    assert ("BYTE_BUDGET", "250") == (metadata["jitney-reason"], metadata["grpc-retry-pushback-ms"])
    assert ("BYTE_BUDGET", 0.25) == details(error)


@pytest.mark.parametrize(
    ("error", "reason", "wait"),
    [
        (errors.Overloaded("x", reason="PREDICTED_LATE", retry_after=1.5), "PREDICTED_LATE", 1.5),
        (errors.Overloaded("x", reason="SHED", retry_after=1e-9), "SHED", 0.001),
        (errors.Overloaded("x", retry_after=float("inf")), "QUEUE_FULL", 60.0),
        (errors.ModelNotReady("x"), "MODEL_LOADING", 0.2),
        (errors.WorkerLost("x"), "WORKER_LOST", 0.2),
        (errors.DeadlineTooShort("x"), "DEADLINE_TOO_SHORT", None),
        (errors.DeadlineExpired("x"), "EXPIRED", None),
        (errors.OutOfDeviceMemory("x"), "DEVICE_OOM", None),
        (errors.Draining("x"), "DRAINING", None),
        (errors.InvalidRequest("ü\n%"), "BAD_INPUT", None),
    ],
)
def test_the_standard_details_say_why_and_when_to_come_back(
    error: errors.JitneyError, reason: str, wait: float | None
) -> None:
    """google.rpc.Status has the reason, and a wait only where repeating the call here may help."""
    assert (reason, wait) == details(error)


def test_texts_of_triton_pass_as_they_are() -> None:
    """A queue's timeout is DEADLINE_EXCEEDED with nothing but the text that clients compare."""
    code, text, _ = aborted(errors.DeadlineExpired("Request timeout expired"))

    assert (Code.DEADLINE_EXCEEDED, "Request timeout expired") == (code, text)


@pytest.mark.parametrize("kind", [errors.ModelNotReady, errors.WorkerLost])
def test_what_passes_soon_asks_for_a_short_wait(kind: type[errors.JitneyError]) -> None:
    """A retrying client waits out a restart instead of spending its attempts on it."""
    assert "200" == aborted(kind("soon"))[2]["grpc-retry-pushback-ms"]


@pytest.mark.parametrize("kind", [errors.InvalidRequest, errors.Draining, errors.ModelLoadFailed])
def test_what_does_not_pass_asks_for_nothing(kind: type[errors.JitneyError]) -> None:
    """An error that waiting does not mend, or that another replica mends at once, has no advice."""
    assert "grpc-retry-pushback-ms" not in aborted(kind("no"))[2]


@pytest.mark.parametrize("character", ["a", "%", "ü", "\n", "\U0001f68c"])
def test_a_text_fits_into_what_clients_accept(character: str) -> None:
    """However it is encoded, a text has at most MAX_TEXT bytes, and all that is sent 8 KiB."""
    error = errors.Overloaded(character * 10_000, reason="R" * 20, retry_after=60)
    _, text, metadata = aborted(error)

    size = sum(1 if " " <= c <= "~" and c != "%" else 3 * len(c.encode()) for c in text)
    # As HPACK counts: 32 bytes beside each key and value; status and message are two more.
    sent = [("grpc-status", "13"), ("content-type", "application/grpc"), *metadata.items()]
    total = size + 32 + len("grpc-message")
    for key, value in sent:
        encoded = value if isinstance(value, str) else base64.b64encode(value)
        total += 32 + len(key) + len(encoded)
    assert 8192 > total
    assert MAX_TEXT - 12 < size <= MAX_TEXT + 3
    assert text.endswith("...")
    assert character * 10 == aborted(errors.InvalidRequest(character * 10))[1]


# -- Triton's codes -------------------------------------------------------------------------------


def test_compat_changes_what_the_protocol_page_lists() -> None:
    """Each code of the second table differs from that of the first; all others stay."""
    changed = {kind for kind in CODES if OURS.code_of(kind("x")) is not TRITONS.code_of(kind("x"))}

    assert set(COMPAT) == changed


@pytest.mark.parametrize(
    ("error", "ours", "tritons"),
    [
        (errors.Overloaded("x"), Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE),
        (errors.QueueTimeout("x"), Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE),
        (errors.DeadlineExpired("x"), Code.DEADLINE_EXCEEDED, Code.DEADLINE_EXCEEDED),
        (errors.ControlDisabled("x"), Code.FAILED_PRECONDITION, Code.UNAVAILABLE),
        (errors.LoadRefused("x"), Code.FAILED_PRECONDITION, Code.INTERNAL),
        (errors.BadOverride("x"), Code.INVALID_ARGUMENT, Code.INTERNAL),
        (errors.UnknownToLoad("x"), Code.NOT_FOUND, Code.INTERNAL),
        (errors.RegionNotOpened("x"), Code.NOT_FOUND, Code.INTERNAL),
        (errors.RegionNotFound("x"), Code.NOT_FOUND, Code.NOT_FOUND),
        (errors.ModelNotFound("x"), Code.NOT_FOUND, Code.NOT_FOUND),
    ],
)
def test_compat_gives_tritons_codes(
    error: errors.JitneyError, ours: grpc.StatusCode, tritons: grpc.StatusCode
) -> None:
    """The switch exchanges codes, and nothing else of an error."""
    code, text, metadata = aborted(error, TRITONS)

    assert (ours, tritons) == (OURS.code_of(error), code)
    assert ("x", error.reason) == (text, metadata["jitney-reason"])


# -- bugs -----------------------------------------------------------------------------------------


def test_a_bug_ends_a_call_with_a_number(caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets INTERNAL and a number under which the log has the rest."""
    code, text, _ = aborted(ValueError("a secret"))

    number = text.split()[2].rstrip(";")
    assert (Code.INTERNAL, f"internal error {number}; the server's log has the details") == (
        code,
        text,
    )
    assert number in caplog.text
    assert "a secret" in caplog.text


def test_a_text_of_an_error_is_for_callers() -> None:
    """That of a bug says nothing of it."""
    assert "no" == text_of(errors.InvalidRequest("no"))
    assert "a secret" not in text_of(ValueError("a secret"))
