"""What a user or a sender does wrong ends in a readable message or a dead letter, never in silence."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.e2e import demo_process, small_ticks
from tests.e2e.demo_process import MARKET_ONLY, Ended, environment, post_json, run, start, until
from tidewire.config import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(400)]

NOWHERE = "127.0.0.1:9"
SERVICES = ("producer", "processor", "sink")


# -- mistakes of the user ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "--tick", "x"], ["--tick"]),
        (["demo", "--rate", "fast", "--ticks", "."], ["fast", "max", "real"]),
        (["demo", "--ticks", "no/such/folder"], ["no/such/folder"]),
        (["verfy"], ["verfy"]),
        (["verify", "--limit", "none"], ["--limit"]),
        (["up", "--feed", "nyse"], ["nyse", "iex"]),
    ],
)
def test_an_unknown_option_or_value_is_named(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    run(arguments, environment(TIDEWIRE_HOME=str(tmp_path)), tmp_path, 60).assert_one_message(2, *words)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TIDEWIRE_FEED", "nyse", ["TIDEWIRE_FEED", "nyse"]),
        ("TIDEWIRE_FED", "iex", ["TIDEWIRE_FED", "did you mean TIDEWIRE_FEED"]),
        ("TIDEWIRE_PARTITIONS", "0", ["TIDEWIRE_PARTITIONS"]),
        ("TIDEWIRE_TOPIC_PREFIX", "no spaces", ["TIDEWIRE_TOPIC_PREFIX", "no spaces"]),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL", ["KAFKA_SASL_USERNAME"]),
    ],
)
def test_a_wrong_environment_value_is_named(name: str, value: str, words: list[str], tmp_path: Path) -> None:
    env = environment(TIDEWIRE_HOME=str(tmp_path)) | {name: value}
    run(["verify"], env, tmp_path, 60).assert_one_message(2, *words)


def test_missing_keys_are_told_with_what_to_do(tmp_path: Path) -> None:
    env = environment(TIDEWIRE_HOME=str(tmp_path))
    run(["up"], env, tmp_path, 60).assert_one_message(2, "APCA_API_KEY_ID", "tidewire demo")


def test_unreachable_servers_at_the_start_are_named(settings: Settings, tmp_path: Path) -> None:
    """Every service at once: each waits a while for a server that is only slow, then names it."""
    keys = {"APCA_API_KEY_ID": "demo-key", "APCA_API_SECRET_KEY": "demo-secret"}
    no_kafka = environment(settings, **keys, KAFKA_BOOTSTRAP_SERVERS=NOWHERE)
    no_database = environment(settings, DATABASE_URL=f"postgresql://someone:hidden@{NOWHERE}/x")
    started = [start(["service", name], no_kafka, tmp_path) for name in SERVICES]
    started.append(start(["service", "sink"], no_database, tmp_path))
    started.append(start(["verify"], no_database, tmp_path))
    started.append(start(["verify"], no_kafka, tmp_path))
    ended = [Ended(process, 150) for process in started]
    for done in [*ended[:3], ended[5]]:
        done.assert_one_message(4, "Kafka", NOWHERE)
    for done in ended[3:5]:
        done.assert_one_message(4, "PostgreSQL", "127.0.0.1")
        assert "hidden" not in done.err, "a password must not be shown"


def test_wrong_keys_are_refused_for_good_with_402(settings: Settings, tmp_path: Path) -> None:
    """Trying again cannot help, so the producer ends with Alpaca's code instead of hammering the door."""
    small_ticks.write(tmp_path / "ticks")
    with _simulator(settings, tmp_path) as url:
        env = environment(
            settings,
            APCA_API_KEY_ID="somebody",
            APCA_API_SECRET_KEY="hidden-word",
            TIDEWIRE_STREAM_URL=url.replace("http:", "ws:"),
            TIDEWIRE_DATA_URL=url,
        )
        run(["topics", "apply"], env, tmp_path, 120)
        done = run(["service", "producer"], env, tmp_path, 90)
    done.assert_one_message(5, "402")
    assert "hidden-word" not in done.err


@contextmanager
def _simulator(settings: Settings, tmp_path: Path) -> Iterator[str]:
    from tidewire.supervision.child import free_port

    port = free_port()
    process = start(
        ["service", "simulator", "--ticks", str(tmp_path / "ticks"), "--port", str(port)],
        environment(settings),
        tmp_path,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: demo_process.get_json(f"{url}/sim/status"), "answer from the simulator")
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=30)


# -- mistakes of the sender ----------------------------------------------------------------------------------

AT = "2024-07-24T14:30:{:02d}.{:09d}Z"


def trade(n: int, **changed: Any) -> dict[str, Any]:
    return {
        "T": "t", "S": "AAPL", "i": n, "x": "V", "p": 218.5 + n / 100, "s": 100, "c": ["@"], "z": "C",
        "t": AT.format(n // 10 % 60, n), **changed,
    }  # fmt: skip


def test_strange_messages_in_json_lines_are_kept_and_named(settings: Settings, tmp_path: Path) -> None:
    """An unknown type, a text for a price, a line that is no JSON: dead letters, and the rest goes on."""
    lines = [json.dumps(trade(n)) for n in range(1, 41)]
    lines[10:10] = [
        json.dumps({"T": "zz", "S": "AAPL", "t": AT.format(1, 5), "v": [1]}),
        json.dumps(trade(900, p="dear")),
        "{no json",
        json.dumps(trade(5)),
    ]
    with gzip.open(tmp_path / "messages.jsonl.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    arguments = [
        "demo",
        "--ticks",
        str(tmp_path / "messages.jsonl.gz"),
        "--rate",
        "max",
        *MARKET_ONLY,
        "--json",
    ]
    done = run(arguments, environment(settings), tmp_path)
    body = done.json
    assert (done.code, body["complete"]) == (0, True), body
    counts = body["channels"]["trades"]
    assert (counts["sent"], counts["topic"], counts["postgres"]) == (42, 40, 40)
    assert (counts["duplicates"], counts["dead_lettered"], counts["missing"]) == (1, 1, 0)
    reasons = [letter["reason"] for letter in body["dead_letters"]]
    assert any("zz" in reason for reason in reasons), reasons
    assert any("dear" in reason for reason in reasons), reasons
    assert any("messages.jsonl.gz:13" in reason for reason in reasons), reasons
    assert len(reasons) == 3


@contextmanager
def _slow_demo(settings: Settings, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo of 3,000 trades in about 15 s, once its market moves."""
    rows = [f"{34_200_000 + n},{138_000 + n},100,P,0,0" for n in range(3_000)]
    folder = tmp_path / "ticks"
    folder.mkdir()
    (folder / "bac_20131007_trade_tick.csv").write_text("\n".join([small_ticks.TRADES, *rows]) + "\n")
    arguments = ["demo", "--ticks", str(folder), "--rate", "200", *MARKET_ONLY, "--json"]
    process = start(arguments, environment(settings), tmp_path)
    try:
        yield process, until(lambda: _moving(settings, process), "market", 120)
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)


def _moving(settings: Settings, process: subprocess.Popen[str]) -> str | None:
    assert process.poll() is None, process.communicate()
    status = _status(settings)
    return status["url"] if status and status["published"]["trades"] > 100 else None


def _status(settings: Settings) -> dict[str, Any] | None:
    try:
        run_file = json.loads((settings.tidewire_home / "run" / "services.json").read_text("utf-8"))
        address = str(run_file["simulator"]["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found = demo_process.get_json(address)
    return found and {**found, "url": address.removesuffix("/sim/status")}


def test_a_truncated_frame_costs_itself_only_and_is_named(settings: Settings, tmp_path: Path) -> None:
    """Whole messages before the cut are published, the bytes after them are kept, the rest is named."""
    with _slow_demo(settings, tmp_path) as (process, url):
        assert post_json(f"{url}/sim/faults", {"kind": "truncate", "frames": 2}) < 300
        done = Ended(process, 150)
    body = done.json
    counts = body["channels"]["trades"]
    assert body["other_dead_letters"] >= 1, body
    assert (done.code, body["complete"]) == (1, False)
    assert 0 < counts["missing"] == counts["sent"] - counts["topic"] == counts["sent"] - counts["postgres"]
    assert counts["extra"] == 0
    assert len(body["missing_events"]) == counts["missing"]
    assert {m["where"] for m in body["missing_events"]} == {"topic"}


def test_a_record_with_an_unknown_schema_id_is_kept_by_table_and_sink(
    settings: Settings, tmp_path: Path
) -> None:
    """Somebody else writes nonsense into our topic, in the middle of everything: the rest goes on."""
    with _slow_demo(settings, tmp_path) as (process, _):
        producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 4})
        topic = f"{settings.tidewire_topic_prefix}alpaca.stocks.trades"
        producer.produce(topic, b"\0\x00\x00\x30\x39" + b"\x06BACnonsense", key=b"BAC")
        producer.produce(topic, b"not even a header", key=b"BAC")
        assert producer.flush(20) == 0
        done = Ended(process, 150)
    body = done.json
    counts = body["channels"]["trades"]
    assert (done.code, body["complete"]) == (0, True), body
    assert (counts["sent"], counts["topic"], counts["table"], counts["postgres"]) == (
        3_000,
        3_002,
        3_000,
        3_000,
    )
    assert counts["dead_lettered"] == 2
    stages = sorted(letter["stage"] for letter in body["dead_letters"])
    assert stages == ["processor", "processor", "sink", "sink"]
    assert any("12345" in letter["reason"] for letter in body["dead_letters"])
