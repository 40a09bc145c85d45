"""Who may do what: principals, the rules of methods, and rates."""

from __future__ import annotations

import asyncio
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.access import (
    ADMIN,
    INFER,
    OPEN,
    READ,
    ROLES,
    RULES,
    UNIX,
    Grant,
    Principal,
    acting_as,
    become,
    current,
)
from jitney.access.bucket import MOST_ADDRESSES, Bucket, Offenders
from jitney.cli.token import ROLES as CLI_ROLES
from jitney.transport.services import method_paths


def principal(*grants: tuple[set[str], tuple[str, ...]]) -> Principal:
    """Return somebody who was granted roles for patterns of models."""
    return Principal("p", "token", [Grant(frozenset(r), models) for r, models in grants])


# -- roles ----------------------------------------------------------------------------------------


def test_a_role_is_for_the_models_of_its_own_grant() -> None:
    """What one grant says of a role does not spread to the models of another."""
    who = principal(({INFER}, ("digits*",)), ({READ}, ("*",)))

    assert (True, True, False) == (
        who.may(INFER, "digits"),
        who.may(INFER, "digits_2"),
        who.may(INFER, "minilm"),
    )
    assert (True, False) == (who.may(READ, "minilm"), who.may(ADMIN, "digits"))
    assert {INFER, READ} == who.anywhere


def test_no_role_includes_another() -> None:
    """Who administrates may neither run models nor read about them unless that was granted too."""
    for role in ROLES:
        who = principal(({role}, ("*",)))
        assert {role} == {other for other in ROLES if who.may(other, "m")}


def test_a_role_for_every_model_is_one_whose_pattern_is_the_star_alone() -> None:
    """Patterns that happen to match all names of today say nothing about those to come."""
    assert principal(({ADMIN}, ("*",))).may_everywhere((ADMIN,))
    assert not principal(({ADMIN}, ("?*", "a*", "*b"))).may_everywhere((ADMIN,))


def test_brackets_mean_nothing_in_a_pattern() -> None:
    """Only * and ? do; a dot is a dot."""
    who = principal(({INFER}, ("a.b?",)))

    assert (True, False, False) == (
        who.may(INFER, "a.bc"),
        who.may(INFER, "axbc"),
        who.may(INFER, "a.b"),
    )


@given(st.text(max_size=20), st.text(alphabet="ab*?", min_size=1, max_size=6))
def test_patterns_match_whole_names(name: str, pattern: str) -> None:
    """A pattern means what its regular expression does, anchored at both ends."""
    expression = pattern.replace("*", r"[\s\S]*").replace("?", r"[\s\S]")
    expected = re.fullmatch(expression, name) is not None

    assert expected == principal(({INFER}, (pattern,))).may(INFER, name)


def test_names_that_no_model_can_have_are_not_kept() -> None:
    """Callers may send any text as a model's name, as often as they like."""
    who = principal(({INFER}, ("a*",)))
    for number in range(5000):
        who.may(INFER, f"a{number}")

    assert not who.may(INFER, "a" * 129)
    assert len(who._known) <= 1024


def test_nothing_secret_is_in_the_text_of_a_principal() -> None:
    """A name and roles, for logs."""
    assert "<Principal p by token: infer, admin>" == repr(principal(({ADMIN, INFER}, ("*",))))
    assert "<Principal anybody by anonymous: infer, read, admin>" == repr(OPEN)


# -- who calls ------------------------------------------------------------------------------------


def test_who_calls_is_everybody_where_nobody_is_asked() -> None:
    """Without access control all may do everything, under no name."""
    assert (OPEN, "", True) == (current(), current().name, current().may(ADMIN, "m"))


def test_acting_on_behalf_ends_with_the_block() -> None:
    """Also when it ends by an error."""

    def fail() -> None:
        with acting_as(UNIX):
            assert UNIX is current()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert OPEN is current()


def test_calls_that_run_at_once_do_not_see_each_others_principal() -> None:
    """Each is a task of its own, and tasks that it starts act for the same one."""

    async def call(who: Principal) -> tuple[Principal, Principal]:
        become(who)
        await asyncio.sleep(0)

        async def inner() -> Principal:
            return current()

        return current(), await asyncio.create_task(inner())

    async def run() -> list[tuple[Principal, Principal]]:
        return await asyncio.gather(*map(call, callers))

    callers = [Principal(str(i), "token", ()) for i in range(20)]
    assert [(who, who) for who in callers] == asyncio.run(run())


# -- rules ----------------------------------------------------------------------------------------


def test_every_method_of_every_descriptor_has_a_rule() -> None:
    """A new method is denied to all, and this fails, until somebody decided who may call it."""
    assert set(method_paths()) == set(RULES)


def test_the_rules_are_those_of_the_page() -> None:
    """Who may call what, method by method: a change of it is a change of this list."""
    said = {path.rpartition("/")[2]: "/".join(sorted(rule.roles)) for path, rule in RULES.items()}

    assert {
        "ServerLive": "",
        "ServerReady": "",
        "ServerMetadata": "admin/infer/read",
        "ModelReady": "infer/read",
        "ModelMetadata": "infer/read",
        "ModelConfig": "infer/read",
        "ModelInfer": "infer",
        "ModelStreamInfer": "infer",
        "ModelStatistics": "read",
        "RepositoryIndex": "read",
        "RepositoryModelLoad": "admin",
        "RepositoryModelUnload": "admin",
        "SystemSharedMemoryStatus": "infer",
        "SystemSharedMemoryRegister": "infer",
        "SystemSharedMemoryUnregister": "infer",
        "CudaSharedMemoryStatus": "infer",
        "CudaSharedMemoryRegister": "infer",
        "CudaSharedMemoryUnregister": "infer",
        "TraceSetting": "admin",
        "LogSettings": "admin",
        "GetStatus": "read",
        "Check": "infer/read",
        "Watch": "infer/read",
        "List": "read",
        "ServerReflectionInfo": "read",
    } == said
    assert {"Check", "Watch"} == {
        path.rpartition("/")[2] for path, rule in RULES.items() if rule.open_names
    }


def test_the_command_knows_the_same_roles() -> None:
    """It has a list of its own, to start without the rest."""
    assert ROLES == CLI_ROLES


# -- rates ----------------------------------------------------------------------------------------


def test_a_burst_and_then_the_rate() -> None:
    """Three at once, then one every half second; what is refused costs nothing."""
    bucket = Bucket(2, 3)

    assert [0, 0, 0, 0.5, 0.5] == [bucket.take(10.0) for _ in range(5)]
    assert (0, 0.5) == (bucket.take(10.5), bucket.take(10.5))
    assert [0, 0, 0, 0.5] == [bucket.take(1000.0) for _ in range(4)]


def test_without_a_rate_everything_is_let_through() -> None:
    """Infinite numbers are no limit, and no nan either."""
    bucket = Bucket()

    assert [0, 0, 0] == [bucket.take(now) for now in (1.0, 1.0, 2.0)]


@given(st.lists(st.floats(0, 0.5), max_size=60), st.integers(1, 5), st.floats(0.5, 20))
def test_never_more_than_burst_and_rate_allow(pauses: list[float], burst: int, rate: float) -> None:
    """In any window, at most the burst and the rate times its length are let through."""
    bucket, now, taken = Bucket(rate, burst), 0.0, []
    for pause in pauses:
        now += pause
        if not bucket.take(now):
            taken.append(now)

    for i, start in enumerate(taken):
        for j in range(i, len(taken)):
            assert j - i + 1 <= burst + rate * (taken[j] - start) + 1e-6


def test_who_is_refused_too_often_is_told_how_long_to_wait() -> None:
    """By address; of more addresses than are kept, the quietest one starts anew."""
    offenders = Offenders(1, 2)

    assert [0, 0, 1] == [offenders.refused("a", 0.0) for _ in range(3)]
    for number in range(MOST_ADDRESSES):
        assert 0 == offenders.refused(str(number), 0.0)
    assert 0 == offenders.refused("a", 0.0)
    assert f"<Offenders {MOST_ADDRESSES} addresses>" == repr(offenders)


def test_a_principal_without_a_bucket_has_no_rate() -> None:
    """Their requests are not counted."""
    assert math.inf == principal().bucket.rate
