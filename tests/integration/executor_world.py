"""What the tests of the executor share: a simulated broker, intents into Kafka, an executor to run."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
from aiokafka import AIOKafkaProducer

from schemas import cluster
from schemas.catalogue import ORDER_INTENTS, ORDER_RESULTS, TRADE_UPDATES
from schemas.codec import load_codec
from schemas.event_id import intent_event_id
from schemas.order_ids import client_order_id, trigger_name
from simulator.app import Simulator, SimulatorOptions
from sinks.executor.app import Executor
from sinks.postgres import connection
from tests.integration.executor_broker import KEYS, Broker, until, until_held
from tests.integration.service_run import running as service_running
from tests.integration.topic_content import decoded, held
from tidewire.config import Settings, load
from tidewire.health import Health
from tidewire.kafka import client_arguments
from tidewire.placing import partition_of

Record = dict[str, Any]
ROOT = Path(__file__).parents[2]
ACCOUNT = "one"
_PROGRAM = (
    "import sys; from sinks.executor.app import main; from tidewire import config; "
    "sys.exit(main(config.load(_env_file=None)))"
)


@asynccontextmanager
async def market(home: Path, *symbols: str, per_minute: int | None = None) -> AsyncIterator[Broker]:
    """A simulator whose market plays at once, of AAPL and MSFT unless told otherwise. `per_minute`: how many
    requests of an account it answers; None: all."""
    names = symbols or ("AAPL", "MSFT")
    pairs = tuple(name for name in names if "/" in name)
    options = SimulatorOptions(
        symbols=tuple(name for name in names if name not in pairs),
        crypto_symbols=pairs,
        wait_for_subscriber=False,
        strategy=False,
        fresh=True,
        orders_per_minute=per_minute,
    )
    simulator = Simulator(load(_env_file=None, tidewire_home=home / "simulator"), options)
    await simulator.start()
    try:
        await until(lambda: all(simulator.prices.quote(symbol) for symbol in names))
        async with aiohttp.ClientSession() as session:
            yield Broker(simulator, session)
    finally:
        await simulator.stop()


async def prepared(settings: Settings, broker: Broker, home: Path, risk: str = "") -> Settings:
    """Topics and accounts.toml; `risk` are lines of its table. What the clock would end on a busy machine
    lasts longer, unless `risk` says how long."""
    await cluster.apply(settings, (ORDER_INTENTS, ORDER_RESULTS, TRADE_UPDATES))
    own = settings.model_copy(
        update={
            "tidewire_accounts_file": home / "accounts.toml",
            "tidewire_trading_url": broker.url,
            "tidewire_data_url": broker.url,
        }
    )
    keys = home / "one.keys"
    keys.write_text(KEYS.replace(" ", "\n"))
    keys.chmod(0o600)
    for line in ("max_age_seconds = 45", "limit_order_seconds = 3600"):
        if line.split()[0] not in risk:
            risk += f"\n{line}"
    table = f'[accounts.{ACCOUNT}]\nkey_file = "{keys.name}"\n[accounts.{ACCOUNT}.risk]\n{risk}\n'
    own.tidewire_accounts_file.write_text(table)
    return own


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[Executor, Health]]:
    """An executor in this process, ready."""
    executor = Executor(settings)
    async with service_running(executor, "executor") as health:
        await until(lambda: health.not_ready is None)
        yield executor, health


def process_environment(settings: Settings, **more: str) -> dict[str, str]:
    """That of an executor as a process."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("TIDEWIRE_")},
        "KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers),
        "DATABASE_URL": connection.url(settings),
        "TIDEWIRE_TOPIC_PREFIX": settings.tidewire_topic_prefix,
        "TIDEWIRE_PARTITIONS": str(settings.tidewire_partitions),
        "TIDEWIRE_HOME": str(settings.tidewire_home),
        "TIDEWIRE_ACCOUNTS_FILE": str(settings.tidewire_accounts_file),
        "TIDEWIRE_TRADING_URL": str(settings.tidewire_trading_url),
        "TIDEWIRE_DATA_URL": str(settings.tidewire_data_url),
        **more,
    }


async def start_process(settings: Settings, *, first: str = "", **more: str) -> asyncio.subprocess.Process:
    """An executor in a process of its own; `first`: a line that it runs before."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"{first}; {_PROGRAM}" if first else _PROGRAM,
        cwd=ROOT,
        env=process_environment(settings, **more),
    )


def exit_intent(symbol: str, *, epoch: int = 0, exit_epoch: int = 0, age: float = 0, **more: Any) -> Record:
    """An exit of a long position, fresh unless `age` (seconds) says otherwise."""
    name = trigger_name(ACCOUNT, symbol, epoch, exit_epoch)
    now = time.time_ns() - int(age * 1e9)
    return {
        "account": ACCOUNT, "ts": now, "intent_id": name, "client_order_id": client_order_id(name, 0),
        "origin": "exit:stop", "symbol": symbol, "side": "sell", "order_type": "market",
        "time_in_force": "day", "quantity": None, "notional": None, "limit_price": None, "stop_price": None,
        "position_epoch": epoch, "attempt": 0, "expires_ts": None, "reason": "test", "trigger_id": name,
        "kind": "exit", "extended_hours": False, "foreign_orders": "cancel", "reference_price": None,
        "run_id": None, "received_ts": now, "source": "ws", "event_id": intent_event_id(ACCOUNT, name),
        **more,
    }  # fmt: skip


def order_intent(name: str, symbol: str, side: str, quantity: str, **more: Any) -> Record:
    """A strategy's order."""
    own: dict[str, Any] = {
        "intent_id": name, "client_order_id": client_order_id(name, 0), "origin": "strategy:test",
        "side": side, "quantity": Decimal(quantity), "position_epoch": None, "trigger_id": None,
        "kind": "order", "event_id": intent_event_id(ACCOUNT, name),
    }  # fmt: skip
    return exit_intent(symbol, **(own | more))


async def send(settings: Settings, *records: Record | bytes) -> None:
    """Intents into the account's partition; bytes go as they are."""
    encode = load_codec(settings).encoder("order_intent")
    producer = AIOKafkaProducer(**client_arguments(settings))
    await producer.start()
    try:
        for record in records:
            value = record if isinstance(record, bytes) else encode(record)
            key = (ACCOUNT if isinstance(record, bytes) else str(record["account"])).encode()
            await producer.send_and_wait(
                settings.tidewire_topic_prefix + ORDER_INTENTS, key=key, value=value,
                partition=partition_of(key, settings.tidewire_partitions or 1),
            )  # fmt: skip
    finally:
        await producer.stop()


async def refused_records(settings: Settings) -> list[str]:
    """Why each dead letter of the intents is one."""
    letters = await held(settings, ORDER_INTENTS + ".dlq")
    return [dict(letter.headers)["reason"].decode() for letter in letters]


async def told(settings: Settings, intent_id: str) -> list[Record]:
    """The results of an intent, a repeated one once."""
    found = [r for r in await decoded(settings, ORDER_RESULTS) if r["intent_id"] == intent_id]
    return list({record["event_id"]: record for record in found}.values())


async def final(settings: Settings, intent_id: str, seconds: float = 60) -> Record:
    """The last result of an intent; fails when there are two."""

    async def ended() -> bool:
        return any(record["final"] for record in await told(settings, intent_id))

    await until_held(ended, seconds)
    finals = [record for record in await told(settings, intent_id) if record["final"]]
    assert len(finals) == 1, finals
    return finals[0]


async def finals(settings: Settings, intent_ids: list[str], seconds: float = 60) -> list[Record]:
    """The last result of each intent; the topic is read for all of them at once."""
    found: dict[str, Record] = {}

    async def ended() -> bool:
        found.update({r["intent_id"]: r for r in await decoded(settings, ORDER_RESULTS) if r["final"]})
        return all(intent_id in found for intent_id in intent_ids)

    await until_held(ended, seconds)
    return [found[intent_id] for intent_id in intent_ids]


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    """Of the ledger."""
    with psycopg.connect(connection.url(settings)) as database:
        return database.execute(query.encode()).fetchall()
