"""If these fail, the report reads Kafka, PostgreSQL or the ledger wrongly and its verdict means nothing.

The pipeline is not run: topics, rows and ledger are written here, whole, and then damaged in one place.
"""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass, field
from typing import Any

import msgpack
import psycopg
import pytest
from aiokafka import AIOKafkaProducer
from rich.console import Console

from console import cli
from schemas import cluster
from schemas.catalogue import (
    AUDITS,
    GAPS,
    SIMULATOR_TICKS,
    STOCK_BARS,
    STOCK_FEATURES,
    STOCK_QUOTES,
    STOCK_TRADES,
)
from schemas.codec import load_codec
from schemas.event_id import audit_id, bar_id, quote_id, trade_id
from schemas.gaps import CLOSED, DISCONNECT, Gap, opened
from sinks.postgres import migrate
from tidewire.config import Settings
from tidewire.dead_letters import DeadLetter, publish
from tidewire.errors import UnreachableError
from tidewire.kafka import client_arguments
from verify import report, screen

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

T0 = 1_381_152_600_000_000_123
TAIL = {"source": "ws", "owner_epoch": 0, "extra": None}


def trade(n: int, symbol: str = "BAC") -> dict[str, Any]:
    ts, price = T0 + n * 1_000_003, (1395 + n) / 100
    return {
        "symbol": symbol, "ts": ts, "id": n, "exchange": "P", "price": price, "size": 100 * n,
        "conditions": ["@", "F"], "tape": "A", "received_ts": ts + n * 1_000_000_000,
        "event_id": trade_id(symbol, "P", n, ts), **TAIL,
    }  # fmt: skip


def quote(n: int, ordinal: int = 0, symbol: str = "IBM") -> dict[str, Any]:
    ts = T0 + n * 1_000_003
    return {
        "symbol": symbol, "ts": ts, "bid_exchange": "", "bid_price": 0.0, "bid_size": 0, "ask_exchange": "Q",
        "ask_price": 183.63, "ask_size": n, "conditions": [], "tape": "A", "received_ts": ts,
        "event_id": quote_id(symbol, ts, "", 0.0, 0, "Q", 183.63, n, [], "A", ordinal), **TAIL,
    }  # fmt: skip


def bar(n: int, symbol: str = "BAC") -> dict[str, Any]:
    ts = T0 // 60_000_000_000 * 60_000_000_000 + n * 60_000_000_000
    return {
        "symbol": symbol, "ts": ts, "interval": "minute", "revision": 0, "open": 1.0, "high": 2.0, "low": 0.5,
        "close": 1.5, "volume": 100, "trade_count": 1, "vwap": 1.25, "received_ts": ts,
        "event_id": bar_id(symbol, "minute", ts, 0), **TAIL,
    }  # fmt: skip


_WIRE = {
    "trades": {"S": "symbol", "i": "id", "x": "exchange", "p": "price", "s": "size",
        "c": "conditions", "z": "tape"},
    "quotes": {
        "S": "symbol", "bx": "bid_exchange", "bp": "bid_price", "bs": "bid_size", "ax": "ask_exchange",
        "ap": "ask_price", "as": "ask_size", "c": "conditions", "z": "tape",
    },
    "bars": {
        "S": "symbol", "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "n": "trade_count",
        "vw": "vwap",
    },
}  # fmt: skip
_TOPICS = {"trades": STOCK_TRADES, "quotes": STOCK_QUOTES, "bars": STOCK_BARS}
_STEMS = {"trades": "stock_trade", "quotes": "stock_quote", "bars": "stock_bar"}


def message(channel: str, record: dict[str, Any]) -> dict[str, Any]:
    at = msgpack.Timestamp(*divmod(record["ts"], 10**9))
    return {"T": channel[0], **{k: record[name] for k, name in _WIRE[channel].items()}, "t": at}


@dataclass
class World:
    """What the test put where; `write` makes it so."""

    settings: Settings
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    places: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    raw: list[bytes] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    folded: dict[str, int] = field(default_factory=dict)
    sent_more: list[dict[str, Any]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    audits: list[dict[str, Any]] = field(default_factory=list)

    def name(self, topic: str) -> str:
        return self.settings.tidewire_topic_prefix + topic

    def write(self) -> None:
        asyncio.run(self._kafka())
        self._rows()
        self._ledger()

    async def _kafka(self) -> None:
        topics = [*_TOPICS.values(), STOCK_FEATURES, SIMULATOR_TICKS, GAPS, AUDITS]
        await cluster.apply(self.settings, topics)
        codec = load_codec(self.settings)
        producer = AIOKafkaProducer(**client_arguments(self.settings))
        await producer.start()
        try:
            for channel, records in self.records.items():
                for record in records:
                    value, key = codec.encode(_STEMS[channel], record), record["symbol"].encode()
                    sent = await producer.send_and_wait(self.name(_TOPICS[channel]), value, key=key)
                    self.places[record["event_id"]] = (sent.partition, sent.offset)
            for gap in self.gaps:
                value = codec.encode("gap", gap.record())
                await producer.send_and_wait(self.name(GAPS), value, key=gap.key)
            for audit in self.audits:
                await producer.send_and_wait(self.name(AUDITS), codec.encode("audit", audit), key=b"k")
            for value in self.raw:
                await producer.send_and_wait(self.name(STOCK_TRADES), value, key=b"BAC", partition=0)
            await publish(producer, self.letters)
            for symbol, counts in self._features().items():
                value = codec.encode("stock_features", counts)
                await producer.send_and_wait(self.name(STOCK_FEATURES), value, key=symbol.encode())
        finally:
            await producer.stop()

    async def append(self, channel: str, record: dict[str, Any]) -> None:
        """One more record at the end of its topic, and nowhere else."""
        producer = AIOKafkaProducer(**client_arguments(self.settings))
        await producer.start()
        try:
            value = load_codec(self.settings).encode(_STEMS[channel], record)
            await producer.send_and_wait(self.name(_TOPICS[channel]), value, key=record["symbol"].encode())
        finally:
            await producer.stop()

    def _features(self) -> dict[str, dict[str, Any]]:
        names = "last last_ts bid ask quote_ts mid spread vwap high low"
        blank = dict.fromkeys(names.split())
        return {
            "BAC": {
                **blank, "symbol": "BAC", "ts": T0, "session": 20131007, "volume": 0, "trade_count": 0,
                "staleness_ns": None, "trades_folded": self.folded["trades"],
                "quotes_folded": self.folded["quotes"], "received_ts": T0, "source": "ws",
            }
        }  # fmt: skip

    def _rows(self) -> None:
        assert self.settings.database_url is not None
        migrate.apply(self.settings.database_url.get_secret_value())
        with psycopg.connect(self.settings.database_url.get_secret_value()) as connection:
            for channel, records in self.records.items():
                connection.execute(f"CREATE TABLE {channel}_all PARTITION OF {channel} DEFAULT")
                for record in records:
                    self._row(connection, channel, record)

    def _row(self, connection: psycopg.Connection[Any], channel: str, record: dict[str, Any]) -> None:
        renamed = {"trades": {"id": "trade_id"}, "bars": {"interval": "bar_interval"}, "quotes": {}}[channel]
        row = {renamed.get(k, k): v for k, v in record.items() if k not in ("owner_epoch", "ts")}
        row["ts_nanos"] = record["ts"] % 1000
        row["k_part"], row["k_offset"] = self.places[record["event_id"]]
        micros = record["ts"] // 1000
        connection.execute(
            f"INSERT INTO {channel} (ts, {', '.join(row)}) VALUES "
            f"(timestamptz 'epoch' + %s * interval '1 microsecond', {', '.join(['%s'] * len(row))})",
            (micros, *row.values()),
        )

    def _ledger(self) -> None:
        folder = self.settings.tidewire_home / "simulator" / "ledger"
        folder.mkdir(parents=True)
        messages = [message(c, r) for c, records in self.records.items() for r in records] + self.sent_more
        with (folder / "000001.frames").open("wb") as file:
            for start in range(0, len(messages), 3):
                body = msgpack.packb(messages[start : start + 3])
                file.write(len(body).to_bytes(4, "big") + body)
            file.write(b"\0\0\1\0half an en")
        (folder / "ledger.json").write_text('{"complete_from": 0}')

    def sql(self, statement: str) -> None:
        assert self.settings.database_url is not None
        with psycopg.connect(self.settings.database_url.get_secret_value()) as connection:
            connection.execute(statement)

    def report(self, **more: Any) -> dict[str, Any]:
        found = report.build(self.settings, **({"wait_seconds": 0.0} | more))
        shown = io.StringIO()
        Console(file=shown, width=200).print(screen.render(found))
        assert ("NOT complete" in shown.getvalue()) != found.complete
        body: dict[str, Any] = json.loads(found.text())
        return body


@pytest.fixture
def world(settings: Settings) -> World:
    records = {
        "trades": [trade(n) for n in range(1, 8)] + [trade(1, "IBM")],
        "quotes": [quote(1), quote(1, 1), quote(2)],
        "bars": [bar(0), bar(1)],
    }
    return World(settings, records, folded={"trades": 8, "quotes": 3})


def test_a_whole_run_is_complete(world: World) -> None:
    world.write()
    body = world.report()
    assert body["complete"], body
    assert body["source"] == "ledger"
    assert body["channels"]["trades"] == {
        "sent": 8, "topic": 8, "table": 8, "postgres": 8, "duplicates": 0, "filtered": 0, "late": 0,
        "repaired": 0, "dead_lettered": 0, "expired": 0, "unrecoverable": 0, "missing": 0, "extra": 0,
    }  # fmt: skip
    assert body["coverage"]["trades"] == {"audited": 0, "received": 2, "gap": 0, "unrecoverable": 0}
    assert body["gaps"] == {"open": 0, "closed": 0, "unrecoverable": 0, "published": 0}
    assert body["channels"]["quotes"]["postgres"] == 3
    assert body["channels"]["bars"]["table"] is None
    assert body["first_missing"] is None
    assert body["messages_per_second"] > 0


def test_a_deleted_row_is_named_with_its_content(world: World) -> None:
    world.write()
    world.sql("DELETE FROM trades WHERE symbol = 'BAC' AND trade_id = 3")
    body = world.report()
    assert not body["complete"]
    assert body["channels"]["trades"]["missing"] == 1
    assert body["first_missing"]["where"] == "postgres"
    assert body["first_missing"]["time"] == "2013-10-07T13:30:00.003000132Z"
    event = body["first_missing"]["event"]
    assert (event["symbol"], event["id"], event["price"], event["conditions"]) == (
        "BAC",
        3,
        13.98,
        ["@", "F"],
    )


def test_a_price_that_drifted_by_one_bit_is_found(world: World) -> None:
    world.write()
    world.sql("UPDATE trades SET price = 13.980000000000002 WHERE symbol = 'BAC' AND trade_id = 3")
    counts = world.report()["channels"]["trades"]
    assert (counts["missing"], counts["extra"]) == (1, 1)


def test_a_nanosecond_that_drifted_is_found(world: World) -> None:
    world.write()
    world.sql("UPDATE quotes SET ts_nanos = ts_nanos + 1 WHERE ask_size = 2")
    counts = world.report()["channels"]["quotes"]
    assert (counts["missing"], counts["extra"]) == (1, 1)


def test_an_event_that_never_reached_the_topic_is_named(world: World) -> None:
    """What a killed producer misses: sent, and nowhere after."""
    world.sent_more = [message("quotes", quote(9))]
    world.write()
    body = world.report()
    assert body["channels"]["quotes"]["missing"] == 1
    assert body["first_missing"]["where"] == "topic"
    assert body["first_missing"]["event"]["ask_size"] == 9


def gap(channel: str, symbol: str, **changes: Any) -> Gap:
    (made,) = opened("stocks:iex", channel, [symbol], DISCONNECT, T0, 5, until_ts=T0 + 60_000_000_000)
    return made.at(6, **changes)


def audit(symbols: list[str], differing: list[str], minute: int) -> dict[str, Any]:
    return {
        "feed": "stocks:iex", "channel": "trades", "ts": minute, "symbols": symbols, "differing": differing,
        "expected": 7, "held": 7, "sampled": False, "audited_ts": 9, "detail": None, "received_ts": 9,
        "source": "rest", "owner_epoch": 1, "event_id": audit_id("stocks:iex", "trades", minute, 9),
    }  # fmt: skip


def test_what_alpaca_cannot_give_back_is_named_and_not_missing(world: World) -> None:
    """Only within the gap that says so: of its channel, its symbol and its time."""
    world.sent_more = [message("quotes", quote(9))]
    world.gaps = [gap("quotes", "IBM", state=CLOSED, unrecoverable=("quotes",), detail="no history")]
    world.write()
    body = world.report()
    assert body["complete"], body
    counts = body["channels"]["quotes"]
    assert (counts["missing"], counts["unrecoverable"]) == (0, 1)
    assert body["unrecoverable_events"][0]["event"]["ask_size"] == 9
    assert body["gaps"]["unrecoverable"] == 1


@pytest.mark.parametrize(("channel", "symbol"), [("trades", "IBM"), ("quotes", "BAC")])
def test_a_gap_of_another_channel_or_symbol_excuses_nothing(world: World, channel: str, symbol: str) -> None:
    world.sent_more = [message("quotes", quote(9))]
    world.gaps = [gap(channel, symbol, state=CLOSED, unrecoverable=(channel,))]
    world.write()
    assert world.report()["channels"]["quotes"]["missing"] == 1


def test_a_gap_that_was_fetched_excuses_nothing(world: World) -> None:
    """The backfiller said that it has everything, and the ledger knows better."""
    world.sent_more = [message("quotes", quote(9))]
    world.gaps = [gap("quotes", "IBM", state=CLOSED)]
    world.write()
    assert world.report()["channels"]["quotes"]["missing"] == 1


def test_a_gap_that_is_being_fetched_makes_the_report_incomplete(world: World) -> None:
    world.gaps = [gap("quotes", "IBM")]
    world.write()
    body = world.report()
    assert not body["complete"]
    assert any("being fetched" in problem for problem in body["problems"])
    assert body["coverage"]["quotes"]["gap"] == 2


def test_audits_make_minutes_audited_and_differences_that_stay_are_lost(world: World) -> None:
    minute = T0 - T0 % 60_000_000_000
    world.audits = [audit(["BAC", "IBM"], [], minute)]
    world.write()
    assert world.report()["coverage"]["trades"] == {
        "audited": 2, "received": 0, "gap": 0, "unrecoverable": 0,
    }  # fmt: skip


def test_gaps_lists_them_and_agrees_with_the_report(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two verbs that answer "is anything missing" must not contradict each other."""
    minute = T0 - T0 % 60_000_000_000
    world.gaps = [gap("quotes", "IBM"), gap("trades", "BAC", state=CLOSED, found=3, published=1)]
    world.audits = [audit(["BAC"], [], minute)]
    world.write()
    assert world.settings.database_url is not None
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": world.settings.kafka_bootstrap_servers,
        "DATABASE_URL": world.settings.database_url.get_secret_value(),
        "TIDEWIRE_TOPIC_PREFIX": world.settings.tidewire_topic_prefix,
        "TIDEWIRE_HOME": str(world.settings.tidewire_home),
    }.items():
        monkeypatch.setenv(name, str(value))
    assert cli.run(["gaps", "--json", "--minutes"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert {(g["channel"], g["state"], g["published"]) for g in body["gaps"]} == {
        ("quotes", "waits", 0), ("trades", "closed", 1)
    }  # fmt: skip
    assert {name: found["minutes"] for name, found in body["coverage"].items()} == world.report()["coverage"]
    assert {"symbol": "BAC", "word": "audited", "from_ts": minute, "until_ts": minute + 60_000_000_000} in (
        body["coverage"]["trades"]["intervals"]
    )
    assert cli.run(["gaps", "--open", "--symbol", "ibm", "--feed", "stocks"]) == 0
    text = capsys.readouterr().out
    assert "IBM" in text
    assert "BAC" not in text


def test_records_of_a_replaced_owner_are_filtered_and_those_from_rest_are_counted(world: World) -> None:
    """The sink leaves them out as well: to count them as missing or extra would be a false alarm."""
    stale = trade(50) | {"owner_epoch": 1}
    trades = world.records["trades"]
    world.records["trades"] = [t | {"owner_epoch": 2} for t in trades[:7]] + [trades[7] | {"source": "rest"}]
    world.write()
    asyncio.run(world.append("trades", stale))
    body = world.report()
    assert body["complete"], body
    counts = body["channels"]["trades"]
    assert (counts["topic"], counts["filtered"], counts["repaired"]) == (8, 1, 1)


def test_records_and_lines_in_dead_letters_are_accounted_for(world: World) -> None:
    """A corrupt record, a broken message, a broken input line, each with a letter: complete."""
    broken = message("trades", trade(9)) | {"p": "no price"}
    world.sent_more = [broken]
    world.raw = [b"\0\0\0\0\x01nonsense"]
    topic = world.name(STOCK_TRADES)
    twice = [
        DeadLetter(topic, 0, 0, b"BAC", world.raw[0], stage, "RecordError", "unknown schema id")
        for stage in ("processor", "processor", "sink")
    ]
    line = DeadLetter(
        world.name("simulator.ticks"), -1, -1, None, b"x,y", "simulator", "Line", "a.csv:7: no price"
    )
    at_entrance = DeadLetter(
        topic, -1, -1, b"BAC", bytes(msgpack.packb(broken)), "producer", "RecordError", "p"
    )
    world.letters = [*twice, line, at_entrance]
    # The corrupt record stands first in partition 0 only if nothing else is there.
    world.records["trades"] = []
    world.folded["trades"] = 0
    world.write()
    body = world.report()
    assert body["complete"], body
    counts = body["channels"]["trades"]
    assert (counts["sent"], counts["topic"], counts["dead_lettered"], counts["missing"]) == (1, 1, 2, 0)
    assert body["other_dead_letters"] == 1
    assert any("a.csv:7" in letter["reason"] for letter in body["dead_letters"])


def test_an_unreadable_record_that_nobody_accounts_for_is_a_problem(world: World) -> None:
    world.raw = [b"\0\0\0\0\x01nonsense"]
    world.folded["trades"] = 9
    world.write()
    body = world.report()
    assert not body["complete"]
    assert any("cannot be read" in problem for problem in body["problems"])


def test_letters_still_in_the_sinks_outbox_count(world: World) -> None:
    """The row is given up in the transaction that passes it; Kafka gets the letter a moment later."""
    world.write()
    partition, offset = world.places[trade(3)["event_id"]]
    world.sql("DELETE FROM trades WHERE symbol = 'BAC' AND trade_id = 3")
    world.sql(
        "INSERT INTO dead_letters"
        " (sink_group, topic, part, k_offset, cluster_topic_id, kafka_ms, stage, error, reason) VALUES"
        f" ('g', '{world.name(STOCK_TRADES)}', {partition}, {offset}, 'x', 0, 'sink', 'E', 'why')"
    )
    body = world.report()
    assert body["complete"], body
    assert body["channels"]["trades"]["dead_lettered"] == 1


def test_a_table_that_is_behind_is_a_problem(world: World) -> None:
    world.folded["quotes"] = 2
    world.write()
    body = world.report()
    assert not body["complete"]
    assert body["channels"]["quotes"]["table"] == 2


def test_without_a_ledger_it_says_that_nobody_knows_what_was_sent(world: World) -> None:
    world.write()
    run = world.settings.tidewire_home / "run"
    run.mkdir()
    (run / "services.json").write_text('{"services": {}, "simulator": null}')
    body = world.report()
    assert body["complete"]
    assert body["source"] == "alpaca"
    assert body["channels"]["trades"]["sent"] is None
    assert "Nobody knows" in body["notes"][0]


def test_nothing_anywhere_is_complete_and_no_crash(settings: Settings) -> None:
    body = World(settings).report()
    assert body["complete"]
    assert body["channels"]["trades"]["postgres"] == 0


def test_an_unreachable_server_is_one_message(settings: Settings) -> None:
    from pydantic import SecretStr

    lost = settings.model_copy(update={"database_url": SecretStr("postgresql://nobody@127.0.0.1:1/x")})
    with pytest.raises(UnreachableError, match="PostgreSQL does not answer"):
        report.build(lost)
    lost = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1"):
        report.build(lost)
