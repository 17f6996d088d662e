"""A signed-in client of the gateway that stays on through every reconnect, and keeps what it was told."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from console.client.portfolio import Portfolio
from console.client.stream import Stream

_GREETING = ({"type": "subscribe", "channels": ["positions", "orders", "account", "trades"]},)


class AccountClient:
    """Follows /ws/portfolio in a thread of its own from `start` to `stop`; `session` gives the cookie."""

    def __init__(self, url: str, session: Callable[[], str]) -> None:
        self.url = url
        self.cookie = session()
        self.portfolio = Portfolio()
        self.messages: list[dict[str, Any]] = []
        self.executions: Counter[tuple[str, Fraction]] = Counter()
        self.users: set[str] = set()
        self.connects = 0
        self.ended: str | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="account-client", daemon=True)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect, and come back after every loss."""
        self._thread.start()

    def stop(self) -> None:
        """Leave; what was told stays."""
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(20)

    @property
    def quantities(self) -> dict[str, str]:
        """Symbol -> quantity of the open positions, as text."""
        return {
            str(p["symbol"]): str(p["quantity"]) for p in list(self.portfolio.positions.values()) if _held(p)
        }

    @property
    def positions(self) -> dict[str, Any]:
        """Symbol -> PositionUpdate of the open positions."""
        return {str(p["symbol"]): p for p in list(self.portfolio.positions.values()) if _held(p)}

    @property
    def cash(self) -> str | None:
        """Cash of the one account that the user sees."""
        return next((str(a["cash"]) for a in list(self.portfolio.accounts.values())), None)

    @property
    def order_ids(self) -> set[str]:
        """Alpaca's ids of every order that was ever mentioned."""
        found: set[str] = set()
        for message in self.messages:
            data = message.get("data") or {}
            found |= {
                order["brokerOrderId"]
                for order in [data, *data.get("orders", ())]
                if "brokerOrderId" in order
            }
        return found

    def get(self, path: str) -> Any:
        """GET a path of the gateway with the session's cookie."""
        request = urllib.request.Request(self.url + path, headers={"Cookie": self.cookie})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def _run(self) -> None:
        try:
            self._task = self._loop.create_task(self._follow())
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except Exception as error:  # the test asks for it at its end
            self.ended = repr(error)
        finally:
            self._loop.close()

    async def _follow(self) -> None:
        async for message in Stream(self.url, "/ws/portfolio", self.cookie, _GREETING).messages():
            self.portfolio.apply(message)
            if message["type"] == "disconnected":
                continue
            if message["type"] == "connected":
                self.connects += 1
                continue
            self.messages.append(message)
            self.users.add(message["userId"])
            if message["type"] == "trade_executed":
                fill = message["data"]  # by order and quantity: a fill that REST told has no execution id
                self.executions[fill["orderId"], Fraction(fill["filledQty"])] += 1


def _held(position: Any) -> bool:
    return float(position["quantity"]) != 0
