"""The exits of one partition: watches, prices and gates are folded here, triggers come out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from processors.columns.records import Records
from processors.exits.coordinates import Coordinates
from processors.exits.evaluation import Evaluation
from processors.exits.feeds import Feeds
from processors.exits.gates import FEED, QUOTE, component
from processors.exits.hours import Hours, NewYork
from processors.exits.outcome import APPLIED, DUPLICATE, LATE, STALE, UNWATCHED, Outcome
from processors.exits.placed import Placed
from processors.exits.prices import Quote, Trade, sets_last
from processors.exits.rules import ASK, BID, LAST
from processors.exits.shelf import VERSION, Shelf
from processors.exits.state import HELD, PENDING, SENT, Guard
from processors.exits.trigger import Cause
from processors.exits.watching import Watching
from schemas.order_ids import trigger_name

Record = Mapping[str, Any]

__all__ = ["VERSION", "Coordinates", "Outcome", "PartitionExits"]


class PartitionExits:
    """The live state of one partition over the rows of its table.

    Decisions depend on the inputs in the order in which these methods are called and on event time, never on
    batches or clocks. Every method may see the same record again. Each returns what became of its input (see
    outcome.py), for the counters.
    """

    def __init__(self, records: Records, hours: Hours | None = None) -> None:
        """`hours`: hours.NewYork() unless told; hours.AlwaysOpen() for a synthetic market."""
        self.records = records
        self._hours = hours or NewYork()
        self._shelf = Shelf(records, self._hours)
        self._clock = self._shelf.clock
        self._feeds = Feeds()
        self._evaluation = Evaluation(self._shelf, self._hours)
        self._schedule = self._evaluation.schedule
        self._placed = Placed(self._shelf, self._evaluation, self._feeds)
        self._watched = self._placed.watched

    def watched(self) -> set[str]:
        """Reference symbols with at least one active watch."""
        return set(self._watched)

    def armed(self) -> int:
        """Rules that may fire, held ones included."""
        return sum(guard.live for guard in self._shelf.guards.values())

    def pending(self) -> list[dict[str, Any]]:
        """exit_trigger records whose intents are perhaps not published."""
        return list(self._shelf.triggers.values())

    def take(self) -> Outcome:
        """What came since the last call."""
        outcome, self._evaluation.outcome = self._evaluation.outcome, Outcome()
        return outcome

    # ---------------------------------------------------------------- rules

    def watch(self, record: Record | None, at: Coordinates, key: bytes = b"") -> str:
        """An exit_watch; None with its Kafka key for a tombstone."""
        if record is None:
            return self._placed.tombstone(key.decode(), at.offset)
        self._evaluation.cause = Cause(record["received_ts"], record["source"])
        return self._placed.watch(record, at.offset)

    def signal(self, record: Record, at: Coordinates) -> str:
        """A signal; rules with `on_signal` tighten or exit."""
        watching = self._watched.get(record["symbol"])
        if watching is None:
            return UNWATCHED
        if not _next(watching, at):
            return DUPLICATE
        self._evaluation.cause = Cause(record["received_ts"], record["source"])
        self._shelf.dirty_symbols[watching.symbol] = watching
        self._placed.signal(watching, record)
        return APPLIED

    def result_published(self, trigger_id: str) -> None:
        """The intent of this trigger is acknowledged by Kafka: it is sent."""
        record = self._shelf.sent(trigger_id)
        if record is None:
            return
        outcome = self._evaluation.outcome
        outcome.triggers.append(record)
        self._evaluation.cause = Cause(record["received_ts"], record["source"])
        position = record["account"], record["symbol"]
        for guard in self._evaluation.positions.get(position, {}).values():
            if guard.state == PENDING and trigger_name(*position, *guard.epochs) == trigger_id:
                self._evaluation.stop(guard, SENT)
                if guard.watch["rule"] == record["rule"]:
                    self._evaluation.tell(guard, "published", "the intent is in the log")

    # ---------------------------------------------------------------- prices

    def quote(
        self,
        symbol: str,
        bid: float,
        ask: float,
        bid_size: float,
        ask_size: float,
        conditions: Sequence[str],
        ts: int,
        received_ts: int,
        at: Coordinates,
        source: str = "ws",
    ) -> str:
        """A quote of a stock, an option or a pair."""
        watching = self._watched.get(symbol)
        if watching is None:
            return UNWATCHED
        expected, topic, offset = watching.prices.expected, at[0], at[2]
        if offset < expected.get(topic, 0):
            return DUPLICATE
        expected[topic] = offset + 1
        now = self._clock.see(ts)
        self._shelf.dirty_symbols[symbol] = watching
        quote = Quote(bid, ask, tuple(conditions), ts, received_ts, source, at)
        if not watching.prices.take_quote(quote, now, self._hours):
            return LATE
        if ts > now:  # so far ahead that another event must confirm it first
            return APPLIED
        if now >= self._schedule.next_time or (watching.next_action and now >= watching.next_action):
            self._timely(watching, Cause(received_ts, source, at, ts, bid))
        if watching.quote_matters(bid, ask):
            self._evaluation.cause = Cause(received_ts, source, at, ts, bid)
            self._evaluation.each(watching, lambda guard: _quote_concerns(guard, quote))
        return APPLIED

    def trade(
        self,
        symbol: str,
        price: float,
        size: float,
        conditions: Sequence[str],
        exchange: str,
        ts: int,
        received_ts: int,
        at: Coordinates,
        source: str = "ws",
        tape: str = "",
    ) -> str:
        """A trade of a stock, an option (its one condition in a sequence) or a pair (no conditions)."""
        watching = self._watched.get(symbol)
        if watching is None:
            return UNWATCHED
        expected, topic, offset = watching.prices.expected, at[0], at[2]
        if offset < expected.get(topic, 0):
            return DUPLICATE
        expected[topic] = offset + 1
        now = self._clock.see(ts)
        self._shelf.dirty_symbols[symbol] = watching
        eligible = sets_last(watching.prices.asset_class, conditions, tape)
        trade = Trade(price, tuple(conditions), eligible, ts, received_ts, source, at)
        if eligible and not watching.prices.take_trade(trade, now, self._hours):
            return LATE
        if ts > now:  # so far ahead that another event must confirm it first
            return APPLIED
        if watching.halt is not None and eligible and watching.take_proof(trade):
            self._evaluation.cause = Cause(received_ts, source, at, ts, price)
            self._placed.changed(watching)
        if now >= self._schedule.next_time or (watching.next_action and now >= watching.next_action):
            self._timely(watching, Cause(received_ts, source, at, ts, price))
        if watching.trade_matters(price):
            self._evaluation.cause = Cause(received_ts, source, at, ts, price)
            self._placed.trade(watching, trade, lambda guard: _trade_concerns(guard, price))
        return APPLIED

    def tick(self, ts: int, at: Coordinates) -> None:
        """Event time goes on by a symbol that nobody watches: time rules of quiet symbols need it."""
        if self._clock.see(ts) >= self._schedule.next_time:
            self._evaluation.cause = Cause(0, "ws")
            self._evaluation.timely()

    def _timely(self, watching: Watching, cause: Cause) -> None:
        self._evaluation.cause = cause
        if watching.next_action and self._clock.now >= watching.next_action:
            self._evaluation.rebase(watching, watching.live())
        if self._clock.now >= self._schedule.next_time:
            self._evaluation.timely()

    # ---------------------------------------------------------------- what holds exits

    def status(self, record: Record, at: Coordinates) -> str:
        """A stock_status; all symbols, watched or not: a halt may be older than a watch."""
        watching = self._placed.symbol(record["symbol"])
        if not _next(watching, at):
            return DUPLICATE
        self._evaluation.cause = Cause(record["received_ts"], record["source"])
        applied = watching.take_status(record)
        self._placed.changed(watching)
        return APPLIED if applied else STALE

    def luld(self, record: Record, at: Coordinates) -> str:
        """A stock_luld of a watched symbol; others change nothing."""
        watching = self._watched.get(record["symbol"])
        if watching is None:
            return UNWATCHED
        if not _next(watching, at):
            return DUPLICATE
        self._shelf.dirty_symbols[watching.symbol] = watching
        if watching.band is not None and record["ts"] < watching.band[2]:
            return LATE
        watching.band = record["limit_down_price"], record["limit_up_price"], record["ts"]
        return APPLIED

    def corporate_action(self, record: Record, at: Coordinates) -> str:
        """A corporate_action; all symbols."""
        watching = self._placed.symbol(record["symbol"])
        if not _next(watching, at):
            return DUPLICATE
        self._evaluation.cause = Cause(record["received_ts"], record["source"])
        if watching.take_action(record, self._clock.now):
            self._evaluation.rebase(watching, watching.live())
        self._placed.changed(watching)
        return APPLIED

    def gap(self, record: Record) -> str:
        """A gap of any feed; the same one may come again and again."""
        gap = self._feeds.gap(record)
        if gap is None:
            return DUPLICATE
        self._evaluation.cause = Cause(record["received_ts"], record["source"])
        for watching in list(self._watched.values()):
            self._placed.look_at_feeds(watching)
        return APPLIED

    def connection(self, record: Record) -> str:
        """A connection of any feed."""
        of_class = self._feeds.connection(record)
        if of_class is None:
            return DUPLICATE
        self._evaluation.cause = Cause(record["received_ts"], record["source"])
        away = self._feeds.down_for(record)
        for watching in list(self._watched.values()):
            if watching.prices.asset_class == of_class:
                self._placed.look_at_feeds(watching)
                if away:
                    self._long_away(watching, away)
        return APPLIED

    def _long_away(self, watching: Watching, away: int) -> None:
        """Event time may stand still while a feed is away: its own records tell for how long."""
        for guard in watching.live():
            if guard.state == HELD and guard.gate == FEED and guard.rule and away >= guard.rule.max_hold:
                self._evaluation.alert(guard)


def _next(watching: Watching, at: Coordinates) -> bool:
    """Whether a record is a new one; it counts as seen from now on."""
    if at.offset < watching.prices.expected.get(at.topic, 0):
        return False
    watching.prices.expected[at.topic] = at.offset + 1
    return True


def _quote_concerns(guard: Guard, quote: Quote) -> bool:
    if guard.state == HELD or guard.marks.signalled:
        return True
    if guard.rule is None or component(guard.rule) != QUOTE:
        return False
    named = guard.rule.reference
    value = quote.bid if named == BID else quote.ask if named == ASK else (quote.bid + quote.ask) / 2
    return guard.awake or not guard.low < value < guard.high


def _trade_concerns(guard: Guard, price: float) -> bool:
    if guard.state == HELD or guard.marks.signalled:
        return True
    if guard.rule is None or guard.rule.reference != LAST:
        return False
    return guard.awake or not guard.low < price < guard.high
