"""Limits of what is in flight, and each tenant's part of them."""

from __future__ import annotations

import contextlib

import pytest

from jitney.admission import Admission
from jitney.config import LimitSettings
from jitney.errors import BatchTooLarge, Overloaded


def admission(**limits: object) -> Admission:
    """Return an admission with tenants."""
    settings = {"max_inflight_requests": 80, "max_inflight_bytes": 800, "tenant_metadata_key": "t"}
    return Admission(LimitSettings(**(settings | limits)))  # type: ignore[arg-type]  # by name


def admitted(guard: Admission, tenant: str, nbytes: int = 1) -> int:
    """Admit requests of a tenant until one is refused; return how many there were."""
    count = 0
    with contextlib.suppress(Overloaded):
        while True:
            guard.admit(nbytes, tenant)
            count += 1
    return count


def refusal(guard: Admission, tenant: str, nbytes: int = 1) -> tuple[str, str]:
    """Return reason and text with which a request is refused."""
    with pytest.raises(Overloaded) as caught:
        guard.admit(nbytes, tenant)
    return caught.value.reason, str(caught.value)


def test_a_tenant_alone_has_all_but_the_last_eighth() -> None:
    """What stays free is for who comes next; it gets in at the first try."""
    guard = admission()

    assert 70 == admitted(guard, "a")
    guard.admit(1, "b")


def test_beside_others_a_tenant_has_its_share() -> None:
    """While another one has something in flight, half of the requests is the most."""
    guard = admission()
    guard.admit(1, "b")

    assert 40 == admitted(guard, "a")
    assert (
        "TENANT_QUOTA",
        "this tenant has 40 requests in flight, and others need room: it may have 40",
    ) == refusal(guard, "a")


def test_a_request_for_which_there_is_never_room_is_not_to_be_tried_again() -> None:
    """It is larger than all requests together may be, however few there are."""
    guard = Admission(LimitSettings(max_inflight_bytes=800))

    with pytest.raises(BatchTooLarge, match="takes 801 bytes, and all together may take 800"):
        guard.admit(801)

    assert (0, 0) == guard.statistics()


def test_bytes_are_shared_like_requests() -> None:
    """A few large requests count as many small ones do."""
    guard = admission()
    guard.admit(10, "b")

    assert 4 == admitted(guard, "a", 100)
    assert (
        "TENANT_QUOTA",
        "this tenant has 400 bytes of requests in flight, and others need room: it may have 400",
    ) == refusal(guard, "a", 100)


def test_two_floods_do_not_shut_a_third_tenant_out() -> None:
    """Whoever has nothing in flight gets in, however much the others ask for."""
    guard = admission()
    for _ in range(100):
        for tenant in ("a", "b"):
            with contextlib.suppress(Overloaded):
                guard.admit(1, tenant)

    assert 70 == guard.requests
    guard.admit(1, "c")
    assert 1 < admitted(guard, "c")


def test_a_large_request_is_no_reason_to_wait_for_ever() -> None:
    """A tenant with nothing in flight may send more than its share, within the limit itself."""
    guard = admission()
    guard.admit(10, "b")
    guard.admit(700, "a")

    assert "BYTE_BUDGET" == refusal(guard, "c", 100)[0]


def test_a_share_of_one_is_no_share() -> None:
    """Then only the limits hold."""
    assert 80 == admitted(admission(max_tenant_share=1.0), "a")


def test_without_tenants_everything_is_one() -> None:
    """Where no key is set, nothing is kept free for anybody."""
    assert 80 == admitted(admission(tenant_metadata_key=""), "")


def test_tenants_that_have_ended_are_forgotten() -> None:
    """Ten thousand names leave nothing behind."""
    guard = admission()
    for number in range(10_000):
        guard.admit(1, f"{number}")
        guard.release(1, f"{number}")

    assert ({}, (0, 0)) == (guard._held, guard.statistics())


def test_what_is_charged_counts_until_it_is_refunded() -> None:
    """Bytes that a request takes later are refused at the same limit."""
    guard = admission()
    guard.admit(500, "a")
    guard.charge(200)

    with pytest.raises(Overloaded) as caught:
        guard.charge(101)

    assert ("BYTE_BUDGET", 700) == (caught.value.reason, guard.nbytes)
    guard.refund(200)
    guard.release(500, "a")
    assert (0, 0) == guard.statistics()
