"""A small broker for tests of the accounts producer: Alpaca's trading stream and its REST.

It fills nothing by itself: a test says what happens. That is in REST at once, and on the stream unless
the test says that it was not told.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

Json = dict[str, Any]


class Broker:
    """One brokerage account and its sockets. `keys` are the pairs that are let in."""

    def __init__(self, key: str = "test-key-1", secret: str = "test-secret-1") -> None:
        self.keys = {(key, secret)}
        self.account_id = str(uuid.uuid4())
        self.orders: dict[str, Json] = {}
        self.activities: list[Json] = []
        self.others: list[Json] = []
        """Activities that are no fills, in the order in which they were booked."""
        self.positions: dict[str, Decimal] = {}
        self.sockets: set[web.WebSocketResponse] = set()
        self.requests: Counter[str] = Counter()
        self.faults: dict[str, list[web.Response]] = {}
        """By path: answers given instead of REST's own, the first one first."""
        self.always: web.Response | None = None
        self.refuse_streams = False
        self.refusal = "authenticate"
        self.binary = True
        self.connections = 0
        self._server: TestServer | None = None
        self._clock = datetime.now(UTC)

    async def __aenter__(self) -> str:
        app = web.Application()
        app.router.add_get("/stream", self._stream)
        app.router.add_get("/v2/{path:.*}", self._rest)
        self._server = TestServer(app)
        await self._server.start_server()
        return str(self._server.make_url("")).rstrip("/")

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self.drop()
        await self._server.close()

    # -- what happens

    async def submit(
        self, symbol: str = "AAPL", qty: str = "10", side: str = "buy", *, told: bool = True
    ) -> str:
        now = self._now()
        order: Json = {
            "id": str(uuid.uuid4()), "client_order_id": f"mine-{len(self.orders)}", "created_at": now,
            "updated_at": now, "submitted_at": now, "filled_at": None, "expired_at": None,
            "canceled_at": None, "failed_at": None, "replaced_at": None, "replaced_by": None,
            "replaces": None, "symbol": symbol,
            "asset_class": "us_equity", "notional": None, "qty": qty, "filled_qty": "0",
            "filled_avg_price": None, "order_class": "", "order_type": "limit", "type": "limit", "side": side,
            "time_in_force": "day", "limit_price": "100", "stop_price": None, "status": "new",
            "extended_hours": False, "legs": None,
        }  # fmt: skip
        self.orders[order["id"]] = order
        await self._tell(order, "new", now, told)
        return str(order["id"])

    async def fill(self, order_id: str, qty: str, price: str = "100.25", *, told: bool = True) -> Json:
        order, now = self.orders[order_id], self._now()
        filled = Decimal(order["filled_qty"]) + Decimal(qty)
        whole = filled == Decimal(order["qty"])
        order |= {
            "filled_qty": str(filled), "filled_avg_price": price, "updated_at": now,
            "filled_at": now if whole else None, "status": "filled" if whole else "partially_filled",
        }  # fmt: skip
        signed = Decimal(qty) if order["side"] == "buy" else -Decimal(qty)
        self.positions[order["symbol"]] = self.positions.get(order["symbol"], Decimal(0)) + signed
        event = "fill" if whole else "partial_fill"
        moment = datetime.fromisoformat(now).astimezone(ZoneInfo("America/New_York"))
        self.activities.append(
            {
                "id": f"{moment:%Y%m%d%H%M%S}{moment.microsecond // 1000:03}::{uuid.uuid4()}",
                "activity_type": "FILL", "transaction_time": now, "type": event, "price": price, "qty": qty,
                "side": order["side"], "symbol": order["symbol"], "cum_qty": str(filled),
                "order_id": order_id,
                "leaves_qty": str(Decimal(order["qty"]) - filled), "order_status": order["status"],
            }
        )  # fmt: skip
        more = {
            "price": price, "qty": qty, "position_qty": str(self.positions[order["symbol"]]),
            "execution_id": str(uuid.uuid4()),
        }  # fmt: skip
        return await self._tell(order, event, now, told, more)

    async def end(self, order_id: str, event: str = "canceled", *, told: bool = True, late: int = 0) -> None:
        """`late`: microseconds by which the stream's time differs from REST's."""
        order, now = self.orders[order_id], self._now()
        field = {"canceled": "canceled_at", "expired": "expired_at", "rejected": "failed_at"}[event]
        order |= {"status": event, field: now, "updated_at": now}
        said = datetime.fromisoformat(now) + timedelta(microseconds=late)
        await self._tell(order, event, said.isoformat(), told)

    def book(self, of_type: str, **more: str) -> str:
        """An activity that is no fill; `moves` of `symbol` change the position."""
        now = self._now()
        moment = datetime.fromisoformat(now).astimezone(ZoneInfo("America/New_York"))
        moves = more.pop("moves", None)
        made = {
            "id": f"{moment:%Y%m%d}000000000::{uuid.uuid4()}",
            "activity_type": of_type,
            "created_at": now,
        }
        made |= {"date": f"{moment:%Y-%m-%d}", "net_amount": "0", "status": "executed", **more}
        self.others.append(made)
        if moves is not None:
            self.positions[more["symbol"]] = self.positions.get(more["symbol"], Decimal(0)) + Decimal(moves)
        return str(made["id"])

    async def drop(self) -> None:
        for socket in list(self.sockets):
            await socket.close()

    async def say(self, raw: bytes | str) -> None:
        for socket in list(self.sockets):
            await (socket.send_bytes(raw) if isinstance(raw, bytes) else socket.send_str(raw))

    async def _tell(self, order: Json, event: str, now: str, told: bool, more: Json | None = None) -> Json:
        message = {
            "stream": "trade_updates",
            "data": {"event": event, "timestamp": now, "order": dict(order), **(more or {})},
        }
        if told:
            await self.say(json.dumps(message).encode() if self.binary else json.dumps(message))
        return message

    def _now(self) -> str:
        self._clock = max(datetime.now(UTC), self._clock + timedelta(microseconds=1))
        return self._clock.isoformat()

    # -- the protocol

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        self.connections += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for frame in socket:
            if frame.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                break
            wish = json.loads(frame.data)
            data = wish.get("data", {})
            if wish["action"] == "authenticate":
                good = not self.refuse_streams and (data["key_id"], data["secret_key"]) in self.keys
                status = "authorized" if good else "unauthorized"
                answer = {"stream": "authorization", "data": {"status": status, "action": self.refusal}}
            else:
                answer = {"stream": "listening", "data": {"streams": data["streams"]}}
            await socket.send_bytes(json.dumps(answer).encode())
            if wish["action"] == "listen":
                self.sockets.add(socket)
        self.sockets.discard(socket)
        return socket

    async def _rest(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        self.requests[path] += 1
        if self.faults.get(path):
            return self.faults[path].pop(0)
        if self.always is not None:
            return web.Response(status=self.always.status, body=self.always.body)
        pair = request.headers.get("APCA-API-KEY-ID"), request.headers.get("APCA-API-SECRET-KEY")
        if pair not in self.keys:
            return web.json_response({"code": 40110000, "message": "request is not authorized"}, status=401)
        await asyncio.sleep(0)
        return web.json_response(self._answer(path, request.query))

    def _answer(self, path: str, query: Any) -> Any:
        if path == "account":
            money = dict.fromkeys(
                ("cash", "equity", "last_equity", "buying_power", "long_market_value", "short_market_value"),
                "1000000",
            )
            return {"id": self.account_id, "status": "ACTIVE", "currency": "USD", "multiplier": "4", **money}
        if path == "clock":
            return {"timestamp": self._now(), "is_open": True}
        if path == "positions":
            return [
                {"symbol": s, "asset_class": "us_equity", "qty": str(q), "avg_entry_price": "100.25",
                 "side": "long" if q > 0 else "short", "market_value": str(q * 100)}
                for s, q in self.positions.items() if q
            ]  # fmt: skip
        if path == "account/activities/FILL":
            newest = list(reversed(self.activities))
            if token := query.get("page_token"):
                newest = newest[[a["id"] for a in newest].index(token) + 1 :]
            return newest[: int(query["page_size"])]
        if path == "account/activities":
            assert query["category"] == "non_trade_activity"
            since = query.get("after", "")[:19]
            newest = sorted(self.others, key=lambda a: str(a["id"]), reverse=True)
            if token := query.get("page_token"):
                newest = newest[[a["id"] for a in newest].index(token) + 1 :]
            return [a for a in newest if str(a["created_at"])[:19] >= since][: int(query["page_size"])]
        if path == "orders":
            after = datetime.fromisoformat(
                query.get("after", "2000-01-01T00:00:00Z")[:26].rstrip("Z") + "+00:00"
            )
            found = [o for o in self.orders.values() if datetime.fromisoformat(o["submitted_at"]) > after]
            if query["status"] == "open":
                found = [o for o in found if o["status"] in ("new", "partially_filled")]
            return found[: int(query["limit"])]
        return self.orders[path.removeprefix("orders/")]
