"""From a status to a type."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grpc
import pytest

import jitney_client
from jitney_client import errors, statuses

ROOT = Path(__file__).resolve().parents[3]
Code = grpc.StatusCode


class Ended(grpc.RpcError):
    """A call as gRPC ends it."""

    def __init__(self, code: Code, text: str = "text", **trailer: str) -> None:
        self._code, self._text = code, text
        self._trailer = tuple((key.replace("_", "-"), value) for key, value in trailer.items())

    def code(self) -> Code:
        """Return the status."""
        return self._code

    def details(self) -> str:
        """Return the text."""
        return self._text

    def trailing_metadata(self) -> Any:
        """Return what came after the reply."""
        return self._trailer


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.INVALID_ARGUMENT, errors.InvalidRequest),
        (Code.OUT_OF_RANGE, errors.InvalidRequest),
        (Code.NOT_FOUND, errors.ModelNotFound),
        (Code.ALREADY_EXISTS, errors.RegionExists),
        (Code.FAILED_PRECONDITION, errors.FailedPrecondition),
        (Code.UNAVAILABLE, errors.Unavailable),
        (Code.RESOURCE_EXHAUSTED, errors.Overloaded),
        (Code.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (Code.CANCELLED, errors.Cancelled),
        (Code.UNIMPLEMENTED, errors.NotSupported),
        (Code.UNAUTHENTICATED, errors.Unauthenticated),
        (Code.PERMISSION_DENIED, errors.AccessRefused),
        (Code.INTERNAL, errors.ServerFault),
        (Code.UNKNOWN, errors.ServerFault),
        (Code.DATA_LOSS, errors.ServerFault),
    ],
)
def test_every_status_has_its_type(code: Code, kind: type[errors.JitneyError]) -> None:
    """A failed call raises the type of its status, with the server's text and code."""
    error = statuses.from_rpc_error(Ended(code))
    assert (kind, "text", code, "", None) == (
        type(error),
        str(error),
        error.code,
        error.reason,
        error.retry_after,
    )


@pytest.mark.parametrize(
    ("ended", "given_up", "kind"),
    [
        (Ended(Code.CANCELLED), False, errors.Unavailable),
        (Ended(Code.CANCELLED), True, errors.Cancelled),
        (Ended(Code.CANCELLED, jitney_reason="X"), False, errors.Cancelled),
        (Ended(Code.ABORTED), False, errors.ServerFault),
    ],
)
def test_who_cancelled_makes_a_difference(
    ended: Ended,
    given_up: bool,  # noqa: FBT001  # a parameter of the test
    kind: type[errors.JitneyError],
) -> None:
    """What nobody here gave up, and no server explains, was lost with the connection."""
    error = statuses.from_rpc_error(ended, given_up=given_up)

    assert (kind, ended.code()) == (type(error), error.code)
    assert error.safe_to_retry is (kind is errors.Unavailable)


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (Code.RESOURCE_EXHAUSTED, "TENANT_QUOTA", errors.TenantQuota),
        (Code.UNAVAILABLE, "QUEUE_FULL", errors.QueueFull),
        (Code.UNAVAILABLE, "EXPIRED", errors.Expired),
        (Code.INVALID_ARGUMENT, "MODEL_ERROR", errors.InvalidRequest),
        (Code.INTERNAL, "MODEL_ERROR", errors.ModelFault),
        (Code.FAILED_PRECONDITION, "SOMETHING_NEW", errors.FailedPrecondition),
    ],
)
def test_the_reason_counts_more_than_the_code(
    code: Code, reason: str, kind: type[errors.JitneyError]
) -> None:
    """Codes may be Triton's; what a jitney says in a word is the same in either case."""
    error = statuses.from_rpc_error(Ended(code, jitney_reason=reason))
    assert (kind, reason) == (type(error), error.reason)


def test_every_reason_of_the_server_has_a_type() -> None:
    """The server's taxonomy has no reason that the client does not know."""
    source = (ROOT / "server/src/jitney/errors.py").read_text(encoding="utf-8")
    reasons = set(re.findall(r'reason = "(\w+)"', source))
    reasons |= set(re.findall(r"\b[A-Z]+_[A-Z_]+[A-Z]\b|\bSHED\b", overload_reasons(source)))
    # Models are refused with many more words, but only at load, where the code says it all.
    left = reasons - set(statuses._BY_REASON) - {"MODEL_ERROR", "MODEL_INVALID", "LISTENER_LOST"}
    assert set() == left


def overload_reasons(source: str) -> str:
    """Return the text that names the reasons of overload."""
    (found,) = re.findall(r"``reason`` is one of (.*?)\"\"\"", source, re.DOTALL)
    return str(found)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Request timeout expired", errors.Expired),
        ("[request id: 7] Exceeds maximum queue size", errors.QueueFull),
        (
            "explicit model load / unload is not allowed if polling is enabled",
            errors.ControlDisabled,
        ),
        ("something else", errors.Unavailable),
    ],
)
def test_texts_tell_apart_what_has_one_code(text: str, kind: type[errors.JitneyError]) -> None:
    """Other servers answer UNAVAILABLE to much that is not."""
    assert kind is type(statuses.from_rpc_error(Ended(Code.UNAVAILABLE, text)))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Request for unknown model: 'x' is not found", errors.ModelNotFound),
        ("unexpected shape for input 'x' for model 'm'", errors.InvalidRequest),
        ("Deadline Exceeded", errors.DeadlineExceeded),
        ("no idea", errors.RequestFailed),
    ],
)
def test_errors_of_a_stream_have_a_text_only(text: str, kind: type[errors.JitneyError]) -> None:
    """Those that the protocol fixes get their type, all others one that says so."""
    assert kind is type(statuses.from_stream(text))


@pytest.mark.parametrize(
    ("pushback", "seconds", "safe"),
    [
        ("250", 0.25, True),
        ("-1", None, False),
        ("soon", None, False),
        ("\u00b2", None, False),
        ("9" * 5000, None, False),
    ],
)
def test_advice_to_wait_is_in_seconds(pushback: str, seconds: float | None, *, safe: bool) -> None:
    """The server's pushback becomes ``retry_after``; a negative one forbids to try again."""
    for code in (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE):
        error = statuses.from_rpc_error(Ended(code, grpc_retry_pushback_ms=pushback))
        assert (seconds, safe) == (error.retry_after, error.safe_to_retry)


def test_overload_without_advice_is_not_safe_to_retry() -> None:
    """A message over the size limit has the same status, and is as long the next time."""
    assert not statuses.from_rpc_error(Ended(Code.RESOURCE_EXHAUSTED)).safe_to_retry
    assert statuses.from_rpc_error(Ended(Code.UNAVAILABLE)).safe_to_retry
    ended = Ended(Code.RESOURCE_EXHAUSTED, jitney_reason="DEVICE_OOM", grpc_retry_pushback_ms="9")
    assert not statuses.from_rpc_error(ended).safe_to_retry


def test_a_call_without_a_text_has_its_code() -> None:
    """An empty error would tell nobody anything."""
    assert "ABORTED" == str(statuses.from_rpc_error(Ended(Code.ABORTED, "")))


def test_all_types_are_exported() -> None:
    """Whoever catches one imports it from the package."""
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.JitneyError)
    }
    assert kinds <= set(jitney_client.__all__)
