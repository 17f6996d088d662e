"""Exits placed by the portfolio service on a real Kafka: set by the command, released, armed again.

If these fail, a rule that a user has set guards nothing, or goes on guarding what is sold.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from console.cli import run
from schemas import cluster
from schemas.catalogue import ACTIVITIES, EXIT_RULES, EXIT_WATCH, GAPS, ORDER_RESULTS
from schemas.codec import Codec, load_codec
from schemas.exit_rules import parse, rule_key, rule_record
from schemas.order_ids import trigger_name
from tests.integration.gateway_world import filled
from tests.integration.test_portfolio_service import TOPICS, Log, Worker, read_all, worker
from tests.portfolio_history import BASE, SECOND, a_snapshot, an_update
from tidewire.config import Settings
from tidewire.kafka import client_arguments
from tidewire.placing import partition_of

pytestmark = pytest.mark.kafka

PARTITIONS = [0, 1, 2, 3]
ACCOUNTS = """
[accounts.demo-1]
users = ["anna"]
[[accounts.demo-1.exits.us_equity]]
kind = "trailing_stop"
trail_percent = 3
"""


@pytest.fixture
def codec(settings: Settings) -> Codec:
    return load_codec(settings)


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await cluster.apply(settings, only=sorted({*TOPICS, ACTIVITIES}))
    client = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True)
    await client.start()
    yield client
    await client.stop()


@pytest.fixture
def owners(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """accounts.toml, and an environment in which the command and the service find it."""
    path = settings.tidewire_home / "accounts.toml"
    path.write_text(ACCOUNTS)
    monkeypatch.setenv("TIDEWIRE_ACCOUNTS_FILE", str(path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.kafka_bootstrap_servers or "")
    monkeypatch.setenv("TIDEWIRE_TOPIC_PREFIX", settings.tidewire_topic_prefix)
    monkeypatch.setenv("TIDEWIRE_HOME", str(settings.tidewire_home))
    return path


class Place:
    """The log around one portfolio service."""

    def __init__(self, settings: Settings, codec: Codec, producer: AIOKafkaProducer) -> None:
        self.settings, self.codec, self.producer = settings, codec, producer
        self.log = Log(settings, codec, producer)
        self.filled = Decimal(0)

    async def trade(self, side: str, quantity: int, number: int) -> None:
        amount = Decimal(quantity)
        more = {"quantity": amount, "price": Decimal(200), "cumulative_quantity": amount, "side": side}
        await self.log.updates([an_update("fill", f"o{number}", BASE + number * SECOND, **more)])
        await self.log.flush()

    async def send(
        self, topic: str, stem: str, key: str, record: dict[str, Any], partition: int | None = None
    ) -> None:
        name = self.settings.tidewire_topic_prefix + topic
        value = self.codec.encode(stem, filled(stem, record))
        await self.producer.send_and_wait(name, value, key=key.encode(), partition=partition)

    async def result(self, epoch: int, exit_epoch: int, outcome: str, remaining: int) -> None:
        record = {
            "account": "demo-1", "symbol": "AAPL", "position_epoch": epoch, "final": True, "outcome": outcome,
            "trigger_id": trigger_name("demo-1", "AAPL", epoch, exit_epoch), "remaining": Decimal(remaining),
        }  # fmt: skip
        await self.send(ORDER_RESULTS, "order_result", "demo-1", record)

    async def gap(self, state: str, ts: int) -> None:
        record = {"feed": "trading:demo-1", "id": "g", "state": state, "channels": ["orders"], "ts": ts}
        await self.send(GAPS, "gap", "g", record | {"symbols": ["*"], "reason": "disconnect", "opened_ts": 1})

    async def watches(self) -> dict[str, list[dict[str, Any]]]:
        """All records of exits.watch by key, each in the partition of its reference symbol."""
        found: dict[str, list[dict[str, Any]]] = {}
        for record in await read_all(self.settings, EXIT_WATCH, PARTITIONS):
            watch = self.codec.decode(record.value)[1]
            assert record.partition == partition_of(watch["symbol"].encode(), len(PARTITIONS))
            found.setdefault(record.key.decode(), []).append(watch)
        return found

    async def until(self, key: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while True:
            found = (await self.watches()).get(key, [])
            if found and wanted(found[-1]):
                return found[-1]
            assert time.monotonic() < deadline, (key, found[-1:])
            await asyncio.sleep(0.1)


async def tidewire(*arguments: str) -> int:
    return await asyncio.to_thread(run, list(arguments))


async def test_a_rule_set_by_the_command_guards_the_position_until_it_is_closed(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer, owners: Path, capsys: Any
) -> None:
    """Set, armed in the right partition, a refused exit armed again, held in a gap, released when sold; and
    a restart writes nothing again."""
    place = Place(settings, codec, producer)
    await place.log.snapshots([a_snapshot(BASE - SECOND)])
    with worker(settings) as service:
        assert await tidewire("exits", "set", "demo-1", "aapl", "--stop-loss", "5%", "--bracket", "1/2") == 2
        assert await tidewire("exits", "set", "nobody", "AAPL", "--stop-loss", "5%") == 2
        assert "no such account: nobody (there are: demo-1)" in capsys.readouterr().err
        assert await tidewire("exits", "set", "demo-1", "aapl", "--stop-loss", "5%", "--json") == 0
        told = capsys.readouterr()
        assert json.loads(told.out)["set"] == [
            {"rule": "stop_loss", "spec": {"kind": "stop_loss", "percent": "5"}}
        ]
        assert "holds no AAPL now" in told.err
        assert await tidewire("exits", "set", "demo-1", "AAPL", "--take-profit", "250", "--on", "SPY") == 0
        await place.trade("buy", 10, 1)
        stop, target = "AAPL:demo-1:AAPL:stop_loss", "SPY:demo-1:AAPL:take_profit"
        watch = await place.until(stop, lambda w: w["active"])
        assert (watch["stop_price"], watch["quantity"], watch["exit_epoch"]) == (190, 10, 0)
        assert (await place.until(target, lambda w: w["active"]))["limit_price"] == 250
        default = await place.until("AAPL:demo-1:AAPL:trailing_stop", lambda w: w["active"])
        assert default["trail_percent"] == 3

        await place.result(1, 0, "rejected", 10)
        again = await place.until(stop, lambda w: w["exit_epoch"] == 1)
        assert again["result"] == "rejected"
        await place.result(1, 0, "rejected", 10)
        await place.gap("opened", 5)
        await place.until(stop, lambda w: w["held"] == "unreconciled")
        await place.gap("closed", 6)
        await place.until(stop, lambda w: w["held"] is None and w["exit_epoch"] == 1)

        capsys.readouterr()
        assert await tidewire("exits", "remove", "demo-1", "AAPL", "--rule", "trailing_stop") == 0
        await place.until("AAPL:demo-1:AAPL:trailing_stop", lambda w: not w["active"])
        capsys.readouterr()
        assert await tidewire("exits", "list", "demo-1", "--json") == 0
        rows = {(row["symbol"], row["rule"]): row for row in json.loads(capsys.readouterr().out)}
        assert {key: row["state"] for key, row in rows.items()} == {
            ("AAPL", "stop_loss"): "armed",
            ("AAPL", "take_profit"): "armed",
            ("every us_equity", "trailing_stop"): "default",
        }
        await place.trade("sell", 15, 2)
        short = await place.until(stop, lambda w: w["position_epoch"] == 2)
        assert (short["stop_price"], short["quantity"], short["exit_epoch"]) == (210, -5, 0)
        await place.trade("buy", 5, 3)
        await place.until(stop, lambda w: not w["active"])
        await place.until(target, lambda w: not w["active"])
        await place.trade("buy", 7, 4)
        await place.until(stop, lambda w: w["active"] and w["position_epoch"] == 3)
        await caught_up(service, settings)
        assert await tidewire("exits", "check") == 0, capsys.readouterr().err
        await service.stop()
    before = await place.watches()
    with worker(settings) as service:
        await caught_up(service, settings)
        await place.trade("buy", 1, 5)
        await place.until(stop, lambda w: w["quantity"] == 8)
        await service.stop()
    after = await place.watches()
    assert {key: len(found) for key, found in after.items()} == {
        key: len(found) + (key in (stop, target)) for key, found in before.items()
    }, "only what the last trade changed was written"


async def test_a_killed_service_leaves_no_position_unguarded_and_broken_rules_are_dead_letters(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer, owners: Path
) -> None:
    """kill -9 right after the fills; rules of nobody's making are named, not folded."""
    place = Place(settings, codec, producer)
    await place.log.snapshots([a_snapshot(BASE - SECOND)])
    number = partition_of(b"demo-1", len(PARTITIONS))
    rule = rule_record("demo-1", "AAPL", "mine", parse({"kind": "stop_loss", "price": 180}), "cli:x", 5)
    bad = rule | {"spec": '{"kind": "stop_loss"}', "rule": "bad"}
    with worker(settings) as service:
        await service.until(lambda h: True)
        await place.trade("buy", 10, 1)
        for one in (rule, bad):
            key = rule_key("demo-1", "AAPL", one["rule"]).decode()
            await place.send(EXIT_RULES, "exit_rule", key, one, number)
        service.process.kill()
        service.process.wait()
    with worker(settings) as service:
        watch = await place.until("AAPL:demo-1:AAPL:mine", lambda w: w["active"])
        assert (watch["stop_price"], watch["price_basis_ts"]) == (180, 5)
        await caught_up(service, settings)
        await service.stop()
    (letter,) = await read_all(settings, EXIT_RULES + ".dlq", PARTITIONS)
    reasons = [value.decode() for name, value in letter.headers if b"needs price or percent" in value]
    assert reasons


async def caught_up(service: Worker, settings: Settings) -> None:
    names = [settings.tidewire_topic_prefix + topic for topic in (EXIT_RULES, ORDER_RESULTS)]
    await service.until(lambda h: all(h.get("lag", {}).get(name) == 0 for name in names))
