"""The catalogue: a topic described wrongly is created wrongly, and a log once created cannot be reshaped."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import islice
from typing import Any

import fastavro
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import admin, catalogue, cluster, documents, examples
from schemas.catalogue import FOREVER, TOPICS, Catalogue, Topic
from tidewire import config

HOT = [topic for topic in TOPICS if topic.hot]
DESIGN = [
    "alpaca.stocks.trades",
    "alpaca.stocks.quotes",
    "alpaca.stocks.bars",
    "alpaca.stocks.statuses",
    "alpaca.stocks.lulds",
    "alpaca.stocks.corrections",
    "alpaca.stocks.imbalances",
    "alpaca.options.trades",
    "alpaca.options.quotes",
    "alpaca.crypto.trades",
    "alpaca.crypto.quotes",
    "alpaca.crypto.bars",
    "alpaca.crypto.orderbooks",
    "alpaca.news",
    "alpaca.trade-updates",
    "alpaca.account-snapshots",
    "alpaca.gaps",
    "features.stocks",
    "news.sentiment",
    "watchlist.scores",
    "portfolio.orders",
    "portfolio.positions",
    "portfolio.accounts",
    "exits.watch",
    "exits.triggers",
    "orders.intents",
    "orders.results",
    "signals",
    "control.subscriptions",
    # beyond the design's list, see docs/decisions/0018
    "portfolio.marks",
    "control.connections",
    # and 0019
    "alpaca.audits",
    "control.leases",
    "control.requests",
    # and 0037
    "alpaca.activities",
    "alpaca.corporate-actions",
    "exits.rules",
    "exits.events",
]


def test_every_topic_of_the_design_is_there_once() -> None:
    """A topic that is missing here is never created."""
    names = [topic.name for topic in TOPICS]
    only_dead_letters = [topic.name for topic in TOPICS if topic.schema is None]
    assert sorted(set(names) - set(only_dead_letters)) == sorted(DESIGN)
    assert len(set(names)) == len(names)


def test_what_cannot_be_had_again_is_kept_for_ever() -> None:
    """Ticks can be fetched again from Alpaca; order events, intents and gaps cannot."""
    kept = {topic.name for topic in TOPICS if topic.retention_ms == FOREVER and not topic.compacted}
    assert kept >= {
        catalogue.TRADE_UPDATES,
        catalogue.ACCOUNT_SNAPSHOTS,
        catalogue.GAPS,
        catalogue.ORDER_INTENTS,
        catalogue.ORDER_RESULTS,
    }
    assert all(t.retention_ms == 7 * catalogue.DAY_MS for t in HOT)


def test_compacted_topics_are_those_of_the_design() -> None:
    """A compacted log of ticks would keep one tick a symbol."""
    assert {topic.name for topic in TOPICS if topic.compacted} == {
        "watchlist.scores",
        "portfolio.orders",
        "portfolio.positions",
        "portfolio.accounts",
        "exits.rules",
        "exits.watch",
        "control.subscriptions",
        "control.connections",
        "control.leases",
    }


@pytest.mark.parametrize("topic", HOT, ids=lambda topic: topic.name)
def test_polars_reads_a_hot_topic_as_fastavro_does(topic: Topic) -> None:
    """Hot topics are read in columns: a type that Polars reads otherwise would change prices in silence."""
    assert topic.schema is not None
    schema = dict(catalogue.schema(topic.schema))
    wanted = list(islice(examples.records(schema), 200))
    file = io.BytesIO()
    fastavro.writer(file, schema, wanted)
    file.seek(0)
    frame = pl.read_avro(file)
    assert frame.columns == [field["name"] for field in schema["fields"]]
    assert frame.to_dicts() == wanted


@pytest.mark.parametrize("topic", HOT, ids=lambda topic: topic.name)
def test_a_hot_schema_holds_only_plain_columns(topic: Topic) -> None:
    """No maps, no nullable enums, no unions beyond [null, T]: columns.Decoder counts on it."""
    assert topic.schema is not None
    assert [f["name"] for f in catalogue.schema(topic.schema)["fields"] if not _is_plain(f["type"])] == []


def _is_plain(type_: Any) -> bool:
    if isinstance(type_, list):
        return len(type_) == 2 and type_[0] == "null" and isinstance(type_[1], str)
    if isinstance(type_, dict):
        return type_["type"] == "enum" or (type_["type"] == "array" and isinstance(type_["items"], str))
    return type_ in ("string", "long", "int", "double", "boolean", "bytes")


@pytest.mark.parametrize("topic", [t for t in TOPICS if t.schema], ids=lambda topic: topic.name)
def test_every_record_says_when_and_whence(topic: Topic) -> None:
    """Event time, receive time and source are what completeness is shown by."""
    assert topic.schema is not None
    fields = {field["name"]: field for field in catalogue.schema(topic.schema)["fields"]}
    assert {"ts", "received_ts", "source"} <= set(fields)
    assert topic.name == catalogue.STOCK_FEATURES or "event_id" in fields
    assert not topic.name.startswith("alpaca.") or {"owner_epoch", "event_id"} <= set(fields)
    assert all(field.get("doc") for field in fields.values())


def test_money_is_never_a_float() -> None:
    """Orders, fills and positions in float64 would drift by cents."""
    market = ("alpaca.stocks", "alpaca.options", "alpaca.crypto", "features", "news", "watchlist", "signals")
    for topic in TOPICS:
        if topic.schema is not None and not topic.name.startswith((*market, "exits.triggers")):
            assert "double" not in str(catalogue.schema(topic.schema)), topic.name


def test_names_and_counts_of_one_installation() -> None:
    """Two installations on one cluster must not see each other's records."""
    mine = Catalogue("mine.", 4)
    assert mine.name(catalogue.STOCK_TRADES) == "mine.alpaca.stocks.trades"
    found = mine.find("mine.alpaca.stocks.trades")
    assert found is not None
    assert found.name == catalogue.STOCK_TRADES
    assert mine.find("mine.alpaca.stocks.trades.dlq") is found
    assert mine.find("alpaca.stocks.trades") is None
    real = {topic.name: topic for topic in mine.real()}
    assert len(real) == 2 * len(TOPICS) - sum(topic.schema is None for topic in TOPICS)
    assert "mine.alpaca.stocks.frames" not in real
    assert real["mine.alpaca.stocks.frames.dlq"].partitions == 4
    single = real["mine.control.subscriptions"], real["mine.control.subscriptions.dlq"]
    assert [topic.partitions for topic in single] == [1, 1]
    assert {topic.partitions for topic in real.values() if topic.by_symbol} == {4}


# -- what apply would do


def _wanted(prefix: str = "") -> dict[str, admin.Topic]:
    real = Catalogue(prefix, 4).real()
    return {t.name: admin.Topic(t.name, t.partitions, cluster.configs(t, 1)) for t in real}


@given(st.sets(st.sampled_from([topic.name for topic in Catalogue("", 4).real()])))
def test_exactly_what_is_missing_is_created(there: set[str]) -> None:
    """Creating a topic twice, or leaving one out, stops the services at their first record."""
    found = {name: topic for name, topic in _wanted().items() if name in there}
    plan = cluster.plan(Catalogue("", 4).real(), found, 1)
    assert {topic.name for topic in plan.create} == set(_wanted()) - there
    assert (plan.alter, plan.problems) == ({}, ())


def test_only_what_drifted_is_altered() -> None:
    """A retention set by hand is put back; configs that tidewire does not decide are nobody's business."""
    found = _wanted()
    trades = found["alpaca.stocks.trades"]
    configs = {**trades.configs, "retention.ms": "1", "segment.bytes": "77"}
    plan = cluster.plan(Catalogue("", 4).real(), {**found, trades.name: replace(trades, configs=configs)}, 1)
    assert plan == cluster.Plan((), {"alpaca.stocks.trades": {"retention.ms": "604800000"}}, ())


def test_another_partition_count_is_refused_with_the_way_out() -> None:
    """Growing a topic moves symbols to other partitions: the order of their events would be lost."""
    plan = cluster.plan(Catalogue("", 8).real(), _wanted(), 1)
    assert len(plan.problems) == 1
    assert "4 partitions instead of 8" in plan.problems[0]
    assert "TIDEWIRE_PARTITIONS=4" in plan.problems[0]


def test_three_brokers_keep_two_copies_in_step() -> None:
    """With acks=all, min.insync.replicas decides how many copies an acknowledged record really has."""
    trades = next(Catalogue("", 4).real())
    assert [cluster.configs(trades, n)["min.insync.replicas"] for n in (1, 2, 3)] == ["1", "1", "2"]


@pytest.mark.parametrize(
    ("setting", "found", "brokers", "count"),
    [(None, [], 1, 4), (None, [], 3, 24), (None, [12], 3, 12), (6, [12], 3, 6), (None, [4, 4], 1, 4)],
)
def test_partition_counts(setting: int | None, found: list[int], brokers: int, count: int) -> None:
    """What exists wins over a default, and a setting over both (and is then refused where it is wrong)."""
    settings = config.load(_env_file=None, tidewire_partitions=setting)
    assert cluster.partitions(settings, found, brokers) == count


def test_the_topic_pages_are_up_to_date() -> None:
    """Documents that lag behind the schemas mislead whoever writes another consumer."""
    stale = documents.stale(documents.source_folder())
    assert not stale, f"{stale} differ from the catalogue: run `tidewire topics docs` and commit docs/topics"
