"""Portfolio, placing and exits together, through splits and bad mornings.

If these fail, a split sells a position that has lost nothing, or a real crash finds its stop held for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from processors.columns.records import Records
from processors.exits.explain import explain
from processors.placing.desk import Desk
from processors.placing.position import of_holding
from processors.portfolio.book import Book
from processors.portfolio.exact import exact
from producers.accounts import activities
from schemas.exit_rules import parse, read_parameters, rule_record
from tests.exits_market import DAY, HOUR, MINUTE, OPENS, SECOND, Market
from tests.portfolio_history import Event, a_position, a_snapshot, an_update

MIDNIGHT = OPENS - 9 * HOUR - 30 * MINUTE
TUESDAY = MIDNIGHT + DAY


def at(hour: int, minute: int = 0, day: int = 0) -> int:
    """A time in New York, on that many days after Monday, in ns."""
    return MIDNIGHT + day * DAY + hour * HOUR + minute * MINUTE


class World:
    """100 AAPL of account demo-1, bought at 100 on Monday at ten, and everything that guards them.

    `crashing`: after each input the placing is loaded from its rows anew, and the exits play their log again.
    """

    def __init__(
        self, policy: Mapping[str, Any] | None = None, crashing: bool = False, side: str = "buy"
    ) -> None:
        spec = () if policy is None else (("policy", parse(policy)),)
        self.policies = {("demo-1", "us_equity"): spec}
        self.crashing, self.market, self.offset = crashing, Market(at(9, 45)), 0
        self.rows: dict[bytes, bytes] = {}
        self.book, self.desk = Book(Records(1)), Desk(Records(1, self.rows), self.policies)
        self.written: list[dict[str, Any]] = []
        self.shares = Decimal(0)
        self.snapshot(at(9))
        self.shares = Decimal(100 if side == "buy" else -100)
        amounts = {"quantity": Decimal(100), "price": Decimal(100), "cumulative_quantity": Decimal(100)}
        self._fold(self.book.fold_update, an_update("fill", "o1", at(10), side=side, **amounts))

    def rule(self, spec: Mapping[str, Any], ts: int) -> None:
        """Somebody sets a rule."""
        record = rule_record("demo-1", "AAPL", "mine", parse(spec), "cli:anna", ts)
        self.desk.fold_rule(record, self._next())
        self._send()

    def snapshot(self, ts: int) -> None:
        """The broker says what it holds."""
        held = [a_position("AAPL", str(self.shares), "1")] if self.shares else []
        reach = {"activity_cursor": "20260601100000000::0", "contained_fills": ["o1:100"]} if held else {}
        self._fold(self.book.fold_snapshot, a_snapshot(ts, positions=held, **reach))

    def split(self) -> None:
        """The broker has the new shares."""
        self.shares *= 4

    def booked(self, ts: int, told: int) -> None:
        """Both activities of a split, dated `ts` and read at `told`."""
        after = Decimal(400 if self.shares > 0 else -400)
        before = Decimal(100 if self.shares > 0 else -100)
        for number, quantity in ((1, -before), (2, after)):
            raw = {"id": f"a::{number}", "activity_type": "SPLIT", "symbol": "AAPL", "group_id": "g"}
            raw |= {"qty": str(quantity), "net_amount": "0", "created_at": "2026-06-01T20:00:00Z"}
            record = activities.content("demo-1", raw)
            record |= {"ts": ts, "received_ts": told, "source": "rest", "owner_epoch": 1}
            self._fold(self.book.fold_activity, record)

    def announced(self, heard: int, **more: Any) -> None:
        """A split of 4 for 1 on Tuesday is heard of."""
        self.market.now = max(self.market.now, heard)
        known = {"action_id": "x", "kind": "forward_split", "ts": TUESDAY, "removed": False}
        self.market.other("corporate_action", {**known, "old_rate": 1, "new_rate": 4, **more})
        self._crash()

    def quote(self, price: float, ts: int) -> None:
        """Two quotes, since one may be a wild time stamp. The price is that of the side that exits."""
        bid, ask = (price, price + 0.02) if self.shares > 0 else (price - 0.02, price)
        for later in (0, SECOND):
            self.market.quote(round(bid, 2), round(ask, 2), ts + later)
        self._crash()

    def watch(self) -> dict[str, Any]:
        """The newest one."""
        return self.written[-1]

    def _fold(self, fold: Any, record: Event) -> None:
        fold(record, self._next())
        with exact():
            for held in self.book.opened():
                self.desk.position(of_holding(held))
        self._send()

    def _send(self) -> None:
        changes = self.desk.take()
        for change in changes:
            self.market.watch(change.watch)
            self.written.append(change.watch)
        self.desk.written(changes)
        self._crash()

    def _next(self) -> int:
        self.offset += 1
        return self.offset

    def _crash(self) -> None:
        if not self.crashing:
            return
        for key, row in self.desk.shelf.records.take_changed().items():
            if row is not None:
                self.rows[key] = row
        self.desk = Desk(Records(1, self.rows), self.policies)
        assert not self.desk.take(), "what stands already is not written again"
        self.market.crash()
        self.market.commit()


RULES: dict[str, tuple[Mapping[str, Any] | None, Mapping[str, Any] | None, int]] = {
    "own price": (None, {"kind": "stop_loss", "price": "95"}, at(11)),
    "percent of the entry": ({"kind": "stop_loss", "percent": "5"}, None, 0),
    "own trail": (None, {"kind": "trailing_stop", "trail_price": "5"}, at(11)),
    "trail in percent": ({"kind": "trailing_stop", "trail_percent": "5"}, None, 0),
    "set after it": (None, {"kind": "stop_loss", "price": "23.75"}, at(9, 40, day=1)),
}
ANNOUNCED = {"before": at(13), "late": at(11, day=1), "never": 0}
BOOKED = {
    "the evening before": (at(20), at(20, 5)),
    "before the open": (TUESDAY, at(4, 10, day=1)),
    "after the open": (at(10, day=1), at(10, 5, day=1)),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("announced", ANNOUNCED)
@pytest.mark.parametrize("booked", BOOKED)
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_a_split_is_told_once_whoever_tells_it_and_when(
    rule: str, announced: str, booked: str, side: str
) -> None:
    """4 for 1: 100 becomes 25 over night. Nothing fires by that alone, and then 5 percent do.

    The broker has the new shares from four in the morning, or when it books them, if that is earlier.
    """
    policy, own, set_at = RULES[rule]
    long = side == "buy"
    stop = "23.75" if long else "26.25"
    if own is not None and "price" in own:
        own = {**own, "price": ("95" if long else "105") if set_at < TUESDAY else stop}
    world = World(policy, crashing=announced == "late" and long, side=side)
    (dated, told), heard = BOOKED[booked], ANNOUNCED[announced]
    quotes = [(100.0, at(h, m)) for h, m in ((12, 0), (14, 0), (15, 59))]
    quotes += [(25.0, at(h, m, day=1)) for h, m in
               ((8, 0), (9, 31), (9, 35), (9, 50), (10, 3), (10, 20), (11, 20))]  # fmt: skip
    looks = [at(12, 30), at(20, 10)]
    looks += [at(h, m, day=1) for h, m in ((5, 0), (5, 1), (9, 32), (10, 10))]
    steps: list[tuple[int, Callable[[], None]]] = []
    steps += [(ts, partial(world.quote, price, ts)) for price, ts in quotes]
    steps += [(ts, partial(world.snapshot, ts)) for ts in looks]
    steps.append((min(told, at(4, day=1)), world.split))
    steps.append((told, partial(world.booked, dated, told)))
    if heard:
        steps.append((heard, partial(world.announced, heard)))
    if own is not None:
        steps.append((set_at, partial(world.rule, own, set_at)))
    for _, step in sorted(steps, key=lambda one: one[0]):
        step()
    assert world.market.fired() == []
    near, beyond = (23.8, 23.7) if long else (26.15, 26.3)
    world.quote(near, at(12, day=1))
    assert world.market.fired() == []
    world.quote(beyond, at(12, 1, day=1))
    (trigger,) = world.market.triggers
    assert trigger["threshold"] == Decimal(stop)
    assert explain(trigger).fires


@pytest.mark.parametrize("booked", ["days before", "a day late"])
@pytest.mark.parametrize("rule", ["own price", "percent of the entry", "own trail", "trail in percent"])
def test_an_announced_split_that_is_booked_on_another_day_counts_once(rule: str, booked: str) -> None:
    """In the evening before a long weekend, or a day late: announcement and booking tell of one split."""
    policy, own, set_at = RULES[rule]
    world = World(policy)
    if own is not None:
        world.rule(own, set_at)
    world.announced(at(13), ts=MIDNIGHT + 4 * DAY)
    world.quote(100.0, at(15, 59))
    world.split()
    if booked == "days before":
        world.booked(at(20), at(20, 5))
        world.quote(100.0, at(10, day=3))  # nobody trades then; a stray quote is no price of the new shares
    world.quote(25.0, at(10, day=4))
    if booked == "a day late":
        world.booked(at(10, day=7), at(10, 5, day=7))
    world.quote(25.0, at(11, day=7))
    assert world.market.fired() == []
    world.quote(23.8, at(12, day=7))
    assert world.market.fired() == []
    world.quote(23.7, at(12, 1, day=7))
    (trigger,) = world.market.triggers
    assert trigger["threshold"] == Decimal("23.75")


def test_a_bad_morning_fires_once_the_broker_has_confirmed_the_position() -> None:
    """60 after 100: a crash, or a split that nobody announced. Before the open the broker may not know it."""
    world = World({"kind": "stop_loss", "percent": "5"})
    world.quote(100.0, at(15, 59))
    fired = []
    for ts in (at(20), at(8, day=1), at(9, 32, day=1)):
        world.snapshot(ts)
        world.quote(60.0, max(ts, at(9, 31, day=1)) + MINUTE)
        fired.append(bool(world.market.fired()))
    assert fired == [False, False, True]
    assert [g for g, _ in world.market.told("held")] == ["overnight_move"]


def test_a_broker_that_holds_another_quantity_confirms_nothing() -> None:
    """It has split its shares and we have not heard of it: the price of 25 is no loss."""
    world = World({"kind": "stop_loss", "percent": "5"})
    world.quote(100.0, at(15, 59))
    world.split()
    for minute in (31, 33, 35):
        world.snapshot(at(9, minute, day=1))
        world.quote(25.0, at(9, minute + 1, day=1))
    assert world.market.fired() == []
    assert world.watch()["held"] == "unexplained"


def test_a_spin_off_holds_until_the_session_after_it_is_confirmed() -> None:
    """What a share is worth without its part, nobody computes: the broker's word ends the hold."""
    world = World({"kind": "stop_loss", "percent": "5"})
    world.announced(at(13), kind="spin_off", old_rate=None, new_rate=None)
    world.quote(94.0, at(9, 31, day=1))
    assert world.market.fired() == []
    world.snapshot(at(9, 32, day=1))
    world.quote(94.0, at(9, 33, day=1))
    assert world.market.fired() == ["demo-1:AAPL:1:0"]


def test_a_split_that_was_announced_and_never_was_is_undone_once_it_is_confirmed() -> None:
    """A stop at a quarter of its price would guard nothing."""
    world = World({"kind": "trailing_stop", "trail_percent": "5"})
    world.quote(100.0, at(15, 59))
    world.announced(at(16))
    world.quote(99.0, at(9, 31, day=1))
    world.announced(at(9, 31, day=1) + 2 * SECOND, removed=True)
    world.quote(99.0, at(9, 32, day=1))
    assert world.market.told("alert")
    world.snapshot(at(9, 33, day=1))
    world.quote(99.0, at(9, 34, day=1))
    assert world.market.fired() == []
    world.quote(94.0, at(9, 35, day=1))
    (trigger,) = world.market.triggers
    assert trigger["threshold"] == Decimal("94.05")


def test_watches_are_written_again_once_a_day_and_not_by_a_restart() -> None:
    """A thousand positions would be written anew every minute."""
    world = World({"kind": "stop_loss", "percent": "5"}, crashing=True)
    counts = []
    for day in (0, 1, 2, 3, 4, 5, 6, 7):  # the sixth and seventh are a weekend
        for hour in (4, 10, 11, 15):
            before = len(world.written)
            world.snapshot(at(hour, 1, day=day))
            counts.append(len(world.written) - before)
    assert counts == [0, 1, 0, 0] * 5 + [0] * 8 + [0, 1, 0, 0]
    confirmed = read_parameters(world.watch()["parameters"]).confirmed_ts
    assert confirmed == OPENS + 7 * DAY
    assert set(world.market.told("armed")) == {("", "exit epoch 0 of position epoch 1")}


def test_a_percent_rule_is_held_in_the_evening_of_a_split_that_is_booked_already() -> None:
    """Its prices are of tomorrow's shares, the market's of today's: 26.25 is no reason to sell."""
    order = {"type": "limit", "limit_offset_percent": "1"}
    world = World({"kind": "take_profit", "percent": "5", "extended_hours": True, "order": order})
    world.quote(100.0, at(15, 59))
    world.split()
    world.booked(at(18), at(18, 1))
    world.quote(100.0, at(19))
    assert ([g for g, _ in world.market.told("held")], world.market.fired()) == (["corporate_action"], [])
    world.quote(25.0, at(9, 31, day=1))
    assert world.market.fired() == []
    world.quote(26.3, at(9, 32, day=1))
    assert world.market.fired() == ["demo-1:AAPL:1:0"]
