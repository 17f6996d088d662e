"""Splits and dividends, applied to every account that has the stock. Pure."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from simulator.broker.account import Account
from simulator.broker.amounts import CENT, ZERO, divide, shown, text
from simulator.broker.engine import Broker
from simulator.broker.postings import Effect, post
from simulator.broker.rejections import invalid

Posted = list[dict[str, Any]]


def split(broker: Broker, symbol: str, old: Decimal, new: Decimal) -> Posted:
    """`new` shares for each `old` ones; open orders are canceled, since their prices are of the old basis.

    Each account gets two activities SPLIT of one group, the old shares' removal and the new ones' addition.
    Contracts on the stock stay as they are.

    Raises:
        Rejection: no such stock, or the rates are not positive (422).
    """
    if old <= ZERO or new <= ZERO:
        raise invalid("old_rate and new_rate must be > 0")
    _check(broker, symbol)
    posted: Posted = []
    for account in broker.accounts.values():
        end_orders(broker, account, symbol, "canceled")
        if (last := account.last_prices.get(symbol)) is not None:
            account.last_prices[symbol] = divide(last * old, new)
        if account.book.quantity(symbol):
            posted += _split(broker, account, symbol, old, new)
    return posted


def dividend(broker: Broker, symbol: str, rate: Decimal) -> Posted:
    """`rate` USD a share to whoever has the stock, and from whoever is short of it: activity DIV.

    Raises:
        Rejection: no such stock, or the rate is not positive (422).
    """
    if rate <= ZERO:
        raise invalid("rate must be > 0")
    _check(broker, symbol)
    posted: Posted = []
    for account in broker.accounts.values():
        if qty := account.book.quantity(symbol):
            fields = {
                "activity_sub_type": "CDIV",
                "symbol": symbol,
                "qty": qty,
                "per_share_amount": rate,
                "net_amount": (qty * rate).quantize(CENT, ROUND_HALF_UP),
                "description": f"Cash DIV @ {text(rate)}",
            }
            posted.append(post(broker.exchange, account, "DIV", fields))
    return posted


def end_orders(broker: Broker, account: Account, symbol: str, status: str) -> None:
    """End every open order of a symbol; orders of several legs are left alone."""
    for order in list(account.holds.working[symbol].values()):
        if order.open and order.role != "leg":  # a leg may have gone with its entry
            broker.exchange.finish(order, status)


def _split(broker: Broker, account: Account, symbol: str, old: Decimal, new: Decimal) -> Posted:
    position = account.book.positions[symbol]
    before, average = position.qty, position.average
    after = type(position)(symbol, position.asset_class, before, average)
    after.rescale(new, old)
    kind = "FSPLIT" if new > old else "RSPLIT"
    cost = text(shown(before * average))
    common = {"activity_sub_type": kind, "symbol": symbol, "group_id": broker.new_id()}
    words = f"From QTY:{text(before)}, To QTY:{text(after.qty)}, Position Value:{cost}"
    removed = {"qty": -before, "price": shown(average), "description": f"REMOVE, {words}"}
    added = {"qty": after.qty, "price": shown(after.average), "description": f"ADD, {words}"}
    effect = Effect(symbol, position.asset_class, "split", new, old)
    return [
        post(broker.exchange, account, "SPLIT", common | removed),
        post(broker.exchange, account, "SPLIT", common | added, effect),
    ]


def _check(broker: Broker, symbol: str) -> None:
    _, asset_class = broker.view.resolve(symbol, broker.view.now())
    if asset_class != "us_equity":
        raise invalid("only a stock has corporate actions")
