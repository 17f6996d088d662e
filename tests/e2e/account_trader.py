"""A trader beside the house strategy: orders by alpaca-py's TradingClient to two simulated accounts."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import GetOrdersRequest, LimitOrderRequest, MarketOrderRequest

SYMBOLS = ("AAPL", "AMZN", "MSFT", "NVDA", "TSLA")
RESTING = ("GOOGL", "META")
"""For orders that rest: a market order against one's own would be refused as a wash trade."""
KEYS = {1: ("demo-key", "demo-secret"), 2: ("demo-key-2", "demo-secret-2")}
_TURNS, _TURN_SECONDS = 15, 5.0
_MOST_HELD = 2_000
"""Shares of one symbol in one account: beyond it the trader goes the other way."""


def _when_let(ask: Callable[[], Any]) -> Any:
    """Ask until the account's requests of this minute allow it: the services under test use the same."""
    for _ in range(_TURNS):
        try:
            return ask()
        except APIError as error:
            if error.status_code != 429:
                raise
            time.sleep(_TURN_SECONDS)
    return ask()


class AccountTrader:
    """Sends an order every `pause` seconds from `start` to `stop`, in turn to accounts 1 and 2."""

    def __init__(self, url: str, seed: int, pause: float = 0.25) -> None:
        self.url = url
        self.sent: dict[str, int] = {"market": 0, "large": 0, "limit": 0, "canceled": 0, "refused": 0}
        self._clients = {n: TradingClient(*keys, raw_data=True, url_override=url) for n, keys in KEYS.items()}
        self._chance = random.Random(f"trader-{seed}")
        self._pause = pause
        self._held: dict[tuple[int, str], int] = {}
        self._resting: list[tuple[int, str]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="account-trader", daemon=True)
        self.ended: str | None = None

    def start(self) -> None:
        """Trade from now on."""
        self._thread.start()

    def stop(self) -> None:
        """No more orders."""
        self._end.set()
        self._thread.join(30)

    def rest(self) -> None:
        """Nobody trades any more: not the house strategy either, and no order is left open."""
        self.stop()
        for client in self._clients.values():
            _when_let(partial(client.patch, "/account/configurations", {"suspend_trade": True}))
            _when_let(client.cancel_orders)

    def open_orders(self) -> int:
        """Orders of both accounts that may still trade."""
        asked = (partial(client.get_orders, GetOrdersRequest()) for client in self._clients.values())
        return sum(len(_when_let(ask)) for ask in asked)

    def state(self, n: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The broker's own /v2/positions and /v2/account."""
        return _when_let(self._clients[n].get_all_positions), _when_let(self._clients[n].get_account)

    def _run(self) -> None:
        n = 0
        try:
            while not self._end.wait(self._pause):
                n = n % 2 + 1
                try:
                    self._act(n)
                except APIError:
                    self.sent["refused"] += 1
        except requests.RequestException as error:  # the simulator is never killed here
            self.ended = repr(error)

    def _act(self, n: int) -> None:
        kind = self._chance.choices(("market", "large", "limit", "canceled"), (4, 2, 2, 2))[0]
        if kind == "canceled":
            if self._resting:
                account, order_id = self._resting.pop(0)
                self._clients[account].cancel_order_by_id(order_id)
                self.sent[kind] += 1
            return
        symbol = self._chance.choice(RESTING if kind == "limit" else SYMBOLS)
        size = self._chance.randrange(800, 2_500) if kind == "large" else self._chance.randrange(1, 60)
        side = self._side(n, symbol)
        if kind == "limit":
            order = self._limit(n, symbol, size, side)
            self._resting.append((n, str(order["id"])))
        else:
            self._submit(
                n, MarketOrderRequest(symbol=symbol, qty=size, side=side, time_in_force=TimeInForce.DAY)
            )
            self._held[n, symbol] = self._held.get((n, symbol), 0) + (
                size if side is OrderSide.BUY else -size
            )
        self.sent[kind] += 1

    def _side(self, n: int, symbol: str) -> OrderSide:
        """Either, but back once much is held: so positions are added to, reduced, and go through zero."""
        held = self._held.get((n, symbol), 0)
        if abs(held) > _MOST_HELD:
            return OrderSide.SELL if held > 0 else OrderSide.BUY
        return self._chance.choice((OrderSide.BUY, OrderSide.SELL))

    def _limit(self, n: int, symbol: str, size: int, side: OrderSide) -> dict[str, Any]:
        """Far from the market, so that it rests until somebody cancels it."""
        price = 5 if side is OrderSide.BUY else 5_000
        request = LimitOrderRequest(
            symbol=symbol, qty=size, side=side, time_in_force=TimeInForce.DAY, limit_price=price
        )
        return self._submit(n, request)

    def _submit(self, n: int, request: Any) -> dict[str, Any]:
        order: Any = self._clients[n].submit_order(request)
        return dict(order)
