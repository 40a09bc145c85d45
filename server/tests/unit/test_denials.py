"""What becomes of calls that are not allowed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest

from jitney.access import INFER, READ, Grant, Principal, Rule, acting_as
from jitney.access.bucket import Bucket
from jitney.access.rules import RUN_ONE
from jitney.access.tokens import new_token
from jitney.errors import AccessDenied, InvalidRequest, JitneyError, RateLimited, Unauthenticated
from jitney.telemetry.metrics import Metrics
from jitney.testing import FakeClock
from jitney.transport.denials import Denials, address_of
from jitney.transport.gate import Gate, authorization_in
from jitney.transport.shared_memory import RegionRegistry
from jitney.transport.status import Statuses

if TYPE_CHECKING:
    from pathlib import Path

PEER = "ipv4:10.0.0.1:4242"


class FakeAudit:
    """An audit log that can be looked at."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, dict[str, object]]] = []

    def record(self, event: str, *, principal: str = "", **facts: object) -> None:
        """Keep it."""
        self.records.append((event, principal, facts))


class Aborted(Exception):  # gRPC's own name for it
    """What a context raises."""


class FakeContext:
    """A call of somebody's."""

    def __init__(self) -> None:
        self.code = ""

    def peer(self) -> str:
        """Return where from."""
        return PEER

    async def abort(self, code: Any, *_: object) -> NoReturn:
        """Remember and raise."""
        self.code = code.name
        raise Aborted


class Desk:
    """Denials, and what they write to."""

    def __init__(self, rate: float = 10) -> None:
        self.audit, self.metrics, self.clock = FakeAudit(), Metrics(), FakeClock()
        self.denials = Denials(Statuses(), self.metrics, self.audit, self.clock, rate)

    def gate(self) -> Gate:
        """Return a gate whose refusals come here."""
        return Gate(cast("Any", None), self.denials, self.clock)

    def denied(self, reason: str) -> float:
        """Return how many were counted."""
        return self.metrics.access_denied.value(("ModelInfer", reason))


def test_a_refusal_is_counted_noted_and_told() -> None:
    """As a call, as a denial, and with who, what and where from in the audit log."""
    desk, context = Desk(), FakeContext()
    error = AccessDenied("no")

    with pytest.raises(Aborted):
        asyncio.run(desk.denials.refuse(RUN_ONE, error, "web", cast("Any", context), "m"))

    assert "PERMISSION_DENIED" == context.code
    assert 1 == desk.metrics.requests.value(("_unknown", "", "ModelInfer", "PERMISSION_DENIED"))
    assert 1 == desk.denied("access_denied")
    facts = {"method": RUN_ONE, "model": "m", "address": "ipv4:10.0.0.1", "reason": "no"}
    assert [("access.denied", "web", facts)] == desk.audit.records


def test_what_callers_write_makes_no_labels_and_shows_no_tokens() -> None:
    """Methods that there are not have one label, and names are cut and masked."""
    desk, token = Desk(), new_token()

    desk.denials.note(f"/x/{token}", Unauthenticated("no"), "", PEER, token * 10)

    assert 1 == desk.metrics.access_denied.value(("other", "unauthenticated"))
    ((event, name, facts),) = desk.audit.records
    assert ("access.unauthenticated", "") == (event, name)
    assert token.split("_", 2)[2] not in str(facts)


def test_an_address_with_too_many_is_told_to_wait_and_noted_no_more() -> None:
    """Whatever port it calls from; others are not concerned, and it passes."""
    desk = Desk(rate=1)
    error = AccessDenied("because")
    told = [desk.denials.note(RUN_ONE, error, "", f"ipv4:10.0.0.1:{port}") for port in range(7)]

    assert [error] * 5 == told[:5]
    assert all(isinstance(last, RateLimited) and last.retry_after == 1 for last in told[5:])
    assert "too many calls from this address are refused; why this one is: because" == str(told[5])
    assert (5, 2, 5) == (
        desk.denied("access_denied"),
        desk.denied("throttled"),
        len(desk.audit.records),
    )
    assert error is desk.denials.note(RUN_ONE, error, "", "ipv4:10.0.0.2:1")
    desk.clock.advance(1)
    assert error is desk.denials.note(RUN_ONE, error, "", PEER)


def test_a_rate_is_the_callers_own_and_no_offence() -> None:
    """Who is over it is neither noted for auditors nor counted against the address."""
    desk = Desk(rate=1)
    error = RateLimited("slow", retry_after=3)

    assert [error] * 20 == [desk.denials.note(RUN_ONE, error, "a", PEER) for _ in range(20)]
    assert (20, []) == (desk.denied("rate_limited"), desk.audit.records)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:4242", "ipv4:10.0.0.1"),
        ("ipv6:%5B::1%5D:4242", "ipv6:%5B::1%5D"),
        ("unix:/run/x.sock", "unix"),
        ("unix:", "unix"),
    ],
)
def test_an_address_has_no_port(peer: str, address: str) -> None:
    """Each connection has another one."""
    assert address == address_of(peer)


# -- the gate -------------------------------------------------------------------------------------


def principal(*roles: str, models: tuple[str, ...] = ("*",), **more: Any) -> Principal:
    """Return somebody."""
    return Principal("p", "token", [Grant(frozenset(roles), models)], **more)


def test_of_two_authorizations_none_counts() -> None:
    """One may be a proxy's; and what is no text is no token."""
    assert "Bearer x" == authorization_in([("a", "b"), ("authorization", "Bearer x")])
    assert authorization_in([("x-authorization", "Bearer x")]) is None
    for metadata in ([("authorization", "a")] * 2, [("authorization", b"a")]):
        with pytest.raises(Unauthenticated):
            authorization_in(metadata)


def test_nobody_satisfies_a_rule_without_roles() -> None:
    """Not even who has all of them: that is the rule of methods that have none."""
    with pytest.raises(AccessDenied) as caught:
        Desk().gate().enter(principal("infer", "read", "admin"), Rule(frozenset()))
    assert "there is no such method, or no rule for it" == str(caught.value)


def test_the_rate_is_taken_once_for_each_request() -> None:
    """At the door, or in a stream for each of its requests; not twice."""
    desk = Desk()
    slow = principal(INFER, bucket=Bucket(1, 2))
    gate, rule = desk.gate(), Rule(frozenset({INFER}))

    gate.enter(slow, rule, counts=False)
    gate.enter(slow, rule)
    gate.enter(slow, rule)
    with pytest.raises(RateLimited) as caught:
        gate.enter(slow, rule)
    assert "'p' may make 1 requests a second, and makes more" == str(caught.value)


def test_a_request_is_held_against_the_model_it_names() -> None:
    """And one that names none against all, where the rule says so."""
    gate = Desk().gate()
    some = principal(READ, models=("a*",))

    gate.check(some, Rule(frozenset({INFER, READ}), field="name"), "ab")
    gate.check(some, Rule(frozenset({READ}), field="name"), "")
    for rule, model in (
        (Rule(frozenset({READ}), field="name"), "b"),
        (Rule(frozenset({READ}), field="name", whole=True), ""),
        (Rule(frozenset({INFER}), field="name"), "ab"),
    ):
        with pytest.raises(AccessDenied):
            gate.check(some, rule, model)


def test_names_in_texts_are_short_and_harmless() -> None:
    """A megabyte, or codes that move a terminal's cursor, come back as what they are."""
    with pytest.raises(AccessDenied) as caught:
        Desk().gate().check(
            principal(READ, models=("a",)), Rule(frozenset({READ})), "\x1b[2J" * 999
        )
    assert len(str(caught.value)) < 400
    assert "\x1b" not in str(caught.value)


# -- shared memory --------------------------------------------------------------------------------


def test_regions_belong_to_who_registered_them(tmp_path: Path) -> None:
    """Others neither see nor use nor forget them, and may use the same names."""
    (tmp_path / "object").write_bytes(bytes(64))
    registry = RegionRegistry(enabled=True, folder=tmp_path)
    first, second = principal(INFER), Principal("q", "token", [])

    with acting_as(first):
        registry.register("r", "/object", 0, 8)
    with acting_as(second):
        assert [] == registry.regions()
        for look in (
            lambda: registry.regions("r"),
            lambda: registry.window(cast("Any", ("r", 0, 8))),
        ):
            with pytest.raises(JitneyError):
                look()
        registry.register("r", "/object", 16, 4)
        registry.unregister()
    with acting_as(first):
        assert [("r", 0, 8)] == [(r.name, r.offset, r.size) for r in registry.regions()]
        assert 8 == len(registry.window(cast("Any", ("r", 0, 8))))
        with pytest.raises(InvalidRequest):
            registry.window(cast("Any", ("r", 0, 9)))
