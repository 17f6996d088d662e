"""Rules, prices, triggers and orders: the exits service is killed with -9 on a trigger's way out.

Prices are published to the topics; the positions stand at the simulated broker, and the executor closes them.
What has ended and is still held is armed again with the next exit epoch, as the placing of rules does it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from aiokafka import AIOKafkaProducer

from processors.exits.explain import explain
from schemas.catalogue import EXIT_TRIGGERS, ORDER_INTENTS
from schemas.codec import load_codec
from schemas.order_ids import trigger_name
from tests.chaos import orders_exits
from tests.chaos.orders_line import Line
from tests.chaos.orders_process import Process
from tests.integration.exits_world import Market, a_quote, a_watch
from tests.integration.topic_content import held
from tidewire.kafka import client_arguments

SYMBOLS = ("W0", "W1", "W2")
STOPS = {"long": {"kind": "stop_loss", "price": "95"}, "short": {"kind": "stop_loss", "price": "105"}}
PATIENCE = 120.0
_DONE = "SELECT intent_id FROM order_intents_ledger WHERE phase = 'done'"
Tell = Callable[[str], None]


@dataclass
class Guarded:
    """A position with a stop."""

    account: str
    symbol: str
    quantity: Decimal
    epoch: int
    exit_epoch: int = 0

    @property
    def trigger(self) -> str:
        """The one that its stop fires now."""
        return trigger_name(self.account, self.symbol, self.epoch, self.exit_epoch)


async def play(line: Line, kills: int, rng: random.Random, tell: Tell) -> list[str]:
    """So many rounds; in each every position falls through its stop, and the service dies over it.

    Returns:
        Triggers that do not give themselves when they are judged again, and those without their intent.
    """
    client = AIOKafkaProducer(**client_arguments(line.settings), enable_idempotence=True)
    await client.start()
    market = Market(line.settings, load_codec(line.settings), client)
    try:
        for number in range(kills):
            place = orders_exits.PLACES[number % len(orders_exits.PLACES)]
            await _round(line, market, number, place, rng)
            line.ran[f"kill of exits before or at {place}"] += 1
            tell(f"{number + 1} of {kills} kills of the exits service, at {place}")
        return await _judge(line)
    finally:
        await client.stop()


async def _round(line: Line, market: Market, epoch: int, place: str, rng: random.Random) -> None:
    positions = [
        Guarded(account, symbol, Decimal(rng.choice(("2", "1.5")) if number < 2 else "-3"), epoch)
        for account in line.accounts
        for number, symbol in enumerate(SYMBOLS)
    ]
    for each in positions:
        side = "buy" if each.quantity > 0 else "sell"
        body = {"symbol": each.symbol, "side": side, "type": "market", "time_in_force": "day"}
        assert line.place(each.account, body | {"qty": f"{abs(each.quantity):f}"})
    await line.until(
        lambda: all(line.held(p.account, p.symbol) == p.quantity for p in positions), "positions"
    )
    await _watch(market, positions)
    dying = _start(line, place)
    prices = asyncio.create_task(_prices(market))
    try:
        await line.until(
            lambda: prices.done() or dying.ended(), f"kill of exits at {place}", apart_from=[dying]
        )
        line.processes.remove(dying)
        living = _start(line)
        await _closed(line, market, positions, prices)
        await line.ready(living)  # its part may have been done before it was up
        await line.stop(living)
    finally:
        prices.cancel()
        await asyncio.wait({prices})


async def _closed(line: Line, market: Market, positions: list[Guarded], prices: asyncio.Task[None]) -> None:
    """Wait until every position is, and arm again what has ended without that."""
    deadline = time.monotonic() + PATIENCE
    while left := [p for p in positions if line.held(p.account, p.symbol)]:
        assert not prices.done(), prices.exception()
        if time.monotonic() > deadline:
            said = "\n".join(f"{p.health()}\n{p.log()}" for p in line.processes)
            raise AssertionError(f"open: {left}\n{said}")
        ended = {name for (name,) in await line.rows(_DONE)}
        again = [p for p in left if p.trigger in ended and line.held(p.account, p.symbol)]
        for each in again:
            each.exit_epoch += 1
        await _watch(market, again)
        await asyncio.sleep(0.2)


async def _watch(market: Market, positions: list[Guarded]) -> None:
    now = time.time_ns()
    await market.watches(
        *(
            a_watch(
                p.symbol, STOPS["long" if p.quantity > 0 else "short"], now, account=p.account,
                quantity=p.quantity, position_epoch=p.epoch, exit_epoch=p.exit_epoch,
            )
            for p in positions
        )
    )  # fmt: skip


async def _prices(market: Market) -> None:
    """Of longs below their stop, of shorts above it, ever new."""
    while True:
        now = time.time_ns()
        bids = dict.fromkeys(SYMBOLS[:2], 94.0) | dict.fromkeys(SYMBOLS[2:], 106.0)
        await market.quotes([a_quote(symbol, now, bid) for symbol, bid in bids.items()])
        await asyncio.sleep(0.1)


def _start(line: Line, *place: str) -> Process:
    return line.start_other(("tests.chaos.orders_exits", *place))


async def _judge(line: Line) -> list[str]:
    codec = load_codec(line.settings)
    triggers = [codec.decode(r.value)[1] for r in await held(line.settings, EXIT_TRIGGERS)]
    intents: dict[str, set[bytes]] = defaultdict(set)
    for record in await held(line.settings, ORDER_INTENTS):
        content = codec.decode(record.value)[1]
        if content["symbol"] in SYMBOLS:
            intents[content["intent_id"]].add(bytes(record.value))
    names = {trigger["trigger_id"] for trigger in triggers}
    line.ran["triggers"] += len(names)
    line.ran["triggers judged again"] += len(triggers)
    wrong = [
        f"{t['trigger_id']} does not give itself: {found.steps}"
        for t in triggers
        if not (found := explain(t)).fires
    ]
    wrong += [f"{name} has no intent" for name in sorted(names - intents.keys())]
    wrong += [f"{name} is no trigger's intent" for name in sorted(intents.keys() - names)]
    return wrong + [f"{name} was published with other content" for name, v in intents.items() if len(v) > 1]
