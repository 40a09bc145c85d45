"""Inputs that did harm."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from jitney.errors import InputQuarantined
from jitney.scheduling.quarantine import MOST_BYTES, MOST_CASES, SECONDS, Quarantine
from jitney.testing import make_entry, make_key

if TYPE_CHECKING:
    from jitney.scheduling.batch import Entry

KEY = make_key(dims=(1024,))


def entry(data: bytes, model: str = "echo") -> Entry:
    """Return an entry with these bytes."""
    made = make_entry(make_key(model, dims=(1024,)))
    made.request.data = [data]
    made.nbytes = len(data)
    return made


def refuses(quarantine: Quarantine, one: Entry, now: float) -> bool:
    """Return whether an entry is refused."""
    try:
        quarantine.check(one, now)
    except InputQuarantined:
        return True
    return False


def test_the_second_harm_is_one_too_many() -> None:
    """After it the same inputs are refused, and other ones are not."""
    quarantine = Quarantine()
    bad, other = os.urandom(5000), os.urandom(5000)
    assert not quarantine.active
    quarantine.note(entry(bad), 0.0, 1)
    assert (True, False) == (quarantine.active, refuses(quarantine, entry(bad), 1.0))

    quarantine.note(entry(bad), 2.0, 1)

    assert [True, False, False] == [
        refuses(quarantine, entry(data, model), 3.0)
        for data, model in ((bad, "echo"), (other, "echo"), (bad, "another"))
    ]


def test_a_request_that_ended_two_workers_is_refused_at_once() -> None:
    """Harm is counted by how much there was."""
    quarantine = Quarantine()
    quarantine.note(entry(b"x" * 100), 0.0, 2)
    with pytest.raises(InputQuarantined, match="not run again for 30 s"):
        quarantine.check(entry(b"x" * 100), 30.0)


def test_inputs_that_only_look_alike_are_not_refused() -> None:
    """Their samples are equal, their digests differ."""
    bad = bytearray(os.urandom(100_000))
    alike = bytearray(bad)
    alike[777] ^= 1
    quarantine = Quarantine()
    quarantine.note(entry(bytes(bad)), 0.0, 2)
    assert [True, False] == [refuses(quarantine, entry(bytes(data)), 1.0) for data in (bad, alike)]


def test_the_same_bytes_in_another_shape_are_other_inputs() -> None:
    """What one shape of zeros did is not held against another one, nor against more rows."""

    def zeros(dims: tuple[int, ...], rows: int) -> Entry:
        made = make_entry(make_key(dims=dims), rows=rows)
        made.request.data = [bytes(64)]
        made.nbytes = 64
        return made

    quarantine = Quarantine()
    quarantine.note(zeros((16,), 1), 0.0, 2)
    found = [
        refuses(quarantine, zeros(*shape), 1.0) for shape in (((16,), 1), ((4, 4), 1), ((8,), 2))
    ]
    assert [True, False, False] == found


def test_after_a_while_it_is_forgotten() -> None:
    """And nothing is asked any more."""
    quarantine = Quarantine()
    quarantine.note(entry(b"bad"), 0.0, 2)
    assert not refuses(quarantine, entry(b"bad"), SECONDS)
    assert not quarantine.active


def test_large_and_remote_inputs_are_left_alone() -> None:
    """A digest of them would hold up everybody, or be of something else."""

    class Remote:
        def __len__(self) -> int:
            return 3

    quarantine = Quarantine()
    quarantine.note(entry(bytes(MOST_BYTES + 1)), 0.0, 2)
    quarantine.note(entry(Remote()), 0.0, 2)  # type: ignore[arg-type]  # as far as it is used
    assert not quarantine.active


def test_no_more_is_remembered_than_a_bound() -> None:
    """The oldest is forgotten first."""
    quarantine = Quarantine()
    for number in range(MOST_CASES + 1):
        quarantine.note(entry(number.to_bytes(8, "little")), number / 1000, 2)
    assert f"<Quarantine {MOST_CASES} inputs>" == repr(quarantine)
    assert [False, True] == [
        refuses(quarantine, entry(number.to_bytes(8, "little")), 2.0) for number in (0, 1)
    ]
