"""The ends of option contracts but for trades: exercise, assignment, expiry. Pure.

Each is one activity of the contract (OPEXC, OPASN, OPEXP); the first two have a second one of the same group,
OPTRD, by which the underlying's shares change hands at the strike price.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from simulator.broker.account import Account
from simulator.broker.amounts import CENT, ZERO, text, whole
from simulator.broker.book import OPTION_MULTIPLIER
from simulator.broker.corporate import end_orders
from simulator.broker.engine import Broker
from simulator.broker.postings import Effect, post
from simulator.broker.quotes import Contract, contract
from simulator.broker.rejections import Rejection, invalid

Posted = list[dict[str, Any]]
_WORDS = {"OPEXC": "Option Exercise", "OPASN": "Option Assignment"}


def exercise(broker: Broker, n: int, symbol: str, qty: Decimal | None) -> Posted:
    """The holder of contracts makes use of so many, of all by default.

    Raises:
        Rejection: no such account or position, or not so many contracts.
    """
    account, held = _held(broker, n, symbol)
    if held < ZERO:
        raise invalid("a short position cannot be exercised")
    return _convert(broker, account, symbol, "OPEXC", -_count(qty, held))


def assign(broker: Broker, n: int, symbol: str, qty: Decimal | None) -> Posted:
    """Who is short of contracts must deliver on so many, on all by default.

    Raises:
        Rejection: no such account or position, or not so many contracts.
    """
    account, held = _held(broker, n, symbol)
    if held > ZERO:
        raise invalid("a long position cannot be assigned")
    return _convert(broker, account, symbol, "OPASN", _count(qty, -held))


def expire(broker: Broker, symbol: str, *, exercised: bool = True) -> Posted:
    """The contract ends in every account; in the money by a cent it is converted, if `exercised`.

    Raises:
        Rejection: it is no contract (422).
    """
    option = _contract(symbol)
    spot = broker.view.price(option.underlying)
    inside = ZERO if spot is None else (spot - option.strike) * (1 if option.call else -1)
    posted: Posted = []
    for account in broker.accounts.values():
        end_orders(broker, account, symbol, "expired")
        qty = account.book.quantity(symbol)
        if not qty:
            continue
        if exercised and inside >= CENT:
            posted += _convert(broker, account, symbol, "OPEXC" if qty > ZERO else "OPASN", -qty)
            continue
        fields = {"symbol": symbol, "qty": -qty, "group_id": broker.new_id(), "description": "Option Expiry"}
        effect = Effect(symbol, "us_option", "trade", -qty)
        posted.append(post(broker.exchange, account, "OPEXP", fields, effect))
    return posted


def _convert(broker: Broker, account: Account, symbol: str, kind: str, change: Decimal) -> Posted:
    """The contracts' position changes by `change`, and the underlying's as they say."""
    option, desk = _contract(symbol), broker.exchange
    end_orders(broker, account, symbol, "canceled")
    group = {"group_id": broker.new_id()}
    first = {"symbol": symbol, "qty": change, "description": _WORDS[kind], **group}
    # A holder of calls gets shares as his contracts go; of puts he gives them. Who is short: the reverse.
    shares = -change * OPTION_MULTIPLIER * (1 if option.call else -1)
    second = {
        "symbol": option.underlying,
        "qty": shares,
        "price": option.strike,
        "net_amount": -shares * option.strike,
        "description": "Option Trade",
        **group,
    }
    traded = Effect(option.underlying, "us_equity", "trade", shares, option.strike)
    return [
        post(desk, account, kind, first, Effect(symbol, "us_option", "trade", change)),
        post(desk, account, "OPTRD", second, traded),
    ]


def _contract(symbol: str) -> Contract:
    option = contract(symbol)
    if option is None:
        raise invalid(f"not an option contract: {symbol[:40]}")
    return option


def _held(broker: Broker, n: int, symbol: str) -> tuple[Account, Decimal]:
    _contract(symbol)
    account = broker.accounts.get(n)
    if account is None:
        raise Rejection(404, 40410000, "account not found")
    held = account.book.quantity(symbol)
    if not held:
        raise Rejection(404, 40410000, "position does not exist")
    return account, held


def _count(qty: Decimal | None, held: Decimal) -> Decimal:
    wanted = held if qty is None else qty
    if not ZERO < wanted <= held or not whole(wanted):
        raise invalid(f"qty must be a whole number from 1 to {text(held)}")
    return wanted
