"""Topics in a real cluster: created wrongly, a log loses records after a week or mixes up symbols."""

from __future__ import annotations

import asyncio
from importlib import import_module
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas import admin, catalogue, cluster, examples, lock
from schemas.catalogue import Catalogue
from schemas.codec import Codec, Version, load_codec
from tidewire.config import Settings
from tidewire.errors import SchemaError, UnreachableError
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]

SOME = (catalogue.STOCK_TRADES, catalogue.TRADE_UPDATES, catalogue.SUBSCRIPTIONS, catalogue.EXIT_WATCH)


async def _configs(settings: Settings, *keys: str) -> dict[str, dict[str, str]]:
    prefix = settings.tidewire_topic_prefix
    async with admin.connect(settings) as found:
        names = [name for name in await found.names() if name.startswith(prefix)]
        configs = await found.configs(names, keys)
    return {name.removeprefix(prefix): values for name, values in configs.items()}


async def _send(settings: Settings, topic: str, value: bytes | None, key: bytes = b"A") -> None:
    async with AIOKafkaProducer(**client_arguments(settings)) as producer:
        await producer.send_and_wait(settings.tidewire_topic_prefix + topic, value, key=key)


async def test_apply_makes_the_cluster_match_and_says_what_it_did(settings: Settings) -> None:
    """The whole catalogue with its dead letters; a second time there is nothing to do."""
    problems = await cluster.check(settings)
    assert len(problems) == 1
    assert "alpaca.stocks.trades" in problems[0]
    done = await cluster.apply(settings)
    wanted = {t.name: t.partitions for t in Catalogue(settings.tidewire_topic_prefix, 4).real()}
    assert done == [f"created {name} ({count} partitions)" for name, count in wanted.items()]
    async with admin.connect(settings) as found:
        there = await found.topics(wanted)
    assert {name: topic.partitions for name, topic in there.items()} == wanted
    assert all(topic.ready for topic in there.values())
    assert await cluster.apply(settings) == []
    assert await cluster.check(settings) == []


async def test_topics_are_kept_as_the_catalogue_says(settings: Settings) -> None:
    """Seven days for ticks, for ever for order events, the newest a key for tables."""
    await cluster.apply(settings, SOME)
    found = await _configs(
        settings, "cleanup.policy", "retention.ms", "message.timestamp.type", "max.message.bytes"
    )
    assert set(found) == {name + suffix for name in SOME for suffix in ("", ".dlq")}
    kept = {name: (values["cleanup.policy"], values["retention.ms"]) for name, values in found.items()}
    assert kept["alpaca.stocks.trades"] == ("delete", str(7 * 86_400_000))
    assert kept["alpaca.stocks.trades.dlq"] == ("delete", str(30 * 86_400_000))
    assert kept["alpaca.trade-updates"] == kept["alpaca.trade-updates.dlq"] == ("delete", "-1")
    assert kept["exits.watch"] == ("compact", "-1")
    assert {values["message.timestamp.type"] for values in found.values()} == {"CreateTime"}
    assert found["alpaca.stocks.trades.dlq"]["max.message.bytes"] == str(16 << 20)


async def test_a_setting_changed_by_hand_is_put_back_and_others_are_left(settings: Settings) -> None:
    """A shortened retention would drop ticks; an operator's own segment size is none of our business."""
    await cluster.apply(settings, [catalogue.STOCK_TRADES])
    trades = settings.tidewire_topic_prefix + catalogue.STOCK_TRADES
    async with admin.connect(settings) as found:
        await found.alter({trades: {"retention.ms": "1000000", "segment.bytes": "7340032"}})
    assert await cluster.check(settings, [catalogue.STOCK_TRADES]) == [
        f"{trades}: retention.ms is not 604800000; `tidewire topics apply` sets it"
    ]
    done = await cluster.apply(settings, [catalogue.STOCK_TRADES])
    assert done == [f"changed {trades}: retention.ms=604800000"]
    configs = (await _configs(settings, "retention.ms", "segment.bytes"))["alpaca.stocks.trades"]
    assert configs == {"retention.ms": "604800000", "segment.bytes": "7340032"}


async def test_a_wrong_partition_count_changes_nothing(settings: Settings) -> None:
    """One topic of another count: the same symbol would be read by two different workers."""
    quotes = settings.tidewire_topic_prefix + catalogue.STOCK_QUOTES
    client = AIOKafkaAdminClient(**client_arguments(settings))
    await client.start()
    await client.create_topics([NewTopic(quotes, 3, 1)])
    while len((await client.describe_topics([quotes]))[0]["partitions"]) < 3:  # the broker learns of it later
        await asyncio.sleep(0.05)
    await client.close()
    wanted = [catalogue.STOCK_TRADES, catalogue.STOCK_QUOTES]
    with pytest.raises(SchemaError, match=r"quotes: 3 partitions instead of 4.*TIDEWIRE_PARTITIONS=3"):
        await cluster.apply(settings, wanted)
    assert set(await _configs(settings, "retention.ms")) == {catalogue.STOCK_QUOTES}
    assert any("3 partitions instead of 4" in problem for problem in await cluster.check(settings, wanted))


async def test_without_a_setting_the_count_that_is_there_is_kept(settings: Settings) -> None:
    """A topic added by an upgrade must be partitioned like those that hold data already."""
    await cluster.apply(settings.model_copy(update={"tidewire_partitions": 3}), [catalogue.STOCK_TRADES])
    unset = settings.model_copy(update={"tidewire_partitions": None})
    await cluster.apply(unset, [catalogue.STOCK_TRADES, catalogue.STOCK_QUOTES])
    async with admin.connect(settings) as found:
        quotes = settings.tidewire_topic_prefix + catalogue.STOCK_QUOTES
        assert (await found.topics([quotes]))[quotes].partitions == 3


async def test_two_may_apply_at_once(settings: Settings) -> None:
    """Several services starting together must not fail on each other."""
    await asyncio.gather(*(cluster.apply(settings, SOME) for _ in range(3)))
    assert await cluster.check(settings, SOME) == []


@pytest.mark.parametrize("local", [True, False])
async def test_a_log_with_ids_of_the_other_kind_is_refused(
    settings: Settings, local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Switching SCHEMA_REGISTRY_URL on a log that holds records would make half of it unreadable."""
    trade = catalogue.schema("stock_trade")
    own = Codec([Version(1, "stock_trade", trade)]) if local else load_codec(settings)
    await cluster.apply(settings, [catalogue.STOCK_TRADES])
    await _send(settings, catalogue.STOCK_TRADES, own.encode("stock_trade", next(examples.records(trade))))
    if not local:
        registry = Codec([Version(1, "stock_trade", trade)])
        monkeypatch.setattr(cluster, "load_codec", lambda _: registry)
    reason = "of a registry, but SCHEMA_REGISTRY_URL is not set" if local else "is set"
    with pytest.raises(SchemaError, match=reason):
        await cluster.apply(settings, [catalogue.STOCK_TRADES])
    assert any(reason in problem for problem in await cluster.check(settings, [catalogue.STOCK_TRADES]))


async def test_records_that_are_none_do_not_stop_the_start(settings: Settings) -> None:
    """Garbage and tombstones at the end of a topic say nothing about ids."""
    await cluster.apply(settings, [catalogue.STOCK_TRADES, catalogue.EXIT_WATCH])
    await _send(settings, catalogue.STOCK_TRADES, b"garbage")
    await _send(settings, catalogue.STOCK_TRADES, b"\x00\x40\x00\xff\xff unknown, but local", b"B")
    await _send(settings, catalogue.EXIT_WATCH, None)
    assert await cluster.apply(settings, [catalogue.STOCK_TRADES, catalogue.EXIT_WATCH]) == []


async def test_delete_all_leaves_nothing_of_ours_and_all_of_others(settings: Settings) -> None:
    """`demo` starts from an empty log; somebody else's topics on the same cluster are sacred."""
    prefix = settings.tidewire_topic_prefix
    await cluster.apply(settings, SOME)
    client = AIOKafkaAdminClient(**client_arguments(settings))
    await client.start()
    changelog, foreign = f"{prefix}tidewire-processor-features-changelog", f"{prefix}somebody.elses"
    await client.create_topics([NewTopic(changelog, 4, 1), NewTopic(foreign, 1, 1)])
    await client.close()
    async with asyncio.timeout(30), admin.connect(settings) as found:
        while not {changelog, foreign} <= set(await found.names()):
            await asyncio.sleep(0.05)
    await _commit(settings, prefix + "tidewire-processor")
    deleted = await cluster.delete_all(settings)
    assert set(deleted) == {changelog, *(prefix + name + s for name in SOME for s in ("", ".dlq"))}
    async with admin.connect(settings) as found:
        assert [name for name in await found.names() if name.startswith(prefix)] == [foreign]
        assert not [group for group in await found.groups() if group.startswith(prefix)]
    assert await cluster.delete_all(settings) == []
    assert len(await cluster.apply(settings, SOME)) == 2 * len(SOME)


def test_delete_all_knows_the_topics_of_every_processor() -> None:
    """The exits of a former demo, kept in a changelog, would otherwise count as fired in the next one."""
    found = set()
    for path in (ROOT / "processors").glob("**/app.py"):
        module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        found |= {module.APP_ID} if hasattr(module, "APP_ID") else set()
    assert found == set(cluster._PROCESSORS)


async def test_delete_all_names_a_group_that_is_in_use(settings: Settings) -> None:
    """A service still running would write into the new log with the state of the old one."""
    await cluster.apply(settings, [catalogue.SUBSCRIPTIONS])
    group = settings.tidewire_topic_prefix + "busy"
    consumer = AIOKafkaConsumer(
        settings.tidewire_topic_prefix + catalogue.SUBSCRIPTIONS, group_id=group, **client_arguments(settings)
    )
    await consumer.start()
    try:
        with pytest.raises(SchemaError, match=f"{group} still has members: stop the services first"):
            await cluster.delete_all(settings, timeout_s=0.5)
        assert await cluster.check(settings, [catalogue.SUBSCRIPTIONS]) == []
    finally:
        await consumer.stop()


async def test_a_cluster_that_is_down_is_named(settings: Settings) -> None:
    """Which address was tried, and what to do."""
    down = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9 .*KAFKA_BOOTSTRAP_SERVERS"):
        await cluster.apply(down)


async def _commit(settings: Settings, group: str) -> None:
    consumer = AIOKafkaConsumer(group_id=group, enable_auto_commit=False, **client_arguments(settings))
    await consumer.start()
    partition = TopicPartition(settings.tidewire_topic_prefix + catalogue.SUBSCRIPTIONS, 0)
    consumer.assign([partition])
    await consumer.commit({partition: 0})
    await consumer.stop()


def test_local_ids_are_of_one_kind() -> None:
    """The two kinds are told apart by the id alone."""
    assert all(lock.is_local(entry.id) for entry in lock.read())
