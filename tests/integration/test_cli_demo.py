"""`tidewire demo --ticks` as a user runs it: a process, real servers, an exit code and one JSON document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

_TRADES = "ms_since_midnight_ny,price_x10000,size,exchange,sale_condition_hex,suspicious\n"
_QUOTES = "ms_since_midnight_ny,bid_x10000,bid_size,ask_x10000,ask_size,exchange,quote_condition,suspicious\n"


@pytest.fixture
def environment(kafka_bootstrap: str, database_url: str, topic_prefix: str, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "DATABASE_URL": database_url,
        "TIDEWIRE_TOPIC_PREFIX": topic_prefix,
        "TIDEWIRE_PARTITIONS": "2",
        "TIDEWIRE_HOME": str(tmp_path / "home"),
    }


def _demo(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "console.cli", "demo", *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _ticks(folder: Path) -> None:
    folder.mkdir()
    trades = [f"{34_200_000 + n * 10},{1_850_000 + n},100,N,0,0\n" for n in range(300)]
    trades.insert(7, "34200065,not a price,100,N,0,0\n")
    (folder / "ibm_20131007_trade_tick.csv").write_text(_TRADES + "".join(trades))
    quotes = [
        row
        for n in range(200)
        for row in (
            f"{34_200_000 + n * 15},{1_849_900 + n},3,0,0,N,1,0\n",
            f"{34_200_000 + n * 15},0,0,{1_850_100 + n},5,P,1,0\n",
        )
    ]
    (folder / "ibm_20131007_quote_tick.csv").write_text(_QUOTES + "".join(quotes))
    (folder / "notes.txt").write_text("no ticks")


async def _dead_letters(environment: dict[str, str]) -> list[Any]:
    topic = environment["TIDEWIRE_TOPIC_PREFIX"] + "simulator.ticks.dlq"
    consumer = AIOKafkaConsumer(bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"])
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, p) for p in range(int(environment["TIDEWIRE_PARTITIONS"]))]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[Any] = []
        while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
            for batch in (await consumer.getmany(timeout_ms=1_000)).values():
                found += batch
    finally:
        await consumer.stop()
    return found


@pytest.mark.timeout(600)
async def test_recorded_ticks_go_through_and_are_reported_complete(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """The promise of the whole project in one command; a broken line costs only itself, and is kept; and what
    the run has stored is not deleted by a second one without being asked."""
    _ticks(tmp_path / "ticks")
    done = _demo(environment, tmp_path, "--ticks", "ticks", "--rate", "max", "--accounts", "0", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["complete"] is True
    assert report["channels"]["trades"]["sent"] == report["channels"]["trades"]["postgres"] == 300
    assert report["channels"]["quotes"]["sent"] == report["channels"]["quotes"]["topic"] == 200
    assert report["messages_per_second"] > 0
    assert any("notes.txt" in text for text in report["skipped_files"])
    (rejected,) = report["rejected_lines"]
    assert "ibm_20131007_trade_tick.csv:9" in rejected
    (letter,) = await _dead_letters(environment)
    assert letter.value == b"34200065,not a price,100,N,0,0"
    assert dict(letter.headers)["reason"].decode() == rejected
    assert json.loads((tmp_path / "home" / "run" / "services.json").read_text())["services"] == {}

    again = _demo(environment, tmp_path, "--ticks", "ticks", "--rate", "max", "--json")
    assert again.returncode == 2
    assert again.stdout == ""
    assert "--fresh" in again.stderr
    with psycopg.connect(environment["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM trades").fetchone() == (300,)


@pytest.mark.timeout(600)
def test_a_synthetic_market_with_disasters_is_reported_complete(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """What people are shown: sockets are cut, what was missed is found again before the report, and options
    are part of it."""
    arguments = ("--duration", "15", "--disaster", "cut@4,trading@6", "--json")
    done = _demo(environment, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["still_open"] == []
    assert report["gaps"]["closed"] > 0
    assert report["channels"]["option_trades"]["sent"] == report["channels"]["option_trades"]["postgres"] > 0
    trades = report["channels"]["trades"]
    assert trades["sent"] == trades["topic"] == trades["postgres"] > 0


def test_a_disaster_that_is_none_is_refused_at_once(environment: dict[str, str], tmp_path: Path) -> None:
    """A mistake in a script must not show after the servers have started."""
    done = _demo(environment, tmp_path, "--disaster", "flood@3")
    assert done.returncode == 2
    assert "flood@3" in done.stderr
    assert "Traceback" not in done.stderr


def test_unreachable_servers_are_named(environment: dict[str, str], tmp_path: Path) -> None:
    """A wrong address must end in a sentence within seconds, not in a screen that waits."""
    _ticks(tmp_path / "ticks")
    environment["KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    done = _demo(environment, tmp_path, "--ticks", "ticks", "--rate", "max", "--json")
    assert done.returncode == 4
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
