"""If these fail, the report reads Kafka, PostgreSQL or the ledger wrongly and its verdict means nothing.

The pipeline is not run: topics, rows and ledger are written here, whole, and then damaged in one place.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgpack
import pytest

from console import cli
from schemas.catalogue import (
    STOCK_TRADES,
)
from schemas.event_id import audit_id
from schemas.gaps import CLOSED, DISCONNECT, Gap, opened
from tests.integration.verify_world import T0, World, bar, message, quote, trade
from tidewire.config import Settings
from tidewire.dead_letters import DeadLetter
from tidewire.errors import UnreachableError
from verify import report

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


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
