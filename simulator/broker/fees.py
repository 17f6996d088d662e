"""Fees of coins, as Alpaca takes them: of what an order brings in, so a purchase pays in coins. Pure."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from simulator.broker.account import Account
from simulator.broker.amounts import CENT, SMALLEST
from simulator.broker.book import Execution
from simulator.broker.postings import Desk, Effect, post


def charge(desk: Desk, account: Account, execution: Execution, rate: Decimal) -> None:
    """The activity CFEE of one fill; none where the fee rounds to nothing."""
    if execution.side == "buy":
        fee = (execution.qty * rate).quantize(SMALLEST, ROUND_HALF_UP)
        if fee:
            fields = {
                "symbol": execution.symbol.replace("/", ""),
                "qty": -fee,
                "price": execution.price,
                "description": "Coin Pair Transaction Fee (Non USD)",
            }
            post(desk, account, "CFEE", fields, Effect(execution.symbol, "crypto", "fee", -fee))
        return
    paid = (execution.qty * execution.price * rate).quantize(CENT, ROUND_HALF_UP)
    if paid:
        post(desk, account, "CFEE", {"net_amount": -paid, "description": "Coin Pair Transaction Fee (USD)"})
