"""The commands as a user types them, against a real cluster."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from console import cli
from schemas import catalogue, cluster
from schemas.codec import load_codec
from tidewire import config, dead_letters
from tidewire.config import Settings
from tidewire.dead_letters import DeadLetter
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

CODEC = load_codec(config.load(_env_file=None))
_ROOT = str(Path(__file__).parents[2])
TRADE: dict[str, Any] = {
    "symbol": "AAPL",
    "ts": 1_614_009_104_208_000_001,
    "id": 1,
    "exchange": "D",
    "price": 126.55,
    "size": 100,
    "conditions": ["@"],
    "tape": "C",
    "extra": None,
    "received_ts": 1_614_009_104_209_000_000,
    "source": "ws",
    "owner_epoch": 0,
    "event_id": b"12345678",
}


@pytest.fixture
def installation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A process environment that leads the command to this test's topics."""
    assert settings.kafka_bootstrap_servers is not None
    monkeypatch.chdir(settings.tidewire_home)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.kafka_bootstrap_servers)
    monkeypatch.setenv("TIDEWIRE_TOPIC_PREFIX", settings.tidewire_topic_prefix)
    monkeypatch.setenv("TIDEWIRE_HOME", str(settings.tidewire_home))
    monkeypatch.setenv("TIDEWIRE_PARTITIONS", "4")
    return settings


def _send(
    settings: Settings, values: list[tuple[str, bytes]], letters: list[DeadLetter] | None = None
) -> None:
    async def send() -> None:
        await cluster.apply(settings, [catalogue.STOCK_TRADES, catalogue.STOCK_FRAMES])
        async with AIOKafkaProducer(**client_arguments(settings)) as producer:
            for key, value in values:
                topic = settings.tidewire_topic_prefix + catalogue.STOCK_TRADES
                await producer.send_and_wait(topic, value, key=key.encode())
            await dead_letters.publish(producer, letters or [])

    asyncio.run(send())


def _trade(symbol: str, id: int) -> bytes:
    return CODEC.encode("stock_trade", {**TRADE, "symbol": symbol, "id": id})


def test_records_are_shown_decoded(installation: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    """What is on the topic, in words, corrupt records among the others."""
    _send(installation, [("AAPL", _trade("AAPL", 1)), ("AAPL", b"\x00\x00\x00\x00\x07junk"), ("AAPL", b"")])
    assert cli.run(["tail", "stocks.trades", "--from-start", "--limit", "3"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith(
        "2021-02-22 15:51:44.208000001Z  AAPL    id=1 exchange=D price=126.55 size=100"
    )
    assert "unknown schema id 7" in lines[1]
    assert "only 0 bytes" in lines[2]


def test_one_symbol_as_json(installation: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    """For programs: one object a line, and only the key that was asked for."""
    _send(installation, [(s, _trade(s, n)) for n, s in enumerate(["AAPL", "IBM", "AAPL", "IBM"])])
    assert cli.run(["tail", "stocks.trades", "--from-start", "--key", "IBM", "--limit", "2", "--json"]) == 0
    found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(record["symbol"], record["id"]) for record in found] == [("IBM", 1), ("IBM", 3)]
    assert found[0]["kafka"]["key"] == "IBM"


def test_dead_letters_are_shown_with_their_reason(
    installation: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    """The way to find out what was given up, and why."""
    topic = installation.tidewire_topic_prefix + catalogue.STOCK_FRAMES
    letter = DeadLetter(topic, -1, -1, None, b"\x92\xa1", "producer", "ValueError", "truncated msgpack")
    _send(installation, [], [letter])
    assert cli.run(["tail", "stocks.frames.dlq", "--from-start", "--limit", "1"]) == 0
    shown = capfd.readouterr().out
    assert "stage=producer error=ValueError reason=truncated msgpack" in shown
    assert "92a1" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tail", "alpaca.stock.trades"], 2, "did you mean alpaca.stocks.trades"),
        (["tail", "trades"], 2, "which one?"),
        (["tail", "signals"], 6, "does not exist in this cluster; `tidewire topics apply` creates it"),
        (["topics", "check"], 6, "missing: "),
    ],
)
def test_mistakes_are_one_readable_message(
    installation: Settings, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    """A misspelt topic must not wait for ever, nor end in a traceback."""
    assert cli.run(arguments) == code
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_an_unreachable_cluster_is_named(
    installation: Settings, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The most common mistake of all."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    for arguments in (["tail", "signals"], ["topics", "apply"], ["topics", "check"]):
        assert cli.run(arguments) == 4
        assert "Kafka does not answer at 127.0.0.1:9" in capfd.readouterr().err


def test_topics_apply_check_and_list(installation: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    """The three commands of an operator, in their order."""
    assert cli.run(["topics", "apply"]) == 0
    assert f"created {installation.tidewire_topic_prefix}alpaca.stocks.trades (4 partitions)" in (
        capfd.readouterr().out
    )
    assert cli.run(["topics", "check"]) == 0
    assert "match the catalogue" in capfd.readouterr().out
    assert cli.run(["topics", "list", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert len(rows) == len(catalogue.TOPICS)
    assert rows[0]["name"] == installation.tidewire_topic_prefix + catalogue.STOCK_TRADES
    assert rows[0]["schema_id"] == 0x40000000
    assert cli.run(["topics", "list"]) == 0
    assert "alpaca.trade-updates" in capfd.readouterr().out


def test_it_follows_new_records_and_ctrl_c_ends_it(installation: Settings) -> None:
    """Without --from-start only what comes from now on is shown; Ctrl-C leaves no traceback."""
    _send(installation, [("AAPL", _trade("AAPL", 1))])
    command = [sys.executable, "-c", "from console.cli import main; main()", "tail", "stocks.trades"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": _ROOT}
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            number, shown = 2, b""
            deadline = time.monotonic() + 60
            while not shown and time.monotonic() < deadline:
                _send(installation, [("AAPL", _trade("AAPL", number))])
                number += 1
                if select.select([process.stdout], [], [], 0.2)[0]:
                    shown = process.stdout.readline()
            assert b" AAPL " in shown
            assert b" id=1 " not in shown
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == cli.EXIT_INTERRUPTED
            assert process.stderr.read() == b""
        finally:
            process.kill()


def test_a_reader_that_has_seen_enough_is_no_error(installation: Settings) -> None:
    """`tidewire tail ... | head` must end quietly."""
    _send(installation, [("AAPL", _trade("AAPL", n)) for n in range(50)])
    command = [sys.executable, "-c", "from console.cli import main; main()"]
    with subprocess.Popen(
        [*command, "tail", "stocks.trades", "--from-start"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": _ROOT},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert b"AAPL" in process.stdout.readline()
            process.stdout.close()
            _send(installation, [("AAPL", _trade("AAPL", n)) for n in range(50)])
            assert process.wait(30) == 0
            assert process.stderr.read() == b""
        finally:
            process.kill()
