"""The queue of one key: what leaves together, and what cancelling costs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jitney.scheduling.batch import Entry, State
from jitney.scheduling.queue import KeyQueue
from jitney.testing import make_entry, make_key


def queue_of(
    *rows: int, max_rows: int = 8, max_bytes: int = 1 << 20
) -> tuple[KeyQueue, list[Entry]]:
    """Return a queue with an entry for each number of rows (4 bytes each), named by position."""
    queue = KeyQueue(make_key(max_rows=max_rows, max_bytes=max_bytes))
    entries = [make_entry(queue.key, rows=n, id=str(i)) for i, n in enumerate(rows)]
    for entry in entries:
        queue.push(entry)
    return queue, entries


def discard(queue: KeyQueue, entry: Entry) -> None:
    """Cancel an entry as the policy does."""
    entry.state = State.DONE
    queue.discard(entry)


def test_take_is_the_longest_prefix_that_fits() -> None:
    """Entries leave in order until the next one would not fit, even if a later one would."""
    queue, entries = queue_of(3, 4, 2, 1)

    assert (entries[:2], 7, 28, True) == queue.take()
    assert (entries[2:], 3, 12, False) == queue.take()


def test_a_batch_with_all_its_rows_is_full() -> None:
    """Having exactly max_rows rows makes a batch full, whether or not anything is left."""
    queue, entries = queue_of(4, 4)

    assert (entries, 8, 32, True) == queue.take()


def test_a_batch_with_all_its_bytes_is_full() -> None:
    """Having exactly max_bytes bytes makes a batch full, as is_full() said."""
    queue, entries = queue_of(2, 2, max_bytes=16)

    assert queue.is_full()
    assert (entries, 4, 16, True) == queue.take()


def test_bytes_limit_a_batch_as_rows_do() -> None:
    """An entry whose bytes do not fit waits for the next batch."""
    queue, entries = queue_of(1, 2, 1, max_bytes=12)

    assert (entries[:2], 3, 12, True) == queue.take()
    assert (entries[2:], 1, 4, False) == queue.take()


def test_the_first_entry_leaves_even_if_it_alone_is_too_large() -> None:
    """An oversized head would block its queue for ever, so it leaves alone."""
    queue, entries = queue_of(9, 1)

    assert (entries[:1], 9, 36, True) == queue.take()


def test_taking_marks_running() -> None:
    """What was taken is RUNNING, what stays is QUEUED."""
    queue, entries = queue_of(8, 1)

    queue.take()

    assert [State.RUNNING, State.QUEUED] == [entry.state for entry in entries]


def test_discarded_entries_are_neither_counted_nor_taken() -> None:
    """rows, nbytes, len and head know live entries only."""
    queue, entries = queue_of(1, 2, 3)

    discard(queue, entries[0])
    discard(queue, entries[2])

    assert (1, 2, 8) == (len(queue), queue.rows, queue.nbytes)
    assert entries[1] is queue.head()
    assert ([entries[1]], 2, 8, False) == queue.take()
    assert (0, 0, 0, None) == (len(queue), queue.rows, queue.nbytes, queue.head())


def test_an_empty_queue_gives_an_empty_batch() -> None:
    """Taking from an empty queue takes nothing and is not full."""
    queue, _ = queue_of()

    assert ([], 0, 0, False) == queue.take()


def test_dead_entries_are_swept_out() -> None:
    """A thousand cancelled entries behind a live head are not kept."""
    queue, entries = queue_of(*[1] * 1001)

    for entry in entries[1:]:
        discard(queue, entry)

    assert len(queue._entries) < 20
    assert ([entries[0]], 1, 4, False) == queue.take()


def test_repr_is_a_status_line() -> None:
    """The repr shows the model, the entries and the rows."""
    queue, _ = queue_of(1, 2)

    assert "<KeyQueue echo/1 2 entries, 3 rows>" == repr(queue)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(1, 9)),
            st.tuples(st.just("discard"), st.integers(0, 50)),
            st.tuples(st.just("take"), st.just(0)),
        ),
        max_size=60,
    ),
    st.integers(1, 8),
    st.integers(4, 64),
)
def test_any_history_agrees_with_a_plain_list(
    steps: list[tuple[str, int]], max_rows: int, max_bytes: int
) -> None:
    """Whatever is pushed, cancelled and taken, the queue equals a list of its live entries."""
    queue = KeyQueue(make_key(max_rows=max_rows, max_bytes=max_bytes))
    live: list[Entry] = []
    for step, number in steps:
        if step == "push":
            entry = make_entry(queue.key, rows=number)
            queue.push(entry)
            live.append(entry)
        elif step == "discard" and live:
            discard(queue, live.pop(number % len(live)))
        elif step == "take":
            taken, rows, nbytes, full = queue.take()
            assert live[: len(taken)] == taken
            del live[: len(taken)]
            assert (rows, nbytes) == (sum(e.rows for e in taken), sum(e.nbytes for e in taken))
            if len(taken) > 1:
                assert rows <= max_rows
                assert nbytes <= max_bytes
            if live:
                left_out = live[0]
                assert full
                assert (
                    rows >= max_rows
                    or nbytes >= max_bytes
                    or rows + left_out.rows > max_rows
                    or nbytes + left_out.nbytes > max_bytes
                )
        assert len(live) == len(queue)
        assert sum(e.rows for e in live) == queue.rows
        assert sum(e.nbytes for e in live) == queue.nbytes
        assert (live[0] if live else None) is queue.head()
        assert len(queue._entries) <= 2 * len(live) + 17
