"""Whether an account may send an order now: Alpaca's refusals, in the order of looking. Pure."""

from __future__ import annotations

from decimal import Decimal

from simulator.broker.account import Account, Price
from simulator.broker.amounts import CENT, ONE, ZERO, divide, shown, text
from simulator.broker.book import OPTION_MULTIPLIER
from simulator.broker.entry import Entry
from simulator.broker.orders import Order
from simulator.broker.rejections import (
    Rejection,
    forbidden,
    insufficient_buying_power,
    insufficient_quantity,
    invalid,
    reused,
    suspended,
    wash_trade,
)
from simulator.latest import Quote


def intent(account: Account, entry: Entry) -> str:
    """Whether the order opens or closes, by the position as it is."""
    position = account.book.quantity(entry.symbol)
    if entry.side == "buy":
        return "buy_to_close" if position < ZERO else "buy_to_open"
    return "sell_to_close" if position > ZERO else "sell_to_open"


def cost_price(entry: Entry, quote: Quote | None) -> Decimal:
    """What one may cost at most, as far as is known: the limit, the stop, or the quote."""
    if entry.limit_price is not None and entry.type in ("limit", "stop_limit"):
        return entry.limit_price
    if entry.stop_price is not None:
        return entry.stop_price
    if quote is None:
        return ZERO
    return quote.ask or quote.bid


def admit(account: Account, entry: Entry, asset_class: str, quote: Quote | None, price: Price) -> None:
    """Pass, or say why not.

    Raises:
        Rejection: the account may not send this order.
    """
    check_state(account, entry)
    inferred = intent(account, entry)
    if entry.intent and entry.intent != inferred:
        raise invalid(f"position intent mismatch, inferred: {inferred}, specified: {entry.intent}")
    closing = inferred.endswith("_to_close")
    if closing:
        _check_available(account, entry, asset_class, quote)
    else:
        _check_short(account, entry, asset_class, quote)
    _check_brackets(entry, closing, quote)
    _check_wash(account, entry)
    if not closing:
        _check_power(account, entry, asset_class, quote, price)


def check_state(account: Account, entry: Entry) -> None:
    """The account may trade at all, and the client's id is new.

    Raises:
        Rejection: it may not, or it is not.
    """
    if account.configuration["suspend_trade"]:
        raise suspended()
    if entry.client_order_id in account.by_client_id:
        raise reused()
    shares = entry.fractional and "/" not in entry.symbol
    if shares and not account.configuration["fractional_trading"]:
        raise forbidden("account is not allowed to trade fractional shares")


def quantity(entry: Entry, quote: Quote | None) -> Decimal:
    """How much an entry is about, a notional one by the current price."""
    if entry.qty is not None:
        return entry.qty
    each = cost_price(entry, quote)
    return divide(entry.notional or ZERO, each) if each > ZERO else ZERO


def _check_available(account: Account, entry: Entry, asset_class: str, quote: Quote | None) -> None:
    existing = abs(account.book.quantity(entry.symbol))
    held = account.holds.quantity(entry.symbol, entry.side)
    asked = shown(quantity(entry, quote)) if entry.qty is None else entry.qty
    if asked > existing - held:
        crypto = asset_class == "crypto"
        raise insufficient_quantity(entry.symbol, asked, existing, min(held, existing), balance=crypto)


def _check_short(account: Account, entry: Entry, asset_class: str, quote: Quote | None) -> None:
    if entry.side != "sell":
        return
    if asset_class == "crypto":
        asked = quantity(entry, quote)
        raise insufficient_quantity(entry.symbol, shown(asked), ZERO, ZERO, balance=True)
    if entry.fractional:
        raise invalid("fractional orders cannot be sold short")
    if account.configuration["no_shorting"]:
        raise forbidden("account is not allowed to short")


def _check_brackets(entry: Entry, closing: bool, quote: Quote | None) -> None:
    if entry.order_class not in ("bracket", "oto", "oco"):
        return
    if entry.order_class == "oco":
        if not closing:
            raise invalid("oco orders must be exit orders")
        return
    if closing:
        raise forbidden(f"{entry.order_class} orders must be entry orders")
    base = cost_price(entry, quote)
    up = entry.side == "buy"
    for name, given, above in (
        ("take_profit.limit_price", entry.take_profit, up),
        ("stop_loss.stop_price", entry.stop_loss, not up),
    ):
        if given is None or base <= ZERO:
            continue
        bound = base + CENT if above else base - CENT
        if given < bound if above else given > bound:
            side = ">= base_price + 0.01" if above else "<= base_price - 0.01"
            raise Rejection(422, 42210000, f"{name} must be {side}", base_price=text(base))


def _check_wash(account: Account, entry: Entry) -> None:
    for order in account.holds.working.get(entry.symbol, {}).values():
        if order.side == entry.side or order.status == "held":
            continue
        reason = _crosses(entry, order)
        if reason is not None:
            raise wash_trade(order.id, reason)


def _crosses(entry: Entry, order: Order) -> str | None:
    """Why two orders on opposite sides could meet; None when their limits keep them apart.

    Complex orders are exempt, but an entry with exits stands alone: what it will hold for its exits must not
    be sold by an opening order of the other side.
    """
    market, limit = "opposite side market/stop order exists", "opposite side limit order exists"
    simple = entry.order_class in ("", "simple")
    if not simple or order.legs:
        return None if order.closing or entry.order_class == "oco" else limit
    if order.type != "limit":
        return market
    if entry.type != "limit" or entry.limit_price is None or order.limit_price is None:
        return limit
    buy, sell = entry.limit_price, order.limit_price
    if entry.side == "sell":
        buy, sell = sell, buy
    return limit if buy >= sell else None


def _check_power(account: Account, entry: Entry, asset_class: str, quote: Quote | None, price: Price) -> None:
    each = cost_price(entry, quote)
    times = OPTION_MULTIPLIER if asset_class == "us_option" else ONE
    cost = entry.notional if entry.notional is not None else (entry.qty or ZERO) * each * times
    if each > ZERO and cost < ONE and asset_class != "us_option":
        raise forbidden("cost basis must be >= minimal amount of order 1")
    worth = account.worth(price)
    power = account.cash_power(worth) if asset_class == "crypto" else account.buying_power(worth)
    if cost > power:
        raise insufficient_buying_power(shown(power), shown(cost))
