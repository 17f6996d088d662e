"""Several workers and many gaps: each event is compared with the log by one worker at a time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.backfill import order
from schemas.gaps import CLOSED, Gap

SECOND = 10**9


def gap(opened: int, channel: str = "trades", symbols: tuple[str, ...] = ("A",), first: int = 0,
        until: int | None = 10, feed: str = "stocks:iex", state: str = "opened") -> Gap:  # fmt: skip
    return Gap(
        f"{feed}:{channel}:{opened}:{symbols[0]}", feed, channel, symbols, "disconnect", opened,
        first * SECOND, None if until is None else until * SECOND, state,
    )  # fmt: skip


def pick(gaps: list[Gap], busy: list[Gap] | None = None) -> Gap | None:
    return order.following(gaps, lambda _: True, busy or [], lambda _: True)


def test_what_lasts_is_closed_or_is_an_account_s_is_nobody_s_work() -> None:
    """A gap without an end would be fetched to now, again and again."""
    gaps = [gap(1, until=None), gap(2, symbols=("B",), state=CLOSED), gap(3, "orders", feed="trading:x")]
    assert pick(gaps) is None
    assert order.waiting(gaps) == []


def test_overlapping_gaps_wait_for_one_another_and_others_do_not() -> None:
    """Two workers on the same events would publish both."""
    first, second = gap(1, symbols=("A", "B")), gap(2, symbols=("B",), first=5, until=20)
    other = gap(3, "quotes")
    assert order.following([first, second], lambda g: g is second, [], lambda _: True) is None
    assert order.following([second, other], lambda g: g is second, [], lambda _: True) is second
    assert pick([first, second, other], busy=[first]) is other
    assert pick([gap(1, until=None), gap(2, first=5)]) is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.booleans()), min_size=1, max_size=12))
@settings(max_examples=80)
def test_two_workers_are_never_at_the_same_events_and_all_gaps_are_filled(
    drawn: list[tuple[int, int, bool]],
) -> None:
    """Waiting for one another must not end in nobody doing anything."""
    gaps = [gap(n, first=first, until=first + length) for n, (first, length, _) in enumerate(drawn)]
    owner = {g.id: mine for g, (_, _, mine) in zip(gaps, drawn, strict=True)}
    left = gaps
    while left:
        of_one = order.following(left, lambda g: owner[g.id], [], lambda _: True)
        of_other = order.following(left, lambda g: not owner[g.id], [], lambda _: True)
        begun = [g for g in (of_one, of_other) if g is not None]
        assert begun, "somebody can always begin"
        if len(begun) == 2:
            assert not order.overlap(*begun)
        left = [g for g in left if g not in begun]


def test_with_many_gaps_the_newest_come_first() -> None:
    """After a bad day, what happens now is what a user looks at."""
    few = [gap(n, symbols=(f"S{n}",), first=n, until=n) for n in range(5)]
    many = [gap(n, symbols=(f"S{n}",), first=n, until=n) for n in range(order.MANY + 1)]
    assert order.waiting(few)[0] is few[0]
    assert order.waiting(many)[0] is many[-1]
