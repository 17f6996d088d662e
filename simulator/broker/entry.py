"""A request for an order, read and checked on its own, before any account is looked at. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from simulator.broker import amounts
from simulator.broker.amounts import ONE, ZERO, whole
from simulator.broker.rejections import Rejection, invalid, malformed

SIDES = ("buy", "sell")
TYPES = ("market", "limit", "stop", "stop_limit", "trailing_stop")
TIFS = ("day", "gtc", "opg", "cls", "ioc", "fok")
CLASSES = ("", "simple", "bracket", "oco", "oto", "mleg")
_LONGEST_ID = 128
_LEGS = (2, 4)


@dataclass(frozen=True, slots=True)
class Leg:
    """A leg of a multi-leg order: an option, how many of it for one of the order."""

    symbol: str
    side: str
    ratio: Decimal
    intent: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What an order is to be; prices in USD."""

    symbol: str
    side: str
    type: str
    tif: str
    order_class: str = ""
    qty: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    extended_hours: bool = False
    client_order_id: str = ""
    intent: str = ""
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    stop_loss_limit: Decimal | None = None
    legs: tuple[Leg, ...] = ()

    @property
    def fractional(self) -> bool:
        """Whether it is for less than whole units, or for an amount."""
        return self.notional is not None or (self.qty is not None and not whole(self.qty))


def read(body: Any) -> Entry:
    """The order that a request's JSON asks for.

    Raises:
        Rejection: it cannot be read, or no order can be so.
    """
    if not isinstance(body, Mapping):
        raise Rejection(400, 40010000, "failed to decode request body")
    entry = _fields(body)
    _check(entry)
    return entry


def _fields(body: Mapping[str, Any]) -> Entry:
    profit, loss = body.get("take_profit") or {}, body.get("stop_loss") or {}
    if not isinstance(profit, Mapping) or not isinstance(loss, Mapping):
        raise malformed("take_profit and stop_loss must be objects")
    multi = body.get("order_class") == "mleg"
    client_id = body.get("client_order_id") or ""
    if not isinstance(client_id, str) or len(client_id) > _LONGEST_ID:
        raise invalid(f"client_order_id must be no more than {_LONGEST_ID} characters")
    if client_id and any(c in client_id for c in "\r\n\0"):
        raise invalid("client_order_id must be printable")
    symbol = "" if multi else str(body.get("symbol") or "").strip().upper()
    if not symbol and not multi:
        raise malformed("symbol is required")
    return Entry(
        symbol=symbol,
        side="" if multi else _word(body, "side", SIDES),
        type=_word(body, "type", TYPES, "limit" if body.get("order_class") == "oco" else None),
        tif=_word(body, "time_in_force", TIFS),
        order_class=_word(body, "order_class", CLASSES, ""),
        qty=number(body, "qty"),
        notional=number(body, "notional"),
        limit_price=number(body, "limit_price", signed=multi),
        stop_price=number(body, "stop_price"),
        trail_price=number(body, "trail_price"),
        trail_percent=number(body, "trail_percent"),
        extended_hours=body.get("extended_hours") in (True, "true"),
        client_order_id=client_id,
        intent=str(body.get("position_intent") or ""),
        take_profit=number(profit, "limit_price"),
        stop_loss=number(loss, "stop_price"),
        stop_loss_limit=number(loss, "limit_price"),
        legs=_legs(body.get("legs")) if multi else (),
    )


def number(body: Mapping[str, Any], name: str, *, signed: bool = False) -> Decimal | None:
    """A field that must be a positive number where it is given (any number if `signed`).

    Raises:
        Rejection: it is something else.
    """
    value = body.get(name)
    if value is None or value == "":
        return None
    try:
        amount = amounts.read(value)
    except ValueError:
        raise malformed(f"{name} must be a number") from None
    if amount <= ZERO and not signed:
        raise invalid(f"{name} must be > 0")
    if amounts.decimals(amount) > 9:
        raise invalid(f"{name} must be limited to 9 decimal places")
    return amount


def _word(body: Mapping[str, Any], name: str, known: tuple[str, ...], default: str | None = None) -> str:
    value = body.get(name)
    if value is None and default is not None:
        return default
    if value is None:
        raise malformed(f"{name} is required")
    if value not in known:
        raise invalid(f"invalid {name}")
    return str(value)


def _legs(value: Any) -> tuple[Leg, ...]:
    if not isinstance(value, list) or not _LEGS[0] <= len(value) <= _LEGS[1]:
        raise invalid("mleg orders must have 2 to 4 legs")
    legs = []
    for item in value:
        if not isinstance(item, Mapping):
            raise malformed("legs must be objects")
        ratio = number(item, "ratio_qty") or ONE
        if not whole(ratio):
            raise invalid("ratio_qty must be a whole number")
        intent = str(item.get("position_intent") or "")
        side = item.get("side") or intent.partition("_")[0]
        if side not in SIDES:
            raise malformed("side or position_intent is required for each leg")
        legs.append(Leg(str(item.get("symbol") or "").upper(), str(side), ratio, intent))
    if len({leg.symbol for leg in legs}) < len(legs):
        raise invalid("all legs must have different symbols")
    return tuple(legs)


def _check(entry: Entry) -> None:
    if entry.qty is None and entry.notional is None:
        raise malformed("qty or notional is required")
    if entry.qty is not None and entry.notional is not None:
        raise malformed("only one of qty or notional is accepted")
    if entry.notional is not None and amounts.decimals(entry.notional) > 2:
        raise invalid("notional value must be limited to 2 decimal places")
    _check_prices(entry)
    if entry.extended_hours and (entry.type != "limit" or entry.tif not in ("day", "gtc")):
        raise invalid("extended hours order must be DAY or GTC limit orders")
    if entry.extended_hours and entry.order_class not in ("", "simple"):
        raise invalid("extended hours orders must be simple orders")
    if entry.order_class == "mleg":
        if entry.type not in ("market", "limit") or entry.tif not in ("day", "gtc"):
            raise invalid("mleg orders must be market or limit orders for the day")
    elif entry.order_class not in ("", "simple"):
        _check_complex(entry)


def _check_prices(entry: Entry) -> None:
    needs = {
        "market": (),
        "limit": ("limit_price",),
        "stop": ("stop_price",),
        "stop_limit": ("limit_price", "stop_price"),
        "trailing_stop": (),
    }[entry.type]
    for name in ("limit_price", "stop_price"):
        given = getattr(entry, name) is not None
        if name in needs and not given and entry.order_class != "oco":
            raise malformed(f"{entry.type.replace('_', ' ')} orders require {name.replace('_', ' ')}")
        if given and name not in needs:
            raise malformed(f"{entry.type.replace('_', ' ')} orders must not have {name.replace('_', ' ')}")
    trails = (entry.trail_price is not None) + (entry.trail_percent is not None)
    if entry.type == "trailing_stop" and trails != 1:
        raise invalid("trailing stop orders must specify one of trail_price or trail_percent")
    if entry.type != "trailing_stop" and trails:
        raise invalid("only trailing stop orders may specify trail_price or trail_percent")
    if entry.trail_percent is not None and entry.trail_percent >= 100:
        raise invalid("trail_percent must be < 100")


def _check_complex(entry: Entry) -> None:
    name = entry.order_class
    if entry.fractional:
        raise invalid("fractional orders must be simple orders")
    if entry.tif not in ("day", "gtc"):
        raise invalid(f"{name} orders must be day or gtc orders")
    if entry.type == "trailing_stop":
        raise invalid(f"{name} orders must not be trailing stop orders")
    both = entry.take_profit is not None and entry.stop_loss is not None
    if name == "oco" and entry.type != "limit":
        raise invalid("oco orders must be limit orders")
    if name == "oco" and entry.stop_loss is None:
        raise invalid("oco orders require stop_loss.stop_price")
    if name == "oco" and entry.take_profit is None and entry.limit_price is None:
        raise invalid("oco orders require take_profit.limit_price")
    if name == "bracket" and not both:
        missing = "take_profit.limit_price" if entry.take_profit is None else "stop_loss.stop_price"
        raise invalid(f"bracket orders require {missing}")
    if name == "oto" and (entry.take_profit is None) == (entry.stop_loss is None):
        raise invalid("oto orders require one of take_profit or stop_loss")
    profit = entry.take_profit if name != "oco" or entry.take_profit is not None else entry.limit_price
    if profit is not None and entry.stop_loss is not None:
        wrong = (
            profit <= entry.stop_loss
            if (entry.side == "buy") != (name == "oco")
            else profit >= entry.stop_loss
        )
        if wrong:
            order = ">" if (entry.side == "buy") != (name == "oco") else "<"
            raise invalid(f"take_profit.limit_price must be {order} stop_loss.stop_price")


def for_asset(entry: Entry, asset_class: str, symbol: str) -> Entry:
    """The entry with its symbol as the market writes it, checked by the rules of its asset class.

    Raises:
        Rejection: orders of this class may not be so.
    """
    if asset_class == "crypto":
        if entry.type not in ("market", "limit", "stop_limit"):
            raise invalid("invalid order type for crypto order")
        if entry.tif not in ("gtc", "ioc"):
            raise invalid("invalid crypto time_in_force")
        if entry.order_class not in ("", "simple") or entry.extended_hours:
            raise invalid("crypto orders must be simple orders")
    elif asset_class == "us_option":
        if entry.fractional:
            raise malformed("qty must be integer")
        if entry.type == "trailing_stop" or entry.order_class not in ("", "simple", "mleg"):
            raise invalid("complex orders are not supported for options trading")
        if entry.tif not in ("day", "gtc") or entry.extended_hours:
            raise invalid("invalid options time_in_force")
    else:
        if entry.fractional and (entry.tif != "day" or entry.type == "trailing_stop"):
            raise invalid("fractional orders must be DAY orders")
        _check_increments(entry)
    return replace(entry, symbol=symbol)


def _check_increments(entry: Entry) -> None:
    for name in ("limit_price", "stop_price", "take_profit", "stop_loss", "stop_loss_limit"):
        price: Decimal | None = getattr(entry, name)
        if price is not None and amounts.decimals(price) > (2 if price >= ONE else 4):
            raise invalid(
                f"invalid {name} {amounts.text(price)}. sub-penny increment does not fulfill minimum"
                " pricing criteria"
            )
