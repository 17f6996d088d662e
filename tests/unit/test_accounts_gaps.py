"""The pure parts of an account's gaps: what is doubted, and how what was found is counted.

If these fail a swallowed fill goes unnoticed, or a gap says that it was closed with more than there was.
"""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.accounts.interruptions import Interruptions, Repair
from producers.accounts.memory import Memory
from producers.accounts.savings import Savings
from schemas.codec import load_codec
from schemas.gaps import AUDIT, CLOSED, DISCONNECT, REQUEST, STALL, Board, Gap
from tests.portfolio_history import BASE, SECOND, Event, an_update
from tidewire import config

CODEC = load_codec(config.load(_env_file=None))
deals = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.booleans(), st.integers(1, 9), st.booleans()), max_size=12
)


def _stream(dealt: list[tuple[str, bool, int, bool]]) -> list[tuple[Event, bool]]:
    """Fills of two orders of one symbol, each with whether the stream tells it."""
    filled, held, told = {"a": 0, "b": 0}, 0, []
    for number, (order, buys, quantity, is_told) in enumerate(dealt):
        filled[order] += quantity
        held += quantity if buys else -quantity
        what = {
            "side": "buy" if buys else "sell", "quantity": Decimal(quantity), "price": Decimal(5),
            "cumulative_quantity": Decimal(filled[order]), "position_quantity": Decimal(held),
        }  # fmt: skip
        told.append((an_update("partial_fill", order, BASE + number * SECOND, **what), is_told))
    return told


@settings(max_examples=80)
@given(deals)
def test_the_first_fill_after_a_swallowed_one_is_doubted_and_no_other(
    dealt: list[tuple[str, bool, int, bool]],
) -> None:
    """A doubt costs six requests; a missing one costs the user a position."""
    memory = Memory()
    for order in ("a", "b"):
        memory.add(an_update("new", order, BASE - SECOND))
    anchored, swallowed = False, list[Event]()
    for update, is_told in _stream(dealt):
        if not is_told:
            swallowed.append(update)
            continue
        of_order = any(lost["order_id"] == update["order_id"] for lost in swallowed)
        moved = sum(lost["quantity"] * (1 if lost["side"] == "buy" else -1) for lost in swallowed)
        assert bool(memory.doubt(update)) == (of_order or (anchored and moved != 0))
        memory.add(update)
        for lost in swallowed:  # the round that the doubt has asked for
            memory.add({**lost, "position_quantity": None, "source": "rest"})
        anchored, swallowed = True, []
        assert memory.positions["AAPL"].quantity == update["position_quantity"]


def test_fills_that_rest_tells_carry_the_position_on() -> None:
    """After a reconnect each next fill would be doubted, or none."""
    memory = Memory()
    first, second, third = (update for update, _ in _stream([("a", True, 3, True)] * 3))
    memory.add(an_update("new", "a", BASE - SECOND))
    memory.add(first)
    memory.add({**second, "position_quantity": None})
    assert memory.doubt(third) is None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("lost"), st.sampled_from([DISCONNECT, STALL])),
        st.tuples(st.just("back"), st.just("")),
        st.tuples(st.just("event"), st.booleans()),
        st.tuples(st.just("round"), st.booleans()),
    ),
    max_size=25,
)


@settings(max_examples=80)
@given(steps)
def test_gaps_are_closed_once_and_count_each_event_once(history: list[tuple[str, object]]) -> None:
    """A plain list of what was untold is the reference: all of it is published by gaps, none of it twice."""
    written: list[Gap] = []
    gaps = Interruptions("trading:one", 7, written.append)
    now, lasts, untold, told_by_rest = BASE, False, list[int](), 0
    known: dict[object, int] = {}
    for kind, how in history:
        now += SECOND
        if kind == "lost" and not lasts:
            gaps.begin(str(how), now, now)
            lasts = True
        elif kind == "back" and lasts:
            gaps.over(now, now)
            lasts = False
        elif kind == "event" and lasts:
            untold.append(now)
        elif kind == "round" and (lasts or gaps.ended):
            known |= {("order", ts): ts for ts in untold}
            told = frozenset(("order", ts) for ts in untold)
            gaps.repaired(Repair(dict(known), told, moving=int(bool(how))), gaps.ended, now)
            told_by_rest += len(untold)
            untold = []
    board = Board()
    for gap in written:
        board.put(Gap.of(CODEC.decode(CODEC.encode("gap", gap.record()))[1]))
    assert len({gap.id for gap in written}) == sum(gap.rank_is_first for gap in map(_First, written))
    assert gaps.lasting == lasts
    published = sum(gap.published for gap in board.closed()) + sum(g.published for g in gaps._open.values())
    assert published == told_by_rest
    assert all(gap.found >= gap.published for gap in board.closed())
    assert len(board.open()) == int(lasts) + len(gaps.ended)


class _First:
    """Whether a written state is the first of its gap: opened, and lasting."""

    def __init__(self, gap: Gap) -> None:
        self.rank_is_first = gap.state == "opened" and gap.until_ts is None


def test_a_loss_in_a_healthy_connection_is_opened_and_closed_at_once() -> None:
    """It would be missing from the list of what was lost, since no connection ever ended."""
    written: list[Gap] = []
    gaps = Interruptions("trading:one", 7, written.append)
    for _ in range(2):
        gaps.silent(AUDIT, BASE, BASE + SECOND, Repair({"x": BASE + 1}, frozenset({"x"}), 0), BASE)
    assert [gap.state for gap in written] == ["opened", CLOSED] * 2
    assert [(gap.found, gap.published) for gap in written[1::2]] == [(1, 1)] * 2
    assert len({gap.id for gap in written}) == 2  # at the same moment of the clock


def test_what_polling_does_not_tell_stays_named_until_a_stream_listens() -> None:
    """An installation that polls would claim to be complete."""
    written: list[Gap] = []
    gaps = Interruptions("trading:one", 7, written.append)
    gaps.begin(REQUEST, BASE, BASE, without="polled")
    gaps.repaired(Repair({"x": BASE}, frozenset({"x"}), 1), gaps.ended, BASE + 1)
    assert [(gap.state, gap.unrecoverable) for gap in written] == [("opened", ("orders",))]
    later = Interruptions("trading:one", 8, written.append, written)
    later.begin(DISCONNECT, BASE, BASE + 2)
    later.over(BASE + 3, BASE + 3)
    later.repaired(Repair(), later.ended, BASE + 4)
    assert (written[-1].state, written[-1].unrecoverable, written[-1].owner_epoch) == (CLOSED, ("orders",), 8)


def test_savings_compare_with_polling_each_second() -> None:
    """The figure that speaks for the stream would be made up."""
    now = [0.0]
    savings = Savings(lambda: 6, lambda: now[0])
    assert str(savings) == "6 REST requests; polling each second would have made 0"
    now[0] = 60.0
    assert (savings.polling, savings.saved) == (180, 1 - 6 / 180)
    assert str(savings) == "6 REST requests; polling each second would have made 180 (96.7% saved)"
