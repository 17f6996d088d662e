"""The log folded anew, beside a real processor's table: if these fail, a rebuild or a check tells users lies.

The records are of all kinds: late ones, broken ones, those of a stale owner, events that came again.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from console import cli
from processors.columns.matrix import FENCES
from processors.columns.ownership import MARK
from replay import comparison, stocks
from replay.fold import fold
from replay.log import Span, read, spans
from schemas import cluster
from schemas.catalogue import STOCK_QUOTES, STOCK_TRADES, Catalogue
from schemas.codec import Codec, load_codec
from tests.integration.processor_process import NEEDED, PARTITIONS, Feeder, worker
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

SYMBOLS = [f"SYM{i}" for i in range(9)]
BASE = 1_381_150_800_000_000_000
COUNT = 3_000


def a_record(number: int, chance: random.Random) -> dict[str, Any]:
    stale = chance.random() < 0.01 and number > 500
    return {
        "symbol": chance.choice(SYMBOLS),
        "ts": BASE + number * 1000 - chance.choice([0, 0, 0, 5_000, 90_000_000_000_000]),
        "conditions": ["@"],
        "tape": "C",
        "extra": None,
        "received_ts": BASE + number,
        "source": "ws",
        "owner_epoch": 1 if number < 500 or stale else 2,
        "event_id": number.to_bytes(8, "big"),
    }


def a_trade(number: int, chance: random.Random) -> dict[str, Any]:
    price = chance.randint(100_000, 2_000_000) / 10_000
    more = {"id": number, "exchange": "V", "price": price, "size": chance.randint(1, 5_000)}
    return a_record(number, chance) | more


def a_quote(number: int, chance: random.Random) -> dict[str, Any]:
    bid = chance.randint(100_000, 2_000_000) / 10_000
    sizes = {"bid_exchange": "V", "bid_size": 1, "ask_exchange": "V", "ask_size": 2}
    return a_record(number, chance) | sizes | {"bid_price": bid, "ask_price": bid + 0.01}


def encoded(codec: Codec, stem: str, records: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    """With a broken value now and then."""
    values = [(r["symbol"], codec.encode(stem, r)) for r in records]
    return [(s, v[:-9]) if n % 701 == 700 else (s, v) for n, (s, v) in enumerate(values)]


async def fill(settings: Settings, codec: Codec, numbers: range = range(COUNT)) -> None:
    chance = random.Random(numbers.start)
    producer = AIOKafkaProducer(**client_arguments(settings), max_batch_size=1 << 20)
    await producer.start()
    try:
        feeder = Feeder(settings, producer)
        trades = [a_trade(n, chance) for n in numbers]
        await feeder.send(STOCK_TRADES, encoded(codec, "stock_trade", trades), 150)
        quotes = [a_quote(n, chance) for n in numbers]
        await feeder.send(STOCK_QUOTES, encoded(codec, "stock_quote", quotes), 37)
    finally:
        await producer.stop()


async def changelog(settings: Settings) -> dict[int, dict[bytes, bytes]]:
    """The newest rows of each partition, read without anything of the project's own."""
    name = f"{settings.tidewire_topic_prefix}tidewire-processor-features-changelog"
    client = AIOKafkaConsumer(**client_arguments(settings), auto_offset_reset="earliest")
    await client.start()
    try:
        lanes = [TopicPartition(name, p) for p in PARTITIONS]
        client.assign(lanes)
        ends = await client.end_offsets(lanes)
        rows: dict[int, dict[bytes, bytes]] = {}
        while any([await client.position(lane) < ends[lane] for lane in lanes]):
            for lane, found in (await client.getmany(timeout_ms=500)).items():
                rows.setdefault(lane.partition, {}).update((r.key, r.value) for r in found if r.key != MARK)
        return rows
    finally:
        await client.stop()


def caught_up(health: dict[str, Any]) -> bool:
    lag = {topic: n for topic, n in health.get("lag", {}).items() if ".stocks." in topic}
    return health.get("status") == "healthy" and len(lag) == 2 and not any(lag.values())


async def folded(settings: Settings) -> None:
    """A processor's run over all there is, ended politely."""
    with worker(settings) as running:
        await running.until(caught_up)
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.process.wait, 30) == 0


@pytest.fixture
def codec(settings: Settings) -> Codec:
    return load_codec(settings)


@pytest.fixture
def installation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A process environment that leads the command to this test's topics."""
    assert settings.kafka_bootstrap_servers is not None
    monkeypatch.chdir(settings.tidewire_home)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.kafka_bootstrap_servers)
    monkeypatch.setenv("TIDEWIRE_TOPIC_PREFIX", settings.tidewire_topic_prefix)
    monkeypatch.setenv("TIDEWIRE_HOME", str(settings.tidewire_home))
    return settings


async def test_a_fold_of_the_log_is_the_processors_table_to_the_byte(
    settings: Settings, codec: Codec
) -> None:
    """Rebuilds and backtests start from this: what the processor holds, the log gives again."""
    catalogue = Catalogue(settings.tidewire_topic_prefix, 4)
    await cluster.apply(settings, only=NEEDED)
    await fill(settings, codec)
    await folded(settings)
    components = stocks.components(catalogue, codec)
    wanted = await spans(settings, components)
    for piece in (100, 100_000):
        table = await fold(read(settings, wanted, piece), components, stocks.WIDTH)
        assert table.changed() == await changelog(settings)
        assert table.read == 2 * COUNT == table.applied + table.refused_count + table.stale
        assert table.refused_count == len(table.refused) == 2 * (COUNT // 701)
        assert table.stale > 10
        assert all("does not decode" in letter.reason for _, _, letter in table.refused)


async def test_a_fold_ends_where_it_is_told_to_amid_a_record_batch(settings: Settings, codec: Codec) -> None:
    """--until 14:30 must not tell of 14:31 because Kafka keeps both in one batch."""
    catalogue = Catalogue(settings.tidewire_topic_prefix, 4)
    await cluster.apply(settings, only=NEEDED)
    await fill(settings, codec, range(600))
    components = stocks.components(catalogue, codec)
    whole = await spans(settings, components)
    half = {at: Span(span.begin, span.end // 2) for at, span in whole.items()}
    table = await fold(read(settings, half), components, stocks.WIDTH)
    assert table.read == sum(span.end for span in half.values()) > 0
    rest = {at: Span(half[at].end, span.end) for at, span in whole.items()}
    async for piece in read(settings, rest):
        table.add(components[piece.at.topic], piece)
    again = await fold(read(settings, whole), components, stocks.WIDTH)
    assert table.changed() == again.changed()


async def test_a_table_is_checked_while_the_processor_goes_on(settings: Settings, codec: Codec) -> None:
    """Nobody stops a pipeline for a check: a table that is only behind, or ahead, must not look wrong."""
    catalogue = Catalogue(settings.tidewire_topic_prefix, 4)
    await cluster.apply(settings, only=NEEDED)
    await fill(settings, codec)
    with worker(settings) as running:
        await running.until(lambda health: health.get("status") == "healthy" and health["keys"] > 0)
        feeding = asyncio.create_task(fill(settings, codec, range(COUNT, 3 * COUNT)))
        while not feeding.done():
            found = await comparison.compare(settings, catalogue, codec)
            assert found.same, (found.differing, found.missing)
        await feeding
        await running.until(caught_up)
    found = await comparison.compare(settings, catalogue, codec)
    assert found.same
    assert found.equal == len(SYMBOLS)


def test_the_check_names_the_symbol_that_is_wrong(
    installation: Settings, codec: Codec, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row that was damaged, and records that were committed but never folded: both must be found."""

    async def prepare() -> None:
        await cluster.apply(installation, only=NEEDED)
        await fill(installation, codec)
        await folded(installation)

    asyncio.run(prepare())
    assert cli.run(["replay", "check"]) == 0
    assert "9 symbols are equal to the byte" in capsys.readouterr().out
    rows = asyncio.run(changelog(installation))
    partition, symbol = next((p, k) for p, part in rows.items() for k in part if not k.startswith(FENCES))
    words = bytearray(rows[partition][symbol])
    words[8 * 5] ^= 1  # the volume
    asyncio.run(write_row(installation, partition, symbol, bytes(words)))
    assert cli.run(["replay", "check"]) == 1
    out = capsys.readouterr().out
    assert f"{symbol.decode()}: differs in volume" in out
    assert "1 symbols differ: 8 symbols are equal" in out
    asyncio.run(write_row(installation, partition, symbol, None))
    assert cli.run(["replay", "check", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["missing"].keys() == {symbol.decode()}
    other = next(name for name in SYMBOLS if name != symbol.decode())
    assert cli.run(["replay", "check", other.lower()]) == 0


async def write_row(settings: Settings, partition: int, key: bytes, value: bytes | None) -> None:
    name = f"{settings.tidewire_topic_prefix}tidewire-processor-features-changelog"
    producer = AIOKafkaProducer(**client_arguments(settings))
    await producer.start()
    try:
        await producer.send_and_wait(name, key=key, value=value, partition=partition)
    finally:
        await producer.stop()


def test_features_are_shown_for_people_and_for_programs(
    installation: Settings, codec: Codec, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first thing that a user does with a log; wrong names end with an explanation, not a traceback."""

    async def prepare() -> None:
        await cluster.apply(installation, only=NEEDED)
        await fill(installation, codec, range(900))

    asyncio.run(prepare())
    assert cli.run(["replay", "features", "sym1", "SYM2"]) == 0
    out, told = capsys.readouterr()
    assert "SYM1" in out
    assert "SYM3" not in out
    assert "1,800 records read" in told
    assert "refused" in told
    assert cli.run(["replay", "features", "--topic", "stocks.trades", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["symbol"] for record in found] == SYMBOLS
    assert all(record["bid"] is None and record["trades_folded"] > 0 for record in found)
    assert cli.run(["replay", "features", "--until", "1h", "--json"]) == 0
    assert capsys.readouterr().out == ""
    assert cli.run(["replay", "features", "--topic", "alpaca.news"]) == 2
    assert cli.run(["replay", "check"]) == 6
