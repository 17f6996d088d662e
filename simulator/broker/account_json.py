"""Accounts, positions, activities and history as Alpaca's REST shows them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from simulator.broker.account import Account, Price
from simulator.broker.amounts import ONE, ZERO, divide, read, shown, text
from simulator.broker.book import Execution, Position
from simulator.broker.order_json import asset_id
from simulator.conditions import tape_of
from simulator.exchange_calendar import new_york
from simulator.rfc3339 import show

_EXCHANGE = {"A": "NYSE", "B": "ARCA", "C": "NASDAQ"}
_OF_TRANSFERS = (
    "activity_sub_type", "description", "symbol", "qty", "price", "per_share_amount", "group_id", "cusip",
)  # fmt: skip
_HALF, _MAINTENANCE = Decimal("0.5"), Decimal("0.3")


def exchange_of(symbol: str, asset_class: str) -> str:
    """Where an asset is listed."""
    if asset_class == "crypto":
        return "CRYPTO"
    return "" if asset_class == "us_option" else _EXCHANGE[tape_of(symbol)]


def account_json(account: Account, price: Price, now: int) -> dict[str, Any]:
    """The account at current prices; `now` in ns."""
    worth = account.worth(price)
    gross = worth.long - worth.short
    power, cash_power = account.buying_power(worth), account.cash_power(worth)
    initial = gross * _HALF + account.holds.cost * _HALF
    regt = max(ZERO, (worth.equity - initial) * 2)
    configuration = account.configuration
    level = configuration["max_options_trading_level"]
    amounts = {
        "buying_power": power,
        "regt_buying_power": regt,
        "daytrading_buying_power": power if account.multiplier(worth) == 4 else ZERO,
        "effective_buying_power": power,
        "non_marginable_buying_power": cash_power,
        "options_buying_power": cash_power,
        "cash": worth.cash,
        "cash_withdrawable": cash_power,
        "cash_transferable": cash_power,
        "accrued_fees": ZERO,
        "pending_transfer_in": ZERO,
        "pending_transfer_out": ZERO,
        "portfolio_value": worth.equity,
        "equity": worth.equity,
        "last_equity": account.last_equity,
        "long_market_value": worth.long,
        "short_market_value": worth.short,
        "position_market_value": gross,
        "initial_margin": initial,
        "maintenance_margin": gross * _MAINTENANCE,
        "last_maintenance_margin": ZERO,
        "sma": worth.equity,
        "intraday_adjustments": ZERO,
        "pending_reg_taf_fees": ZERO,
        "multiplier": account.multiplier(worth),
    }
    return {
        "id": account.id,
        "account_number": f"SIM{account.n:09d}",
        "status": "ACTIVE",
        "crypto_status": "ACTIVE",
        "crypto_tier": 1,
        "currency": "USD",
        **{name: text(shown(value)) for name, value in amounts.items()},
        "pattern_day_trader": False,
        "trading_blocked": False,
        "transfers_blocked": False,
        "account_blocked": False,
        "trade_suspended_by_user": configuration["suspend_trade"],
        "shorting_enabled": not configuration["no_shorting"],
        "created_at": show(account.opened),
        "daytrade_count": 0,
        "bod_dtbp": 0,
        "balance_asof": f"{new_york(account.closed_at or now):%Y-%m-%d}",
        "options_approved_level": level,
        "options_trading_level": level,
        "admin_configurations": {},
        "user_configurations": None,
    }


def position_json(account: Account, position: Position, price: Price) -> dict[str, Any]:
    """An open position; crypto without its slash, as Alpaca has it."""
    each = price(position.symbol)
    current = position.average if each is None else each
    times, sign = position.multiplier, ONE if position.qty > ZERO else -ONE
    last = account.last_prices.get(position.symbol, position.average)
    overnight = position.opened <= account.closed_at
    cost, value = position.cost, position.qty * current * times
    base = position.qty * (last if overnight else position.average) * times
    closing = "sell" if position.qty > ZERO else "buy"
    held = min(abs(position.qty), account.holds.quantity(position.symbol, closing))
    numbers = {
        "qty": position.qty,
        "qty_available": (abs(position.qty) - held) * sign,
        "avg_entry_price": position.average,
        "market_value": value,
        "cost_basis": cost,
        "unrealized_pl": value - cost,
        "unrealized_plpc": _part(value - cost, abs(cost)),
        "unrealized_intraday_pl": value - base,
        "unrealized_intraday_plpc": _part(value - base, abs(base)),
        "current_price": current,
        "lastday_price": last,
        "change_today": _part(current - last, last),
    }
    return {
        "asset_id": asset_id(position.symbol),
        "symbol": position.symbol.replace("/", ""),
        "exchange": exchange_of(position.symbol, position.asset_class),
        "asset_class": position.asset_class,
        "asset_marginable": position.asset_class == "us_equity",
        "side": "long" if position.qty > ZERO else "short",
        **{name: text(shown(number)) for name, number in numbers.items()},
    }


def activity_json(account: Account, activity: str, execution: Execution) -> dict[str, Any]:
    """A fill as it was executed, or what became of it (activity types BUST and CORRECT)."""
    body = {
        "id": activity,
        "account_id": account.id,
        "activity_type": "FILL",
        "transaction_time": show(execution.at),
        "type": "fill" if execution.leaves == ZERO else "partial_fill",
        "price": text(execution.price if execution.first_price is None else execution.first_price),
        "qty": text(execution.qty if execution.first_qty is None else execution.first_qty),
        "side": execution.side,
        "symbol": execution.symbol,
        "leaves_qty": text(execution.leaves),
        "order_id": execution.order_id,
        "cum_qty": text(execution.cum),
        "order_status": "filled" if execution.leaves == ZERO else "partially_filled",
    }
    if activity != execution.revision:
        return body
    busted = execution.state == "canceled"
    return body | {
        "activity_type": "BUST" if busted else "CORRECT",
        "type": "trade_bust" if busted else "trade_correct",
        "transaction_time": show(execution.revised),
        "price": text(execution.price),
        "qty": text(execution.qty),
        "previous_id": execution.id,
        "status": "canceled" if busted else "correct",
    }


def transfer_json(account: Account, asked: Mapping[str, Any], at: int, activity: str) -> dict[str, Any]:
    """The activity of money that comes or goes at a time (ns): a deposit, a dividend, a fee."""
    optional = {name: str(asked[name]) for name in _OF_TRANSFERS if asked.get(name) is not None}
    return {
        "id": activity,
        "account_id": account.id,
        "activity_type": str(asked.get("activity_type") or "CSD"),
        "date": f"{new_york(at):%Y-%m-%d}",
        "created_at": show(at),
        "net_amount": text(read(asked.get("net_amount"))),
        "currency": "USD",
        "description": "",
        "status": "executed",
        **optional,
    }


def history_json(
    samples: Iterable[tuple[int, Decimal]], base: Decimal, asof: int, seconds: int, timeframe: str
) -> dict[str, Any]:
    """Equity at the end of each interval of `seconds`, beside the base value; times in s."""
    ends: dict[int, Decimal] = {}
    for ns, equity in samples:
        ends[ns // (seconds * 10**9) * seconds] = equity
    gains = [equity - base for equity in ends.values()]
    day = datetime.fromtimestamp(asof // 10**9, UTC)
    return {
        "timestamp": list(ends),
        "equity": [float(round(equity, 2)) for equity in ends.values()],
        "profit_loss": [float(round(gain, 2)) for gain in gains],
        "profit_loss_pct": [float(round(_part(gain, base), 6)) for gain in gains],
        "base_value": float(round(base, 2)),
        "base_value_asof": f"{day:%Y-%m-%d}",
        "timeframe": timeframe,
        "cashflow": {},
    }


def _part(value: Decimal, whole: Decimal) -> Decimal:
    return divide(value, whole) if whole else ZERO
