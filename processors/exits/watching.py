"""A reference symbol: its prices, what gates them, who watches it, and a quick test for each tick. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from processors.exits import rescale
from processors.exits.facts import Band, Closed
from processors.exits.gates import HALT
from processors.exits.hours import Hours
from processors.exits.prices import FETCHED, Prices, Trade
from processors.exits.rescale import Action
from processors.exits.rules import ASK, BID, LAST, MID
from processors.exits.state import Guard

_HALTS = frozenset("HP124Q")  # of both tapes; Q: quotes resume, trading does not yet
_RESUMES = frozenset("T3")
_PROOFS = 3
"""Trades that set the last price, after a halt was told, by which trading goes on though nobody said so: the
word of it was lost, and statuses are told once and never again. One could be an error of its exchange."""
_PROOF_NS = 5_000_000_000
"""Clocks of exchanges and tapes differ by less."""

Span = tuple[float, float]
_NOTHING: Span = (-inf, inf)


class Watching:
    """A symbol. `halt`: why it is halted, and since when (ns)."""

    __slots__ = (
        "actions",
        "ask",
        "awake",
        "band",
        "bid",
        "closed",
        "feed_closed",
        "guards",
        "halt",
        "last",
        "mid",
        "next_action",
        "prices",
        "proofs",
        "status_ts",
    )

    def __init__(self, symbol: str) -> None:
        self.prices = Prices(symbol)
        self.guards: dict[str, Guard] = {}
        self.halt: str | None = None
        self.status_ts = 0
        self.proofs = 0
        self.band: Band | None = None
        self.actions: list[Action] = []
        self.next_action = 0
        self.feed_closed: tuple[Closed, ...] = ()
        self.closed: tuple[Closed, ...] = ()
        self.bound()

    @property
    def symbol(self) -> str:
        """Reference symbol."""
        return self.prices.symbol

    @property
    def lasting(self) -> bool:
        """Whether it must be kept though nobody watches it."""
        return self.halt is not None or bool(self.actions)

    def live(self) -> list[Guard]:
        """Rules that may fire."""
        return [guard for guard in self.guards.values() if guard.live]

    def bound(self) -> None:
        """Between which prices no rule does anything; anew whenever a rule has changed."""
        spans = {BID: _NOTHING, ASK: _NOTHING, MID: _NOTHING, LAST: _NOTHING}
        self.awake = False
        for guard in self.guards.values():
            if not guard.live or guard.rule is None:
                continue
            low, high = spans[guard.rule.reference]
            spans[guard.rule.reference] = max(low, guard.low), min(high, guard.high)
            self.awake = self.awake or guard.awake
        self.bid, self.ask, self.mid, self.last = spans[BID], spans[ASK], spans[MID], spans[LAST]

    def quote_matters(self, bid: float, ask: float) -> bool:
        """Whether any rule may do something on a quote."""
        if self.awake:
            return True
        low, high = self.bid
        if not low < bid < high:
            return True
        low, high = self.ask
        if not low < ask < high:
            return True
        low, high = self.mid
        return not low < (bid + ask) / 2 < high

    def trade_matters(self, price: float) -> bool:
        """Whether any rule may do something on a trade."""
        low, high = self.last
        return self.awake or not low < price < high

    def take_status(self, record: Mapping[str, Any]) -> bool:
        """A trading status; false: it is an older one, or says nothing of trading."""
        code, ts = record["status_code"], record["ts"]
        if ts < self.status_ts or code not in _HALTS | _RESUMES:
            return False
        self.status_ts, self.proofs = ts, 0
        halted = record["reason_message"] or record["status_message"] or code
        halt = f"{code}: {halted}" if code in _HALTS else None
        if (halt is None) is not (self.halt is None):
            self.prices.interrupt()
        self.halt = halt
        self.close()
        return True

    def take_proof(self, trade: Trade) -> bool:
        """A trade that sets the last price while a halt stands; whether the halt is over by now."""
        if trade.source == FETCHED or trade.ts <= self.status_ts + _PROOF_NS:
            return False
        self.proofs += 1
        if self.proofs < _PROOFS:
            return False
        self.halt, self.proofs = None, 0
        self.prices.interrupt()
        self.close()
        return True

    def take_gates(self, closed: tuple[Closed, ...]) -> bool:
        """What the feeds and their gaps say of this symbol; whether that is news."""
        if closed == self.feed_closed:
            return False
        self.prices.interrupt()
        self.feed_closed = closed
        self.close()
        return True

    def close(self) -> None:
        """Gather the gates that stand closed."""
        halt: tuple[Closed, ...] = () if self.halt is None else ((HALT, self.halt, ""),)
        self.closed = halt + self.feed_closed

    def take_action(self, record: Mapping[str, Any], now: int) -> bool:
        """An announcement; false: it changes nothing.

        One that is changed or removed after it took effect stays known as withdrawn: rules may have been
        rescaled by it.
        """
        new = rescale.action_of(record)
        old = next((a for a in self.actions if a.id == new.id), None)
        if old is not None and old.kind == rescale.WITHDRAWN:
            return False
        if record["removed"]:
            new = new._replace(kind=rescale.WITHDRAWN)
        if new == old or (old is None and (record["removed"] or new.kind in rescale.IGNORED)):
            return False
        rest = [a for a in self.actions if a.id != new.id]
        if old is not None and old.ts <= now:
            rest.append(old._replace(kind=rescale.WITHDRAWN))
        elif not record["removed"]:
            rest.append(new)
        self.actions = sorted(rest, key=lambda a: (a.ts, a.id))[-rescale.KEPT :]
        self.look_ahead(now)
        return True

    def look_ahead(self, now: int) -> None:
        """When the next action takes effect (ns); 0: none is known."""
        booked = (ts for guard in self.guards.values() if guard.rule for ts, _ in guard.rule.booked)
        self.next_action = min((ts for ts in (*(a.ts for a in self.actions), *booked) if ts > now), default=0)

    def to_row(self) -> dict[str, Any]:
        """As it is kept. Feeds and gaps are not: whoever loads it is told of them anew."""
        return {
            "prices": self.prices.to_row(),
            "halt": self.halt,
            "status_ts": self.status_ts,
            "proofs": self.proofs,
            "band": self.band,
            "actions": [a.to_row() for a in self.actions],
        }

    @classmethod
    def from_row(cls, symbol: str, row: Mapping[str, Any], hours: Hours) -> Watching:
        """What was kept."""
        watching = cls(symbol)
        watching.prices = Prices.from_row(symbol, row["prices"], hours)
        watching.halt, watching.status_ts = row["halt"], row["status_ts"]
        watching.proofs = row.get("proofs", 0)
        band = row["band"]
        watching.band = None if band is None else (float(band[0]), float(band[1]), band[2])
        watching.actions = [rescale.from_row(a) for a in row["actions"]]
        watching.close()
        return watching
