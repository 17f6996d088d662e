"""Order events from the broker to the client: sent, in the topic, folded, in PostgreSQL, pushed. Pure.

An event is what was said of an order: event, filled so far, quantity and price of the fill. The way that a
restored event came (REST instead of the socket) and its receive time are not part of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from schemas.event_id import plain_quantity
from schemas.fills import FILL_EVENTS, REVISION_EVENTS
from schemas.gaps import EVERY, Gap

LASTING = frozenset((*FILL_EVENTS, *REVISION_EVENTS, "canceled", "expired", "rejected", "replaced"))
"""Events that REST tells afterwards: fills, and how an order ended. All others are passing states."""

TOLERANCE = Decimal("1e-6")
"""Part of an average price by which the broker's rounding may differ."""

Position = tuple[str, str]
"""(account, symbol)."""


class Event(NamedTuple):
    """One event of one order; quantities in shares, units or contracts, price in USD."""

    order_id: str
    event: str
    cumulative: Decimal
    quantity: Decimal | None
    price: Decimal | None


class Standing(NamedTuple):
    """How an order stands."""

    status: str
    filled: Decimal


@dataclass(frozen=True, slots=True)
class Sent:
    """What the broker says: every event in its order, how each order ended up, what each account holds."""

    events: tuple[Event, ...] = ()
    statuses: tuple[str, ...] = ()
    """Of the order after each event."""
    standings: Mapping[str, Standing] = field(default_factory=dict)
    execution_ids: Mapping[str, Event] = field(default_factory=dict)
    accounts: Mapping[str, int] = field(default_factory=dict)
    """Order id -> the number of the simulated account."""
    positions: Mapping[tuple[int, str], Decimal] = field(default_factory=dict)
    """(account number, symbol) -> quantity after the last fill, negative when short."""
    times: tuple[int, ...] = ()
    """Of each event, ns since 1970 UTC by the broker's clock; empty: not known."""
    position_times: Mapping[tuple[int, str], int] = field(default_factory=dict)
    """When the last fill of each position was, ns."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a connected client was told. `orders` are the newest states; `numbers`: of its accounts."""

    executions: frozenset[str] = frozenset()
    statuses: frozenset[tuple[str, str]] = frozenset()
    """(order id, status) pairs, each as pushed at some time."""
    orders: Mapping[str, Standing] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Holding:
    """An open position as the table has it, beside the broker's own figures; prices in USD.

    The broker's average is that of its newest snapshot, by its rule (average within a day, FIFO overnight).
    """

    account: str
    symbol: str
    quantity: Decimal
    average_price: Decimal
    broker_quantity: Decimal | None
    broker_average_price: Decimal | None
    rule_average_price: Decimal | None = None
    """By the broker's rule, as we count it; None: not known."""

    @property
    def differs(self) -> bool:
        """Whether the broker's average is neither ours nor that of its rule.

        Within a day the two are the same until something is sold that was held overnight; then the broker
        shows the one until its day begins, and the other after that. A quotient's last digits may differ.
        """
        theirs = self.broker_average_price
        if theirs is None or self.broker_quantity != self.quantity or not self.quantity:
            return False
        ours = (self.average_price, self.rule_average_price)
        return all(one is None or abs(one - theirs) > abs(theirs) * TOLERANCE for one in ours)

    def as_json(self) -> dict[str, str | None]:
        """For the report; numbers as text."""
        names = ("quantity", "average_price", "broker_quantity", "broker_average_price", "rule_average_price")
        numbers = tuple(getattr(self, name) for name in names)
        shown = {n: None if v is None else plain_quantity(v) for n, v in zip(names, numbers, strict=True)}
        return {"account": self.account, "symbol": self.symbol, **shown}


@dataclass(frozen=True, slots=True)
class Found:
    """What the pipeline holds. `pushed` None: no client of this run wrote down what it was told."""

    topic: tuple[Event, ...]
    names: Mapping[str, str]
    """Order id -> name of the account."""
    folded: Mapping[str, Standing]
    positions: Mapping[Position, Decimal]
    rows: tuple[Event, ...]
    orders: Mapping[str, Standing]
    """As PostgreSQL has them."""
    stored_positions: Mapping[Position, Decimal]
    pushed: Pushed | None = None
    visible: frozenset[str] = frozenset()
    """Names of the accounts that the client may see."""
    dead_lettered: int = 0
    holdings: tuple[Holding, ...] = ()
    looked_up: frozenset[Event] = frozenset()
    """Events of the topic that came over REST, since the stream had not told them."""
    gaps: tuple[Gap, ...] = ()
    """Of the trading streams, in which REST could not tell everything."""


@dataclass(frozen=True, slots=True)
class OrderOutcome:
    """The numbers of the order events, and what is wrong in words. `sent` None: nobody knows."""

    sent: int | None
    topic: int
    folded: int
    postgres: int
    pushed: int | None
    by_snapshot: int
    dead_lettered: int
    missing: int
    extra: int
    looked_up: int = 0
    """States that the broker told over REST alone, as it does of a bracket's held leg."""
    problems: list[str] = field(default_factory=list)
    holdings: tuple[Holding, ...] = ()
    unrecoverable: int = 0
    """Passing states inside a gap of the stream: the broker gives them to nobody afterwards."""
    notes: list[str] = field(default_factory=list)
    """What the unrecoverable ones are, in words."""


def compare(sent: Sent | None, found: Found, limit: int = 10) -> OrderOutcome:
    """Hold every place against the one before it; at most `limit` differences of a kind are named."""
    problems: list[str] = []
    absent, extra = _difference(sent.events, found.topic) if sent is not None else (Counter(), Counter())
    gone = _unrecoverable(sent, found, absent) if sent is not None else Counter[Event]()
    absent -= gone
    told_by_rest = Counter({e: n for e, n in extra.items() if e in found.looked_up and e.quantity is None})
    extra -= told_by_rest
    unwritten, invented = _difference(found.topic, found.rows)
    problems += _named("was sent and is not in the topic", absent, limit)
    problems += _named("is in the topic and was never sent", extra, limit)
    problems += _named("is in the topic and not in PostgreSQL", unwritten, limit)
    problems += _named("is in PostgreSQL and not in the topic", invented, limit)
    events = sent.events if sent is not None else found.topic
    folded, pushed, by_snapshot, unpushed = len(found.topic), None, 0, 0
    if sent is not None:
        folded = _standing_as(sent, found.folded, events, "the table", problems, limit)
        _standing_as(sent, found.orders, events, "PostgreSQL", problems, limit)
        problems += _positions(sent, found, limit)
    if sent is not None and found.pushed is not None:
        pushed, by_snapshot, unpushed = _pushed(sent, found, found.pushed, problems, limit)
    return OrderOutcome(
        sent=None if sent is None else len(sent.events),
        topic=len(found.topic),
        folded=folded,
        postgres=len(found.rows),
        pushed=pushed,
        by_snapshot=by_snapshot,
        dead_lettered=found.dead_lettered,
        missing=max(0, absent.total() - found.dead_lettered) + unwritten.total() + unpushed,
        extra=extra.total() + invented.total(),
        looked_up=told_by_rest.total(),
        problems=problems,
        holdings=found.holdings,
        unrecoverable=gone.total(),
        notes=_named("passed in a gap of the stream, and no history has it", gone, limit)
        + [_differing(h) for h in found.holdings if h.differs][:limit],
    )


def _differing(h: Holding) -> str:
    return (
        f"{h.symbol} of account {h.account}: the broker's newest average was {h.broker_average_price}, "
        f"ours is {h.average_price}, by its rule {h.rule_average_price}"
    )


def _unrecoverable(sent: Sent, found: Found, absent: Counter[Event]) -> Counter[Event]:
    """Of the absent events, passing states that lie in a gap which could not be filled in whole."""
    names = {number: found.names[order] for order, number in sent.accounts.items() if order in found.names}
    left, gone = Counter(absent), Counter[Event]()
    for event, ts in zip(sent.events, sent.times, strict=False):
        if not left[event] or event.event in LASTING:
            continue
        feed = f"trading:{names.get(sent.accounts[event.order_id], '')}"
        if any(gap.feed == feed and gap.covers(EVERY, ts) for gap in found.gaps):
            left[event] -= 1
            gone[event] += 1
    return gone


def _difference(expected: Iterable[Event], actual: Iterable[Event]) -> tuple[Counter[Event], Counter[Event]]:
    wanted, there = Counter(expected), Counter(actual)
    return wanted - there, there - wanted


def _named(what: str, events: Counter[Event], limit: int) -> list[str]:
    return [f"{_words(event)} {what}" for event in list(events.elements())[:limit]]


def _words(event: Event) -> str:
    amount = f" of {event.quantity} at {event.price}" if event.quantity is not None else ""
    return f"{event.event}{amount} of order {event.order_id}"


def _standing_as(
    sent: Sent,
    there: Mapping[str, Standing],
    events: Sequence[Event],
    where: str,
    problems: list[str],
    limit: int,
) -> int:
    """How many events belong to orders that stand as the broker says."""
    wrong = [order for order, standing in sent.standings.items() if there.get(order) != standing]
    problems += [
        f"order {order} is {_state(sent.standings[order])}, {where} has {_state(there.get(order))}"
        for order in wrong[:limit]
    ]
    standing_wrong = frozenset(wrong)
    return sum(event.order_id not in standing_wrong for event in events)


def _state(standing: Standing | None) -> str:
    return "nothing" if standing is None else f"{standing.status} with {standing.filled} filled"


def _positions(sent: Sent, found: Found, limit: int) -> list[str]:
    """Quantities must be the broker's exactly."""
    names = {number: found.names[order] for order, number in sent.accounts.items() if order in found.names}
    problems = []
    for (number, symbol), quantity in sent.positions.items():
        key = (names.get(number, f"number {number}"), symbol)
        for where, held in (("the table", found.positions), ("PostgreSQL", found.stored_positions)):
            if held.get(key, Decimal(0)) != quantity:
                problems.append(
                    f"{symbol} of account {key[0]}: the broker has {quantity}, {where} {held.get(key)}"
                )
    return problems[:limit]


def _pushed(
    sent: Sent, found: Found, pushed: Pushed, problems: list[str], limit: int
) -> tuple[int, int, int]:
    """(events pushed one by one, those covered by a later state of their order, those that never came)."""
    executions = {event: execution for execution, event in sent.execution_ids.items()}
    one_by_one = by_snapshot = 0
    never: list[Event] = []
    for event, status in _due(sent, found):
        if event in executions:
            seen = executions[event] in pushed.executions
        else:
            seen = (event.order_id, status) in pushed.statuses
        if seen:
            one_by_one += 1
        elif pushed.orders.get(event.order_id) == sent.standings[event.order_id]:
            by_snapshot += 1
        else:
            never.append(event)
    problems += [f"{_words(event)} was never pushed to the client" for event in never[:limit]]
    return one_by_one, by_snapshot, len(never)


def _due(sent: Sent, found: Found) -> Iterable[tuple[Event, str]]:
    for event, status in zip(sent.events, sent.statuses, strict=True):
        if found.names.get(event.order_id) in found.visible:
            yield event, status
