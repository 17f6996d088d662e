"""Every trigger of the service evaluated again from the inputs that it names: each must give itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import TopicPartition

from processors.exits import ticks
from processors.exits.coordinates import Coordinates
from processors.exits.explain import explain
from processors.exits.facts import Facts
from processors.exits.prices import Quote, Trade
from replay import log
from replay.lookup import NO_TOPIC, RETENTION, Looked, lookup
from schemas.catalogue import EXIT_TRIGGERS, Catalogue
from schemas.codec import Codec, Record
from tidewire.config import Settings
from tidewire.errors import RecordError

Told = Callable[[int], object]

GONE = (RETENTION, NO_TOPIC)
"""What is named, and no contradiction."""


@dataclass(slots=True)
class Checked:
    """What was found. `triggers`: different ones, by content; `told`: records of them, mostly two for each.

    `differing`: by trigger id, every contradiction. `gone`: by reason, prices that Kafka has deleted;
    `partly`: triggers that name such, and were evaluated without them. `inputs`: prices compared.
    """

    triggers: int = 0
    told: int = 0
    inputs: int = 0
    differing: dict[str, list[str]] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    partly: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether every trigger gives itself."""
        return not self.differing


async def check(
    settings: Settings,
    catalogue: Catalogue,
    codec: Codec,
    wanted: Callable[[Record], bool] = lambda trigger: True,
    begun: Told = lambda records: None,
    told: Told = lambda records: None,
) -> Checked:
    """Evaluate every trigger in the log again; `begun` is told how many prices will be looked up.

    Raises:
        SchemaError: there is no topic of triggers, or a record batch is damaged.
        UnreachableError: Kafka does not answer.
    """
    found = Checked()
    triggers = await _triggers(settings, catalogue, codec, wanted, found)
    places = {at for trigger in triggers for at in named(trigger)}
    begun(len(places))
    looked = await lookup(settings, places, told)
    for reason in looked.lost.values():
        if reason in GONE:
            found.gone[reason] = found.gone.get(reason, 0) + 1
    for trigger in triggers:
        _judge(trigger, looked, codec, found)
    return found


def named(trigger: Record) -> Iterator[Coordinates]:
    """Where the prices stand that a trigger names: its inputs, and those that its evidence read beside."""
    for one in trigger["inputs"]:
        yield Coordinates(one["topic"], one["partition"], one["offset"])
    for component in _components(trigger):
        yield component.at


def differences(trigger: Record, looked: Looked, codec: Codec) -> Iterator[str]:
    """Where the log, or an evaluation from the record alone, contradicts a trigger."""
    for one in trigger["inputs"]:
        at = Coordinates(one["topic"], one["partition"], one["offset"])
        yield from _missing(at, looked)
        if at in looked.values:
            yield from _compared(one, at, looked.values[at], codec)
    for component in _components(trigger):
        if component.at in looked.values:
            yield from _same_component(component, looked.values[component.at], codec)
    explanation = explain(trigger)
    if not explanation.fires:
        yield explanation.steps[-1] if explanation.steps else "evaluated again it does not fire"


def _judge(trigger: Record, looked: Looked, codec: Codec, found: Checked) -> None:
    name = trigger["trigger_id"]
    found.triggers += 1
    wrong = list(dict.fromkeys(differences(trigger, looked, codec)))
    if wrong:
        found.differing[name] = [*found.differing.get(name, []), *wrong]
    places = set(named(trigger))
    found.inputs += sum(at in looked.values for at in places)
    if any(looked.lost.get(at) in GONE for at in places):
        found.partly.append(name)


async def _triggers(
    settings: Settings,
    catalogue: Catalogue,
    codec: Codec,
    wanted: Callable[[Record], bool],
    found: Checked,
) -> list[Record]:
    """Each trigger once: that it was pending and then sent is no difference."""
    once: dict[bytes, Record] = {}
    spans = await log.spans(settings, [catalogue.name(EXIT_TRIGGERS)])
    async for record in log.records(settings, spans):
        try:
            stem, trigger = codec.decode(record.value)
            if stem != "exit_trigger":
                raise RecordError(f"a {stem} record where only exit_trigger belongs")
        except RecordError as error:
            at = TopicPartition(record.topic, record.partition)
            found.differing[f"{at.topic} {at.partition}:{record.offset}"] = [error.reason]
            continue
        if wanted(trigger):
            found.told += 1
            once.setdefault(_content(codec, trigger), trigger)
    return sorted(once.values(), key=lambda trigger: (trigger["ts"], trigger["trigger_id"]))


def _content(codec: Codec, trigger: Record) -> bytes:
    return codec.encode("exit_trigger", {**trigger, "state": "pending"})


def _components(trigger: Record) -> list[Quote | Trade]:
    """The prices of the evidence; none, where that cannot be read (the explanation says so)."""
    try:
        facts = Facts.from_json(orjson.loads(trigger["evidence"])["facts"])
    except (ValueError, KeyError, TypeError, IndexError):
        return []
    found = facts.quote, facts.trade, facts.good, facts.previous_quote, facts.previous_trade
    return [component for component in found if component is not None]


def _missing(at: Coordinates, looked: Looked) -> Iterator[str]:
    reason = looked.lost.get(at)
    if reason is not None and reason not in GONE:
        yield f"{_shown(at)}: {reason}"


def _compared(one: Mapping[str, Any], at: Coordinates, value: bytes | None, codec: Codec) -> Iterator[str]:
    """An input of a trigger beside the record that it names."""
    try:
        stem, record = codec.decode(value)
    except RecordError as error:
        yield f"{_shown(at)}: {error.reason}"
        return
    kind = ticks.kind_of(stem)
    names = {"quote": ("bid_price", "ask_price"), "trade": ("price",)}.get(kind, ())
    if not names:
        yield f"{_shown(at)} is a {stem}, no price"
    elif record["ts"] != one["ts"]:
        yield f"{_shown(at)} is of event time {record['ts']}, the trigger says {one['ts']}"
    elif one["value"] not in [record[name] for name in names]:
        there = " and ".join(str(record[name]) for name in names)
        yield f"{_shown(at)} holds {there}, the trigger says {one['value']}"


def _same_component(component: Quote | Trade, value: bytes | None, codec: Codec) -> Iterator[str]:
    """A price of the evidence beside its record, whole."""
    try:
        _, record = codec.decode(value)
        prices = (
            (record["bid_price"], record["ask_price"]) if isinstance(component, Quote) else (record["price"],)
        )
    except (RecordError, KeyError):
        yield f"{_shown(component.at)} is not what the evidence read"
        return
    said = (
        (component.bid, component.ask) if isinstance(component, Quote) else (component.price,),
        component.conditions,
        (component.ts, component.received_ts, component.source),
    )
    there = prices, tuple(ticks.conditions(record)), (record["ts"], record["received_ts"], record["source"])
    if said != there:
        yield f"{_shown(component.at)} is {there}, the evidence says {said}"


def _shown(at: Coordinates) -> str:
    return f"{at.topic} {at.partition}:{at.offset}"
