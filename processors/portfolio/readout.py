"""What goes out: records of positions and accounts. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from processors.portfolio.account import Account
from processors.portfolio.cost import Standing
from processors.portfolio.exact import ZERO, rounded
from processors.portfolio.holding import Holding, Input

_NO_ID = bytes(8)


def position_record(holding: Holding, standing: Standing | None = None) -> dict[str, Any]:
    """The `portfolio_position` record of a holding, or of one standing that it went through."""
    now = holding.now if standing is None else standing
    price = holding.price if now.quantity else None
    value = holding.market_value if now.quantity else ZERO
    broker = holding.broker
    return {
        "account": holding.account,
        "symbol": holding.symbol,
        "asset_class": holding.asset_class,
        "epoch": now.epoch,
        "quantity": rounded(now.quantity),
        "average_price": holding.average_price(now),
        "cost_basis": rounded(now.cost),
        "broker_rule_cost": _broker_rule_cost(holding, now),
        "multiplier": holding.multiplier,
        "realized_pnl": rounded(now.realized),
        "mark_price": None if price is None else price.price,
        "mark_ts": None if price is None else price.ts,
        "market_value": rounded(value),
        "unrealized_pnl": rounded(value - now.cost),
        "broker_quantity": None if broker is None else broker.quantity,
        "broker_average_price": None if broker is None else broker.average_price,
        "unexplained": holding.unexplained,
        "opened_ts": now.opened_ts,
        "strategy": None,
    } | _origin(holding.newest)


def _broker_rule_cost(holding: Holding, standing: Standing) -> Decimal | None:
    """USD; None for a standing on the way, whose lots nobody has kept."""
    if not standing.quantity:
        return ZERO
    return rounded(holding.broker_rule_cost) if standing is holding.now else None


def account_record(account: Account) -> dict[str, Any]:
    """The `portfolio_account` record of an account that was opened."""
    broker = account.broker
    assert broker is not None, "an opened account has had a snapshot"
    equity = rounded(account.equity)
    return {
        "account": account.name,
        "cash": rounded(account.cash),
        "equity": equity,
        "buying_power": rounded(account.buying_power),
        "portfolio_value": equity,
        "day_pnl": rounded(account.equity - broker.last_equity),
        "last_equity": broker.last_equity,
        "blocked": broker.blocked,
        "activity_cursor": broker.cursor,
    } | _origin(account.newest)


def _origin(newest: Input) -> dict[str, Any]:
    received_ts, ts, source, id = newest
    return {
        "ts": ts,
        "received_ts": received_ts,
        "source": source,
        "event_id": bytes.fromhex(id) if id else _NO_ID,
    }
