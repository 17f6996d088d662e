"""Opens positions at the simulated broker and fires exits at them, and strategies' orders beside, until told.

It stands for users, for rules that fire, and for the placing of rules: what has ended and is still held fires
again with the next exit epoch. It knows of the executor what the ledger says.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.catalogue import ORDER_INTENTS
from schemas.codec import load_codec
from schemas.order_ids import PREFIX
from tests.chaos.orders_intents import exit_intent, order_intent
from tests.chaos.orders_line import PATIENCE, Line
from tidewire.kafka import client_arguments
from tidewire.placing import partition_of

STRATEGY = "STRAT"
OLD = 700.0
"""Seconds; older than any account allows."""
REST = 1.0
"""Seconds before what was refused fires again."""
LOOK = 0.1
_MOST_ORDERS = 5
_DONE = "SELECT intent_id, outcome FROM order_intents_ledger WHERE phase = 'done'"
_CHOICES = ("1", "2", "3.5", "7", "-1", "-4", "0.25", "800", "-600")
Record = dict[str, Any]


@dataclass
class Holding:
    """A position that is opened and closed again and again; `wanted`: signed quantity while it is open."""

    account: str
    symbol: str
    state: str = "free"
    wanted: Decimal = Decimal(0)
    epoch: int = -1
    exit_epoch: int = 0
    intent: str = ""
    due: float = 0.0


class Trader:
    """`copies`: how often each intent is published. `most`: positions at a time. `extras`: strategies'
    orders, intents that are too old, resting orders of others, and cancels beside them."""

    def __init__(
        self, line: Line, seed: int, *, copies: int = 1, most: int = 1_000, extras: bool = True
    ) -> None:
        self.line, self.copies, self.most, self.extras = line, copies, most, extras
        self.holdings = [Holding(a, s) for a in line.accounts for s in line.symbols if s.startswith("T")]
        self.quota = 0
        self.closed = 0
        self.old: set[str] = set()
        self.ended: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.tied = False
        """The kill switch is on: nothing can be opened, what is open fires again and again."""
        self._rng = random.Random(f"trader-{seed}")
        self._orders: list[str] = []
        self._seen: set[str] = set()
        self._history: list[Record] = []
        self._task: asyncio.Task[None] | None = None
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Trade from now on, as far as `quota` reaches."""
        self._encode = load_codec(self.line.settings).encoder("order_intent")
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """At once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._producer is not None:
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(self._producer.stop(), 10)

    async def settle(self, seconds: float = PATIENCE) -> None:
        """Open nothing more, and wait until all is closed and has ended."""
        self.quota = 0
        await self.line.until(lambda: self.failed() or self._quiet(), "end of all exits", seconds)

    @property
    def live(self) -> int:
        """Holdings that are not free."""
        return sum(each.state != "free" for each in self.holdings)

    def _quiet(self) -> bool:
        return self.live == 0 and all(name in self.ended for name in self._orders)

    def failed(self) -> bool:
        """Raises what has ended the loop; it has not failed."""
        if self._task is not None and self._task.done():
            self._task.result()
        return False

    # -- the loop

    async def _run(self) -> None:
        while True:
            self.ended.update(await self.line.rows(_DONE))
            for holding in self.holdings:
                await self._step(holding)
            if self.extras and self.quota > 0:
                await self._around()
            await asyncio.sleep(LOOK)

    async def _step(self, holding: Holding) -> None:
        now = time.monotonic()
        if holding.state == "free":
            if self.quota > 0 and not self.tied and self.live < self.most:
                self._open(holding)
        elif holding.state == "opening":
            if self.line.held(holding.account, holding.symbol) == holding.wanted:
                self._obstruct(holding)
                await self._fire(holding)
        elif holding.state == "firing" and holding.intent in self.ended:
            if not self.line.held(holding.account, holding.symbol):
                holding.state = "free"
                self.closed += 1
            else:
                pause = 0.0 if self.ended[holding.intent] in ("canceled", "stale") else REST
                holding.state, holding.due = "waiting", now + pause
        elif holding.state == "waiting" and now >= holding.due:
            holding.exit_epoch += 1
            await self._fire(holding)

    def _open(self, holding: Holding) -> None:
        quantity = Decimal(self._rng.choice(_CHOICES) if self.extras else self._rng.choice(_CHOICES[:6]))
        side = "buy" if quantity > 0 else "sell"
        body = {"symbol": holding.symbol, "side": side, "type": "market", "time_in_force": "day"}
        if self.line.place(holding.account, body | {"qty": f"{abs(quantity):f}"}):
            holding.state, holding.wanted = "opening", quantity
            holding.epoch, holding.exit_epoch = holding.epoch + 1, 0
            self.quota -= 1

    def _obstruct(self, holding: Holding) -> None:
        """Now and then somebody else's order holds the shares."""
        quote = self.line.simulator.prices.quote(holding.symbol)
        if not self.extras or self._rng.random() > 0.2 or quote is None:
            return
        long = holding.wanted > 0
        price = round(quote.bid * Decimal("1.5") if long else quote.ask / 2, 2)
        body = {
            "symbol": holding.symbol, "side": "sell" if long else "buy", "type": "limit",
            "time_in_force": "day", "qty": f"{abs(holding.wanted):f}", "limit_price": f"{price:f}",
        }  # fmt: skip
        self.counts["orders of others"] += self.line.place(holding.account, body)

    async def _fire(self, holding: Holding) -> None:
        old = self.extras and not self.tied and self._rng.random() < 0.06
        held = self.line.held(holding.account, holding.symbol)
        intent = exit_intent(
            holding.account, holding.symbol, "sell" if held > 0 else "buy",
            holding.epoch, holding.exit_epoch, time.time_ns() - int(OLD * 1e9) * old,
        )  # fmt: skip
        holding.intent, holding.state = intent["intent_id"], "firing"
        if old:
            self.old.add(holding.intent)
        await self.publish([intent] * self.copies)
        self._history = [*self._history[-200:], intent]

    async def _around(self) -> None:
        """Strategies' orders, late repeats, and cancels of exits that are half filled."""
        if self._rng.random() < 0.15 and len(self._orders) - self._orders_ended() < _MOST_ORDERS:
            await self._strategy()
        if self._history and self._rng.random() < 0.2:
            await self.publish([self._rng.choice(self._history)] * self._rng.randint(1, 3))
            self.counts["late repeats"] += 1
        for working in list(self.line.simulator.broker.broker.exchange.working.values()):
            for order in list(working.values()):
                partly = order.client_order_id.startswith(PREFIX) and order.filled_qty > 0
                if not partly or order.id in self._seen:
                    continue
                self._seen.add(order.id)
                if self._rng.random() < 0.7:
                    account = self.line.accounts[order.account - 1]
                    await self.line.ask(account, "DELETE", f"orders/{order.id}")
                    self.counts["orders canceled half filled"] += 1

    def _orders_ended(self) -> int:
        return sum(name in self.ended for name in self._orders)

    async def _strategy(self) -> None:
        name = f"strategy-{len(self._orders)}"
        account = self._rng.choice(self.line.accounts)
        quote = self.line.simulator.prices.quote(STRATEGY)
        if quote is None or not quote.ask:
            return
        share = self._rng.choice(("1.02", "1.02", "0.97", "3"))  # fills, fills, ends unfilled, out of bounds
        price = round(quote.ask * Decimal(share), 2)
        self._orders.append(name)
        await self.publish([order_intent(account, name, STRATEGY, price, quote.ask)] * self.copies)

    # -- the log

    async def publish(self, intents: list[Record]) -> None:
        """All of them, however long Kafka is away; what is not sure to have come is sent again."""
        values = [(each["account"], self._encode(each)) for each in intents]
        while True:
            try:
                producer = await self._connected()
                waiting = [await self._send(producer, *each) for each in values]
                await asyncio.wait_for(asyncio.gather(*waiting), 30)
                self.counts["published"] += len(values)
                return
            except (KafkaError, OSError, TimeoutError):
                self.counts["published again"] += 1
                await self._disconnect()
                await asyncio.sleep(0.5)

    async def _send(self, producer: AIOKafkaProducer, account: str, value: bytes) -> Any:
        topic = self.line.settings.tidewire_topic_prefix + ORDER_INTENTS
        key = account.encode()
        return await producer.send(
            topic, key=key, value=value, partition=partition_of(key, self.line.partitions)
        )

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **client_arguments(self.line.settings), acks="all", enable_idempotence=True, linger_ms=5
            )
            await asyncio.wait_for(producer.start(), 20)
            self._producer = producer
        return self._producer

    async def _disconnect(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            with suppress(KafkaError, TimeoutError, OSError):
                await asyncio.wait_for(producer.stop(), 5)
