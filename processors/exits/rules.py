"""A watch as a rule: when it fires, at which price, on whose prices. Pure.

For a long position a stop lies below the price and a target above; for a short one they change places. A put
that is guarded by its underlying's price is as a short position in the underlying, a written put as a long
one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from processors.exits.exactly import exact, plain, rounded
from schemas.fills import asset_class

LAST, BID, ASK, MID, SIDE = "last", "bid", "ask", "mid", "side"
STOP, TARGET, TIME, SIGNAL = "stop", "target", "time", "signal"

_NS = 1_000_000_000
_HOLD_SECONDS = 60
_PUT = re.compile(r"\d{6}P\d{8}$")
_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Rule:
    """Prices in USD, times and durations in ns.

    `rises`: the position gains when the reference price rises. `stop`, `target`: fixed prices. `trail_*`: a
    stop behind the best price. `due_ts`, `before_close`: when a time rule fires. `max_age` None: by the
    symbol's rhythm. `basis_ts`: its prices are in the shares of that moment. `signal`: kind, action, percent.
    `confirmed_ts`: the account side has confirmed the position as of then. `booked`: splits of the position:
    when they took effect, and how many shares became of one. `known_ts`: prices that were received before are
    none of its business. `pause`: so long after the trigger of the former exit epoch it must not fire.
    """

    kind: str
    rises: bool
    reference: str
    asset_class: str
    basis_ts: int
    stop: Decimal | None = None
    target: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    due_ts: int | None = None
    before_close: int | None = None
    extended: bool = False
    max_age: int | None = None
    max_hold: int = _HOLD_SECONDS * _NS
    known_ts: int = 0
    pause: int = 0
    signal: tuple[str, str, Decimal | None] | None = None
    confirmed_ts: int = 0
    booked: tuple[tuple[int, Decimal], ...] = ()

    @property
    def sure_ts(self) -> int:
        """Up to when nothing can have happened to its shares that the account side has not heard of (ns)."""
        return max(self.basis_ts, self.confirmed_ts)

    @property
    def trails(self) -> bool:
        """Whether it has a high-water mark."""
        return self.trail_price is not None or self.trail_percent is not None

    @property
    def timed(self) -> bool:
        """Whether it fires at a time."""
        return self.due_ts is not None or self.before_close is not None

    def better(self, price: Decimal, best: Decimal | None) -> bool:
        """Whether a price is a new high-water mark: for a falling rule the mark is the lowest price."""
        return best is None or (price > best if self.rises else price < best)

    def stop_at(self, high_water: Decimal | None, tight: Decimal | None) -> Decimal | None:
        """Where the stop stands, the nearest of all that there are; None: there is none yet."""
        found = [level for level in (self.stop, self._trail(high_water), tight) if level is not None]
        if not found:
            return None
        return max(found) if self.rises else min(found)

    def tightened(self, price: Decimal) -> Decimal | None:
        """The stop that a signal sets when the price is this."""
        if self.signal is None or self.signal[2] is None:
            return None
        return self._behind(price, self.signal[2])

    def crosses(self, price: Decimal, stop: Decimal | None) -> str | None:
        """Which of its levels a price has reached: STOP, TARGET or None."""
        if stop is not None and (price <= stop if self.rises else price >= stop):
            return STOP
        if self.target is not None and (price >= self.target if self.rises else price <= self.target):
            return TARGET
        return None

    def _trail(self, high_water: Decimal | None) -> Decimal | None:
        if high_water is None:
            return None
        if self.trail_price is not None:
            with exact():
                return high_water - self.trail_price if self.rises else high_water + self.trail_price
        return None if self.trail_percent is None else self._behind(high_water, self.trail_percent)

    def _behind(self, price: Decimal, percent: Decimal) -> Decimal:
        with exact():
            part = percent if self.rises else -percent
            return Decimal(plain(rounded(price * (_HUNDRED - part) / _HUNDRED)))


def parse(watch: Mapping[str, Any]) -> Rule:
    """The rule of an exit_watch (decimals or their text).

    Raises:
        ValueError: it says nothing that can fire, or contradicts itself.
    """
    try:
        found = json.loads(watch["parameters"] or "{}")
        rule = _rule(watch, found if isinstance(found, dict) else {})
    except (ArithmeticError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"the watch cannot be read: {error!r}") from None
    if rule.stop is rule.target is None and not rule.trails and not rule.timed:
        raise ValueError(f"a {rule.kind} without a price or a time")
    return rule


def _rule(watch: Mapping[str, Any], more: Mapping[str, Any]) -> Rule:
    kind = watch["kind"]
    rises = _rises(watch)
    stop, target = _amount(watch["stop_price"]), _amount(watch["limit_price"])
    if kind == "stop_loss":
        stop, target = stop if stop is not None else target, None
    elif kind == "take_profit":
        stop, target = None, target if target is not None else stop
    signal = more.get("on_signal")
    seconds = more.get("before_close_seconds")
    age, hold = _amount(more.get("max_quote_age_seconds")), more.get("max_hold_seconds")
    return Rule(
        kind=kind,
        rises=rises,
        reference=_reference(more.get("reference") or SIDE, rises),
        asset_class=asset_class(watch["symbol"]),
        basis_ts=watch["price_basis_ts"] or watch["ts"],
        stop=stop,
        target=target,
        trail_price=_amount(watch["trail_price"]),
        trail_percent=_amount(watch["trail_percent"]),
        due_ts=_due(more),
        before_close=None if seconds is None else int(seconds) * _NS,
        extended=bool(more.get("extended_hours", False)),
        max_age=None if age is None else int(age * _NS),
        max_hold=(_HOLD_SECONDS if hold is None else int(hold)) * _NS,
        pause=int(more.get("pause_seconds") or 0) * _NS,
        known_ts=int(watch.get("received_ts") or 0),
        signal=signal and (signal["kind"], signal["action"], _amount(signal.get("percent"))),
        confirmed_ts=int(more.get("confirmed_ts") or 0),
        booked=tuple((int(ts), Decimal(ratio)) for ts, ratio in more.get("splits") or ()),
    )


def _rises(watch: Mapping[str, Any]) -> bool:
    quantity = Decimal(watch["quantity"])
    if not quantity:
        raise ValueError("a position of no quantity")
    symbol: str = watch["position_symbol"]
    inverse = symbol != watch["symbol"] and _PUT.search(symbol) is not None
    return (quantity > 0) is not inverse


def _reference(named: str, rises: bool) -> str:
    if named not in (LAST, BID, ASK, MID, SIDE):
        raise ValueError(f"reference {named!r} is none of last, bid, ask, mid, side")
    return (BID if rises else ASK) if named == SIDE else named


def _due(more: Mapping[str, Any]) -> int | None:
    if more.get("at_ts") is not None:
        return int(more["at_ts"])
    if more.get("after_seconds") is not None:
        return int(more["opened_ts"]) + int(more["after_seconds"]) * _NS
    return None


def _amount(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)
