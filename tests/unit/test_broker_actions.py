"""What changes a position without a trade. Wrong here, the oracle of positions and exits would be wrong."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.broker import corporate, option_events, revisions
from simulator.broker.account_json import position_json
from simulator.broker.account_routes import activities
from simulator.broker.book import Adjustment, Book, Execution, Position
from simulator.broker.journal import Journal
from simulator.broker.recovery import restore
from simulator.broker.rejections import Rejection
from tests.broker_harness import World

D = Decimal
CALL, PUT = "AAPL260320C00090000", "AAPL260320P00110000"


def short(activity: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(activity.get(name) for name in ("activity_type", "symbol", "qty", "price", "net_amount"))


def with_contracts(*trades: tuple[str, str, int, int]) -> World:
    """A world in which accounts have contracts: (symbol, side, contracts, account); AAPL is at 100."""
    world = World()
    world.quote("AAPL", "99.99", "100.01")
    for symbol, side, qty, n in trades:
        world.order(symbol, side, qty, n=n)
        world.quote("AAPL", "99.99", "100.01")
    return world


def test_a_split_keeps_the_cost_and_cancels_orders_of_the_old_basis() -> None:
    """A stop at the old price would sell everything on the first quote of the new one."""
    world = World()
    world.quote("AAPL", 99, 100)
    world.order("AAPL", "buy", 25)
    stop = world.order("AAPL", "sell", 5, type="stop", stop_price="90", time_in_force="gtc")["id"]
    world.order("AAPL", "sell", 10, n=2)
    cash = world.broker.accounts[1].book.cash
    posted = corporate.split(world.broker, "AAPL", D(1), D(4))
    world.flush()
    assert world.status(stop) == "canceled"
    assert world.position("AAPL") == 100
    assert world.position("AAPL", 2) == -40
    assert world.broker.accounts[1].book.cash == cash
    removed, added, *_ = posted
    assert short(removed) == ("SPLIT", "AAPL", "-25", "100", "0")
    assert short(added) == ("SPLIT", "AAPL", "100", "25", "0")
    assert removed["group_id"] == added["group_id"] != posted[2]["group_id"]
    assert removed["activity_sub_type"] == "FSPLIT"
    position = world.broker.accounts[1].book.positions["AAPL"]
    assert position_json(world.broker.accounts[1], position, lambda _: D(26))["avg_entry_price"] == "25"


def test_a_bust_after_a_split_undoes_the_shares_in_the_new_basis() -> None:
    """Folded again without its split a position would have a quarter of its shares."""
    world = World()
    world.quote("AAPL", 99, 100)
    world.order("AAPL", "buy", 10)
    world.order("AAPL", "buy", 5)
    first = next(iter(world.broker.accounts[1].book.executions))
    corporate.split(world.broker, "AAPL", D(1), D(4))
    revisions.bust(world.broker, first)
    assert world.position("AAPL") == 20


def test_dividends_are_paid_to_holders_and_by_whoever_is_short() -> None:
    world = World()
    world.quote("AAPL", 99, 100)
    world.order("AAPL", "buy", 25)
    world.order("AAPL", "sell", 10, n=2)
    before = [world.broker.accounts[n].book.cash for n in (1, 2)]
    posted = corporate.dividend(world.broker, "AAPL", D("0.125"))
    assert [p["net_amount"] for p in posted] == ["3.13", "-1.25"]
    assert (posted[0]["qty"], posted[0]["per_share_amount"]) == ("25", "0.125")
    after = [world.broker.accounts[n].book.cash for n in (1, 2)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [D("3.13"), D("-1.25")]


def test_a_purchase_of_coins_pays_its_fee_in_coins_and_a_sale_in_dollars() -> None:
    """Quantity must equal the broker's exactly; an exit of what was bought would be refused."""
    world = World()
    world.broker.exchange.crypto_fee = D("0.0025")
    world.quote("BTC/USD", 60_000, 60_000)
    world.order("BTC/USD", "buy", "0.5")
    assert world.position("BTC/USD") == D("0.49875")
    cash = world.broker.accounts[1].book.cash
    world.order("BTC/USD", "sell", "0.1")
    assert world.broker.accounts[1].book.cash - cash == D(6_000) - D(15)
    sale, buy = activities(world.broker.accounts[1], {}, "CFEE")
    assert short(buy) == ("CFEE", "BTCUSD", "-0.00125", "60000", "0")
    assert short(sale) == ("CFEE", None, None, None, "-15")


@pytest.mark.parametrize(("symbol", "shares"), [(CALL, 200), (PUT, -200)])
def test_an_exercise_turns_contracts_into_shares_at_the_strike(symbol: str, shares: int) -> None:
    world = with_contracts((symbol, "buy", 3, 1))
    cash = world.broker.accounts[1].book.cash
    gone, traded = option_events.exercise(world.broker, 1, symbol, D(2))
    strike = 90 if symbol == CALL else 110
    assert short(gone) == ("OPEXC", symbol, "-2", None, "0")
    assert short(traded) == ("OPTRD", "AAPL", str(shares), str(strike), str(-shares * strike))
    assert gone["group_id"] == traded["group_id"]
    assert world.position(symbol) == 1
    assert world.position("AAPL") == shares
    assert world.broker.accounts[1].book.cash - cash == -shares * strike


def test_an_expiry_converts_what_is_in_the_money_and_ends_the_rest() -> None:
    """Long and short, in and out of the money: each leaves another position behind."""
    outside = "AAPL260320C00150000"
    world = with_contracts((CALL, "buy", 1, 1), (outside, "buy", 2, 1))
    book = world.broker.accounts[2].book
    book.adjust(Adjustment("x", CALL, "us_option", "trade", D(-1), D(10), world.now))
    posted = option_events.expire(world.broker, CALL) + option_events.expire(world.broker, outside)
    assert [p["activity_type"] for p in posted] == ["OPEXC", "OPTRD", "OPASN", "OPTRD", "OPEXP"]
    assert [world.position("AAPL", n) for n in (1, 2)] == [100, -100]
    assert short(posted[-1])[:3] == ("OPEXP", outside, "-2")
    assert [p.symbol for p in world.broker.accounts[1].book.open_positions()] == ["AAPL"]


def test_what_cannot_be_is_refused_with_its_reason() -> None:
    world = with_contracts((CALL, "buy", 1, 1))
    acts: tuple[Callable[[], object], ...] = (
        lambda: option_events.exercise(world.broker, 1, CALL, D(2)),
        lambda: option_events.exercise(world.broker, 1, CALL, D("0.5")),
        lambda: option_events.assign(world.broker, 1, CALL, None),
        lambda: option_events.exercise(world.broker, 9, CALL, None),
        lambda: option_events.expire(world.broker, "AAPL"),
        lambda: corporate.split(world.broker, "NOPE", D(1), D(2)),
        lambda: corporate.split(world.broker, "BTC/USD", D(1), D(2)),
        lambda: corporate.split(world.broker, "AAPL", D(0), D(2)),
        lambda: corporate.dividend(world.broker, "AAPL", D(0)),
    )
    for act in acts:
        with pytest.raises(Rejection):
            act()


def test_a_restarted_broker_has_the_positions_that_actions_left(tmp_path: Path) -> None:
    """Orders of splits, fees and fills count: a fold in another order has other averages."""
    world, journal = World(), Journal(tmp_path)
    journal.open(fresh=True)
    world.keep = journal.keep
    world.broker.exchange.crypto_fee = D("0.0025")
    world.quote("AAPL", 99, 100)
    world.quote("BTC/USD", 60_000, 60_010, 1)
    world.order("BTC/USD", "buy", 3)  # several fills, each with its fee
    world.quote("BTC/USD", 61_000, 61_010, 1)
    world.quote("BTC/USD", 62_000, 62_010, 1)
    world.order("AAPL", "buy", 10)
    corporate.split(world.broker, "AAPL", D(3), D(1))
    world.flush()
    world.order("AAPL", "buy", 10)
    corporate.dividend(world.broker, "AAPL", D("0.5"))
    world.flush()
    journal.close()
    other, again = World(), Journal(tmp_path)
    restore(other.broker, again.open(fresh=False))
    again.close()
    for n in (1, 2):
        mine, theirs = other.broker.accounts[n], world.broker.accounts[n]
        assert mine.book.positions == theirs.book.positions
        assert mine.book.cash == theirs.book.cash
        assert activities(mine, {}, None) == activities(theirs, {}, None)
    assert world.position("BTC/USD") == D("2.9925")


steps = st.lists(
    st.tuples(st.sampled_from(("buy", "sell", "split", "fee")), st.integers(1, 9), st.integers(1, 9)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_quantity_and_cash_are_those_of_a_naive_sum(history: list[tuple[str, int, int]]) -> None:
    """Money or shares from nowhere would make the oracle agree with a wrong fold."""
    book, qty, cash = Book(D(0)), D(0), D(0)
    for at, (kind, a, b) in enumerate(history):
        if kind in ("buy", "sell"):
            signed = D(a if kind == "buy" else -a)
            book.fill(Execution(str(at), "o", "AAPL", "us_equity", kind, D(a), D(b), at, D(a), D(0), str(at)))
            qty, cash = qty + signed, cash - signed * b
        else:
            amount, base = (D(2), D(1)) if kind == "split" else (D(-a) / 100, D(0))
            book.adjust(Adjustment(str(at), "AAPL", "us_equity", kind, amount, base, at))
            qty = qty * 2 if kind == "split" else qty + amount
    assert (book.quantity("AAPL"), book.cash) == (qty, cash)
    position = book.positions["AAPL"]
    assert isinstance(position, Position)
    assert position.qty or position.average == 0
