"""Every stream from the socket's frames to the report: lost otherwise is what nobody compares.

The frames are handed to the producer's own path, the sink writes them, and the ledger is written here.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgpack
import psycopg
import pytest

from producers.app import Producer
from producers.channel import Encoder, topics
from producers.crypto import CryptoEncoder
from producers.encoder import Encoder as StockEncoder
from producers.entrance import Bars, Window
from producers.intake import Intake
from producers.options import OptionEncoder
from schemas import cluster
from schemas.catalogue import STOCK_FEATURES
from schemas.codec import load_codec
from simulator.app import Simulator, SimulatorOptions
from simulator.opra.listing import listing
from sinks.postgres import connection
from tests.integration.sink_process import TOPICS, count, produce, rows, running, until
from tests.unit.producer_memory import Memory
from tidewire.config import Settings
from tidewire.health import Health
from verify import report

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

T0 = 1_763_740_800_123_456_789


def _at(number: int) -> msgpack.Timestamp:
    return msgpack.Timestamp.from_unix_nano(T0 + number)


def _stocks() -> list[dict[str, Any]]:
    status: dict[str, Any] = {
        "T": "s",
        "S": "AAPL",
        "sc": "H",
        "sm": "Trading Halt",
        "rc": "T12",
        "rm": "Halted",
        "z": "C",
    }
    resumed = {
        "T": "s",
        "S": "AAPL",
        "sc": "T",
        "sm": "Trading",
        "rc": "",
        "rm": "",
        "z": "C",
        "new": {"b": 1.0},
    }
    luld = {"T": "l", "S": "IONM", "u": 3.24, "d": 2.65, "i": "B", "z": "C"}
    imbalance = {"T": "i", "S": "INAQU", "p": 9.12, "z": "C"}
    cancel = {"T": "x", "S": "GOOGL", "i": 465, "x": "D", "p": 105.31, "s": 300, "a": "C", "z": "C"}
    made: list[dict[str, Any]] = [
        status,
        resumed,
        luld,
        luld,
        imbalance,
        imbalance,
        cancel,
        {**status, "sc": 7},
    ]
    return [{**m, "t": _at(1)} for m in made]


def _options() -> list[dict[str, Any]]:
    trade: dict[str, Any] = {
        "T": "t",
        "S": "AAPL240315C00172500",
        "t": _at(1),
        "p": 2.84,
        "s": 1,
        "x": "N",
        "c": "S",
    }
    quote: dict[str, Any] = {
        "T": "q", "S": "SPXW240327P04925000", "bx": "C", "bp": 9.46, "bs": 53, "ax": "C", "ap": 9.66,
        "as": 38, "c": "A",
    }  # fmt: skip
    return [trade, trade, {**trade, "t": _at(2)}, *({**quote, "t": _at(n)} for n in (1, 1, 2))]


def _crypto() -> list[dict[str, Any]]:
    level = {"p": 71856.5, "s": 0.25}
    whole: dict[str, Any] = {
        "b": [level, {"p": 1e-7, "s": 1e16}],
        "a": [{"p": 71857.0, "s": 5e-324}],
        "r": True,
    }
    change: dict[str, Any] = {"b": [{"p": 71856.5, "s": 0}], "a": []}
    return [
        {"T": "o", "S": "BTC/USD", "t": _at(n), **m} for n, m in enumerate((whole, change, change, whole))
    ]


FRAMES = {"stocks": _stocks, "options": _options, "crypto": _crypto}
TABLES = {"statuses": "stock_statuses", "lulds": "stock_lulds", "imbalances": "stock_imbalances"}
DUE = {  # channel: sent, kept, given up
    "statuses": (3, 2, 1), "lulds": (2, 1, 0), "imbalances": (2, 2, 0), "option_trades": (3, 3, 0),
    "option_quotes": (3, 3, 0), "crypto_orderbooks": (4, 4, 0),
}  # fmt: skip


def _encoders(settings: Settings) -> dict[str, Encoder]:
    codec = load_codec(settings)
    return {
        "stocks": StockEncoder(codec, Window(), Bars(), owner_epoch=1),
        "options": OptionEncoder(codec, owner_epoch=1),
        "crypto": CryptoEncoder(codec, owner_epoch=1),
    }


def _ledger(settings: Settings, venue: str, messages: list[dict[str, Any]]) -> None:
    home = settings.tidewire_home / "simulator"
    folder = (home if venue == "stocks" else home / venue) / "ledger"
    folder.mkdir(parents=True)
    body = msgpack.packb(messages)
    (folder / "000001.frames").write_bytes(len(body).to_bytes(4, "big") + body)


async def _publish(settings: Settings) -> None:
    """Through the producer's path into Kafka, dead letters too."""
    encoders, memory = _encoders(settings), Memory()
    made = {t for encoder in encoders.values() for t in topics(encoder)}
    await cluster.apply(settings, sorted({*TOPICS, *made, STOCK_FEATURES}))
    for venue, encoder in encoders.items():
        messages = FRAMES[venue]()
        Intake(venue, encoder, memory, lambda topic: topic).frame(msgpack.packb(messages), T0)
        _ledger(settings, venue, messages)
    for topic, key, value, _ in memory.records:
        await produce(settings, topic, [(key.decode(), value)])
    for letter in memory.letters:
        await produce(settings, letter.topic + ".dlq", [("AAPL", letter.value)])


async def test_every_stream_is_stored_and_compared_and_a_loss_is_named(settings: Settings) -> None:
    """A stream that no report compares could be lost for years without a word."""
    await _publish(settings)
    async with running(settings):
        for channel, (_, kept, _) in DUE.items():
            table = TABLES.get(channel, channel)
            await until(lambda t=table, n=kept: count(settings, t) == n)  # type: ignore[misc]
        await until(lambda: count(settings, "stock_corrections") == 1)
        found = (await asyncio.to_thread(report.build, settings, wait_seconds=2.0)).as_json()
        assert found["complete"], found["problems"]
        for channel, (sent, kept, letters) in DUE.items():
            seen = found["channels"][channel]
            names = ("sent", "topic", "postgres", "dead_lettered", "missing", "extra")
            assert [seen[n] for n in names] == [sent, kept, kept, letters, 0, 0], channel
        assert found["channels"]["lulds"]["duplicates"] == 1
    assert rows(settings, "SELECT kind, original_id, corrected_id FROM stock_corrections") == [
        ("cancel", 465, None)
    ]
    book = rows(settings, "SELECT reset, bid_prices, bid_sizes FROM crypto_orderbooks ORDER BY ts, ts_nanos")
    assert book[0] == (True, [71856.5, 1e-7], [0.25, 1e16])
    assert rows(settings, "SELECT extra FROM stock_statuses WHERE status_code = 'T'") == [
        ('{"new":{"b":1.0}}',)
    ]
    await asyncio.to_thread(_damage, settings)
    found = (await asyncio.to_thread(report.build, settings, wait_seconds=0.0)).as_json()
    assert not found["complete"]
    lost = {name: (c["missing"], c["extra"]) for name, c in found["channels"].items() if c["missing"]}
    assert lost == {"option_quotes": (1, 0), "crypto_orderbooks": (1, 1), "statuses": (1, 0)}


async def test_what_the_simulator_plays_on_every_stream_is_stored_once(settings: Settings) -> None:
    """Three programs written apart must agree on each message, or the demo loses halts and contracts."""
    await cluster.apply(settings)
    named = tuple(listing(("AAPL",), time.time_ns()))[:3]
    wanted = settings.model_copy(
        update={
            "tidewire_symbols": ("AAPL", "MSFT"), "tidewire_crypto_symbols": ("*",),
            "tidewire_option_symbols": ("*", *named),
        }
    )  # fmt: skip
    simulator = Simulator(
        wanted,
        SimulatorOptions(
            rate="max", limit=8_000, halts_per_hour=3_600, corrections_per_hour=3_600, crypto_limit=300,
            crypto_messages_per_second=200, option_limit=300, option_messages_per_second=200, news_limit=1,
        ),
    )  # fmt: skip
    await simulator.start()
    stop = asyncio.Event()
    url = f"ws://127.0.0.1:{simulator.port}"
    producer = Producer(wanted.model_copy(update={"tidewire_stream_url": url}))
    task = asyncio.create_task(producer.run(Health("producer"), stop))
    try:
        async with running(settings):
            await until(lambda: task.done() or _finished(simulator), 60)
            found = (await asyncio.to_thread(report.build, settings, wait_seconds=10.0)).as_json()
    finally:
        stop.set()
        await task
        await simulator.stop()
    for name in (*DUE, "trades", "quotes", "crypto_trades"):
        seen = found["channels"][name]
        assert seen["sent"] > 0 or name in MAY_BE_NONE, name
        assert seen["sent"] == seen["topic"] + seen["duplicates"], (name, seen)
        assert (seen["topic"], seen["missing"], seen["extra"]) == (seen["postgres"], 0, 0), (name, seen)
    asked = {symbol for (symbol,) in rows(settings, "SELECT DISTINCT symbol FROM option_quotes")}
    assert asked == set(named)
    assert count(settings, "stock_corrections") > 0


MAY_BE_NONE = ("imbalances", "lulds")


def _finished(simulator: Simulator) -> bool:
    venues: Any = simulator.details()["venues"]
    return all(venues[name]["state"] == "finished" for name in ("stocks", "options", "crypto"))


def _damage(settings: Settings) -> None:
    """One row gone, one level changed, one channel's event never sent on."""
    with psycopg.connect(connection.url(settings)) as database:
        database.execute("DELETE FROM option_quotes WHERE ts_nanos = 791")
        database.execute("DELETE FROM stock_statuses WHERE status_code = 'T'")
        database.execute("UPDATE crypto_orderbooks SET bid_sizes[1] = 0.26 WHERE ts_nanos = 789")
