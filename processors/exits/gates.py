"""Why a price may not be acted on, in the order in which it is told. Pure.

Standing gates (of the account, a halt, a feed, a corporate action) hold whatever the price; the others judge
the price that is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from processors.exits.exactly import dec, exact
from processors.exits.facts import Facts
from processors.exits.hours import STOCK, is_open
from processors.exits.prices import Quote
from processors.exits.rules import BID, LAST, MID, Rule

ACCOUNT, RULE, HALT, FEED, GAP, ACTION = "account", "rule", "halt", "feed", "gap", "corporate_action"
FRESH, STALE, SESSION, CONDITIONS, PAUSE = "fresh", "stale", "session", "conditions", "pause"
PAUSED = "the attempt before was in vain: a pause"
ZERO, CROSSED, LOCKED, NOT_FIRM = "zero", "crossed", "locked", "not_firm"
PRINT, LULD, MOVE = "print", "luld", "overnight_move"

QUOTE, TRADE = "quote", "trade"

MARGIN = Decimal("0.01")
"""A print may lie outside the NBBO by its spread or by this part of its middle, whichever is more."""
LARGEST_MOVE = Decimal("0.25")
"""A stock whose price lost more than this part over night is held, and one that gained as much backwards."""
BAND_NS = 600_000_000_000
"""A LULD band is told twice a minute; one that is older than this says nothing."""

_NOT_FIRM = frozenset("LN")  # closed, non-firm
_SECOND = 1_000_000_000


class Gate(NamedTuple):
    """A closed gate, and why in plain text."""

    name: str
    reason: str


class Reference(NamedTuple):
    """The price that a rule watches, exactly, and when it was (ns)."""

    price: Decimal
    ts: int


def component(rule: Rule) -> str:
    """Which component has the rule's reference price."""
    return TRADE if rule.reference == LAST else QUOTE


def reference(rule: Rule, facts: Facts) -> Reference | None:
    """The rule's price, good or not; None where its component never came."""
    if rule.reference == LAST:
        return None if facts.trade is None else Reference(dec(facts.trade.price), facts.trade.ts)
    quote = facts.quote
    if quote is None:
        return None
    return Reference(side_of(rule.reference, quote), quote.ts)


def side_of(named: str, quote: Quote) -> Decimal:
    """Bid, ask or middle of a quote."""
    if named == MID:
        with exact():
            return (dec(quote.bid) + dec(quote.ask)) / 2
    return dec(quote.bid if named == BID else quote.ask)


def standing(rule: Rule, facts: Facts) -> Gate | None:
    """The first gate that stands closed for this rule."""
    mine = component(rule)
    for name, why, what in facts.closed:
        if not what or what == mine:
            return Gate(name, why)
    return None


def judge(rule: Rule, facts: Facts, factor: Decimal) -> Gate | None:
    """The first reason not to act on the rule's price.

    `factor`: what a share's price of the day before is to be multiplied by, for splits since.
    """
    return next(_reasons(rule, facts, factor), None)


def _reasons(rule: Rule, facts: Facts, factor: Decimal) -> Iterator[Gate]:
    found = reference(rule, facts)
    if found is None:
        yield Gate(FRESH, f"no {component(rule)} yet")
        return
    yield from _session(rule, facts)
    yield from _known(rule, facts)
    yield from _age(rule, facts, found)
    yield from _trade(facts) if rule.reference == LAST else _quote(facts)
    yield from _band(facts, found)
    yield from _move(rule, facts, found, factor)


def _session(rule: Rule, facts: Facts) -> Iterator[Gate]:
    if not is_open(facts.session, facts.now, rule.extended):
        hours = "extended hours" if rule.extended else "regular hours"
        yield Gate(SESSION, f"outside the {hours}")


def _known(rule: Rule, facts: Facts) -> Iterator[Gate]:
    """A log that is read from further back has prices of before the position."""
    newest = facts.trade if rule.reference == LAST else facts.quote
    assert newest is not None, "there is a reference price"
    if newest.received_ts < rule.known_ts:
        yield Gate(FRESH, f"no {component(rule)} since the rule")


def _age(rule: Rule, facts: Facts, found: Reference) -> Iterator[Gate]:
    trades = rule.reference == LAST
    if not (facts.trade_live if trades else facts.quote_live):
        yield Gate(FRESH, f"no {component(rule)} from the feed since it or trading went on")
    limit = facts.trade_limit if trades else facts.quote_limit
    if rule.max_age is not None:
        limit = rule.max_age
    age = facts.now - found.ts
    if age > limit:
        yield Gate(STALE, f"the {component(rule)} is {_seconds(age)} s old, {_seconds(limit)} s is the limit")


def _quote(facts: Facts) -> Iterator[Gate]:
    quote = facts.quote
    assert quote is not None, "there is a reference price"
    if not quote.bid > 0 or not quote.ask > 0:
        yield Gate(ZERO, f"bid {quote.bid} or ask {quote.ask} is no price")
    elif quote.bid > quote.ask:
        yield Gate(CROSSED, f"bid {quote.bid} above ask {quote.ask}")
    elif quote.bid == quote.ask:
        yield Gate(LOCKED, f"bid equals ask at {quote.ask}")
    letters = _NOT_FIRM.intersection(quote.conditions)
    if letters and facts.session is not None:
        yield Gate(NOT_FIRM, f"quote condition {min(letters)}")


def _trade(facts: Facts) -> Iterator[Gate]:
    trade, quote = facts.trade, facts.good
    assert trade is not None, "there is a reference price"
    if not trade.price > 0:
        yield Gate(ZERO, f"{trade.price} is no price")
    if not trade.sets_last:
        yield Gate(CONDITIONS, f"sale conditions {''.join(trade.conditions)} do not set the last price")
    if quote is None or facts.now - quote.ts > facts.quote_limit or not facts.quote_live:
        return  # nothing to measure it by: symbols without quotes are judged by their trades alone
    with exact():
        bid, ask, price = dec(quote.bid), dec(quote.ask), dec(trade.price)
        margin = max(ask - bid, (bid + ask) / 2 * MARGIN)
        if not bid - margin <= price <= ask + margin:
            yield Gate(PRINT, f"a print at {trade.price} far outside bid {quote.bid} and ask {quote.ask}")


def _band(facts: Facts, found: Reference) -> Iterator[Gate]:
    band = facts.band
    if band is None or facts.now - band[2] > BAND_NS or band[2] < facts.day_begin:
        return
    low, high, _ = band
    if (low > 0 and found.price < dec(low)) or (high > 0 and found.price > dec(high)):
        yield Gate(LULD, f"{found.price} is outside the LULD band {low} to {high}")


def _move(rule: Rule, facts: Facts, found: Reference, factor: Decimal) -> Iterator[Gate]:
    before = _day_before(rule, facts)
    if before is None or rule.asset_class != STOCK or rule.sure_ts >= facts.day_begin:
        return
    with exact():
        before *= factor
        least, most = sorted((before, found.price))
        if before > 0 and least < most * (1 - LARGEST_MOVE):
            yield Gate(MOVE, f"{found.price} after {before.normalize():f} the day before, unexplained")


def _day_before(rule: Rule, facts: Facts) -> Decimal | None:
    if rule.reference == LAST:
        return None if facts.previous_trade is None else dec(facts.previous_trade.price)
    return None if facts.previous_quote is None else side_of(rule.reference, facts.previous_quote)


def _seconds(ns: int) -> str:
    return f"{ns / _SECOND:.3f}".rstrip("0").rstrip(".")
