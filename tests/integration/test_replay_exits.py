"""Exits folded anew beside what the service made of them: if these fail, a backtest or a check tells lies.

Invariant 5: two replays of one log give byte-identical triggers; every live trigger, evaluated again from the
inputs that it names, gives itself.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from console import cli
from replay import exit_run, recheck
from replay.exit_run import Request
from schemas.catalogue import EXIT_TRIGGERS, ORDER_INTENTS, STOCK_QUOTES, Catalogue
from schemas.codec import Codec, load_codec
from tests.integration.exits_world import outcome
from tests.integration.processor_process import read_all
from tests.integration.replay_world import a_market, publishing, rules, served, wandering
from tests.integration.topic_content import decoded
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


@pytest.fixture
def codec(settings: Settings) -> Codec:
    return load_codec(settings)


@pytest.fixture
def catalogue(settings: Settings) -> Catalogue:
    return Catalogue(settings.tidewire_topic_prefix, 4)


@pytest.fixture
def installation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A process environment that leads the command to this test's topics."""
    assert settings.kafka_bootstrap_servers is not None
    monkeypatch.chdir(settings.tidewire_home)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.kafka_bootstrap_servers)
    monkeypatch.setenv("TIDEWIRE_TOPIC_PREFIX", settings.tidewire_topic_prefix)
    monkeypatch.setenv("TIDEWIRE_HOME", str(settings.tidewire_home))
    return settings


async def test_invariant_5_replays_are_byte_identical_and_find_what_the_service_found(
    settings: Settings, codec: Codec, catalogue: Catalogue
) -> None:
    """A backtest that gives another answer each time is worth nothing, nor one that the market denies."""
    async with a_market(settings, codec) as market:
        await served(settings, market, wandering(1_800))
    live = {t["trigger_id"]: t for t in (await outcome(settings, codec)).triggers if t["state"] == "sent"}
    assert len(live) == 6
    runs = [
        await exit_run.replay(settings, catalogue, codec, Request(), piece_bytes=size)
        for size in (1, 20_000, 1 << 20)
    ]
    first = runs[0]
    assert first.encoded(codec) == runs[1].encoded(codec) == runs[2].encoded(codec)
    assert first.run_id == runs[1].run_id == runs[2].run_id
    assert first.counts == runs[2].counts
    assert first.counts["read"] == sum(n for name, n in first.counts.items() if name != "read")
    assert {t["trigger_id"] for t in first.triggers} == live.keys()
    assert not first.missing
    for trigger in first.triggers:
        assert first.as_live(trigger) == "same"
        assert {**trigger, "state": "sent"} == live[trigger["trigger_id"]]
    checked = await recheck.check(settings, catalogue, codec)
    assert (checked.same, checked.triggers, checked.told) == (True, 6, 12)
    assert checked.inputs >= 6


def test_the_command_checks_finds_and_names_what_is_wrong(
    installation: Settings, codec: Codec, capsys: pytest.CaptureFixture[str]
) -> None:
    """What users run: after an upgrade, after a bad day, or to see what a rule would have done."""
    asyncio.run(_filled(installation, codec))
    assert cli.run(["replay", "exits", "--check"]) == 0
    assert "every trigger gives itself: 6 evaluated again" in capsys.readouterr().out
    assert cli.run(["replay", "exits", "--json", "--into", "replay.today"]) == 0
    out, told = capsys.readouterr()
    found = json.loads(out)
    assert [t["service"] for t in found["triggers"]] == ["same"] * 6
    assert "6 intents of run" in told
    assert not asyncio.run(read_all(installation, ORDER_INTENTS))
    own = asyncio.run(decoded(installation, "replay.today"))
    assert {(intent["run_id"], intent["source"]) for intent in own} == {(found["run_id"], "replay")}
    _one_symbol(capsys)
    _what_if(capsys)
    asyncio.run(_spoil(installation, codec))
    assert cli.run(["replay", "exits", "--check", "--json"]) == 1
    checked = json.loads(capsys.readouterr().out)
    assert checked["triggers"] == 9
    wrong = {name: lines[0] for name, lines in checked["differing"].items()}
    assert "holds" in wrong["demo-1:SYM1:7:0"]
    assert "beyond the end" in wrong["demo-1:SYM2:7:0"]
    assert len(wrong) == 2
    assert checked["gone"] == {"no such topic": 1}
    assert cli.run(["replay", "exits", "--check", "--symbol", "SYM0"]) == 0
    _retention(installation, capsys)


def _retention(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Prices are kept for a week, triggers for ever: what is gone is named, and no failure."""
    asyncio.run(_delete_quotes(settings))
    capsys.readouterr()
    assert cli.run(["replay", "exits", "--check", "--symbol", "SYM0"]) == 0
    out = capsys.readouterr().out
    assert "prices of 2 triggers cannot be looked up: out of retention" in out
    assert "every trigger gives itself: 2 evaluated again, 0 prices" in out
    assert cli.run(["replay", "exits", "--symbol", "SYM0"]) == 0
    out, told = capsys.readouterr()
    assert out == "no trigger\n"
    assert "fired on prices that are not replayed" in told


async def _delete_quotes(settings: Settings) -> None:
    topic = settings.tidewire_topic_prefix + STOCK_QUOTES
    admin = AIOKafkaAdminClient(**client_arguments(settings))
    await admin.start()
    try:
        places = [TopicPartition(topic, partition) for partition in range(4)]
        await admin.delete_records({at: RecordsToDelete(before_offset=-1) for at in places})
    finally:
        await admin.close()


async def _filled(settings: Settings, codec: Codec) -> None:
    """With the triggers as the service writes them; the test before this one says that they are the same."""
    async with a_market(settings, codec) as market:
        await market.watches(*rules())
        await market.quotes(wandering(1_800))
        catalogue = Catalogue(settings.tidewire_topic_prefix, 4)
        found = await exit_run.replay(settings, catalogue, codec, Request())
        for trigger in found.triggers:
            for state in ("pending", "sent"):
                value = codec.encode("exit_trigger", trigger | {"state": state})
                key = f"{trigger['account']}:{trigger['symbol']}".encode()
                await market.raw(EXIT_TRIGGERS, key, value, trigger["reference_symbol"])


def _one_symbol(capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer symbols or another window change nothing for those that are asked for."""
    assert cli.run(["replay", "exits", "--symbol", "sym0"]) == 0
    out, told = capsys.readouterr()
    assert "demo-1:SYM0:1:0" in out
    assert "other:SYM0:1:0" in out
    assert "SYM1" not in out
    assert "did not" not in told
    assert cli.run(["replay", "exits", "--until", "1h"]) == 0
    assert "no trigger" in capsys.readouterr().out
    assert cli.run(["replay", "exits", "--from", "stocks.quotes:77:0"]) == 2
    assert cli.run(["replay", "exits", *_from_offset(300)]) == 0
    assert "fired on prices that are not replayed" in capsys.readouterr().err


def _from_offset(offset: int) -> list[str]:
    return [part for p in range(4) for part in ("--from", f"stocks.quotes:{p}:{offset}")]


def _what_if(capsys: pytest.CaptureFixture[str]) -> None:
    """The same trail, as one would try it out, fires at the same tick."""
    rule = ["--rule", '{"kind": "trailing_stop", "trail_percent": "0.4"}', "--entry", "100"]
    assert cli.run(["replay", "exits", *rule, "--symbol", "SYM1", "--quantity", "100", "--json"]) == 0
    made_up = json.loads(capsys.readouterr().out)["triggers"]
    assert cli.run(["replay", "exits", "--symbol", "SYM1", "--json"]) == 0
    real = json.loads(capsys.readouterr().out)["triggers"]
    assert [t["inputs"] for t in made_up] == [t["inputs"] for t in real]
    assert [t["account"] for t in made_up] == ["what-if"]
    short = ["--rule", '{"kind": "take_profit", "percent": "0.5"}', "--entry", "100", "--quantity", "-7"]
    assert cli.run(["replay", "exits", *short, "--symbol", "SYM1"]) == 0
    out = capsys.readouterr().out
    assert "what-if:SYM1:0:0" in out
    assert "3.5" in out  # seven sold at 100, bought back at 99.50
    never = ["--rule", '{"kind": "stop_loss", "price": "1"}', "--entry", "100", "--quantity", "1"]
    assert cli.run(["replay", "exits", *never, "--symbol", "SYM1"]) == 0
    assert "it would not have fired; its last turn: armed" in capsys.readouterr().out
    assert cli.run(["replay", "exits", *never]) == 2
    assert cli.run(["replay", "exits", "--entry", "5"]) == 2


async def _spoil(settings: Settings, codec: Codec) -> None:
    """Triggers with another price than the log's, with one that is yet to come, and with one that is gone."""
    async with publishing(settings, codec) as market:
        triggers = {t["trigger_id"]: t for t in await decoded(settings, EXIT_TRIGGERS)}
        changes: list[tuple[str, dict[str, Any]]] = [
            ("SYM1", {"value": 1.5}),
            ("SYM2", {"offset": 10**9}),
            ("SYM3", {"topic": "gone.stocks.quotes"}),
        ]
        for symbol, change in changes:
            spoilt = _changed(triggers[f"demo-1:{symbol}:1:0"], change)
            value = codec.encode("exit_trigger", spoilt)
            await market.raw(EXIT_TRIGGERS, f"demo-1:{symbol}".encode(), value, symbol)


def _changed(trigger: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Sound in itself: id, watch and evidence say the same, and only its price is not what the log has."""
    watch, evidence = json.loads(trigger["watch"]), json.loads(trigger["evidence"])
    watch["position_epoch"] = 7
    inputs = [{**one, **change} for one in trigger["inputs"]]
    quote = evidence["facts"]["quote"]
    quote[0] = change.get("value", quote[0])
    quote[-1] = [inputs[0]["topic"], inputs[0]["partition"], inputs[0]["offset"]]
    return {
        **trigger,
        "trigger_id": trigger["trigger_id"].replace(":1:0", ":7:0"),
        "position_epoch": 7,
        "inputs": inputs,
        "watch": json.dumps(watch),
        "evidence": json.dumps(evidence),
    }
