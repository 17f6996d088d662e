"""`tidewire exits explain`: a trigger from the log, its inputs as they stand in theirs, and why it fired."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from console.commands.exit_log import decoded
from console.commands.exit_rows import money, plain
from console.commands.readable import time_text
from processors.exits.explain import Explanation
from processors.exits.explain import explain as evaluate
from schemas.catalogue import EXIT_TRIGGERS
from schemas.codec import Codec, Record
from tidewire.config import Settings
from tidewire.errors import ConfigError, TidewireError
from verify.topic import consumer, ends, whole

_POLL_MS = 1_000
_LOOKS = 10
_PRICES = ("price", "bid_price", "ask_price", "bid", "ask")


@dataclass(frozen=True, slots=True)
class Checked:
    """An input that a trigger names. `found`: same; different; out of retention; unreadable."""

    topic: str
    partition: int
    offset: int
    ts: int
    value: float
    found: str


@dataclass(frozen=True, slots=True)
class Told:
    """A trigger, its inputs looked up, and its evaluation."""

    trigger: Record
    inputs: list[Checked]
    explanation: Explanation

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        inputs = [{name: getattr(i, name) for name in Checked.__slots__} for i in self.inputs]
        steps = list(self.explanation.steps)
        return {
            "trigger": plain(self.trigger), "inputs": inputs, "fires": self.explanation.fires, "steps": steps,
        }  # fmt: skip

    @property
    def contradicts(self) -> str | None:
        """What of the log or the evaluation contradicts the trigger; None: nothing."""
        wrong = [f"{i.topic} {i.partition}:{i.offset}" for i in self.inputs if i.found == "different"]
        if wrong:
            return f"the log holds other values than the trigger names: {', '.join(wrong)}"
        return None if self.explanation.fires else "evaluated again, this trigger would not fire"

    @property
    def verdict(self) -> str:
        """In a few words, with the inputs that nobody can look up any more."""
        gone = [i.found for i in self.inputs if i.found not in ("same", "different")]
        return self.contradicts or "fires" + (f"; inputs: {', '.join(sorted(set(gone)))}" if gone else "")

    def judge(self) -> None:
        """Raises TidewireError where the log or the evaluation contradicts the trigger."""
        if (wrong := self.contradicts) is not None:
            raise TidewireError(wrong)


async def explain(settings: Settings, codec: Codec, trigger_id: str) -> Told:
    """Find the trigger, look its inputs up and evaluate it again.

    Raises:
        ConfigError: there is no such trigger.
        UnreachableError: Kafka does not answer.
    """
    async with consumer(settings) as client:
        trigger = await _find(settings, client, codec, trigger_id)
        inputs = [await _check(client, codec, one) for one in trigger["inputs"]]
    return Told(trigger, inputs, evaluate(trigger))


async def every(settings: Settings, codec: Codec) -> list[Told]:
    """The same for every trigger of the log, in the order of its event times.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    async with consumer(settings) as client:
        newest: dict[tuple[str, str], Record] = {}
        async for trigger in _triggers(
            settings, client, codec
        ):  # pending, then sent; two rules may share an id
            newest[trigger["trigger_id"], trigger["rule"]] = trigger
        ordered = sorted(newest.values(), key=lambda trigger: (trigger["ts"], trigger["trigger_id"]))
        return [
            Told(t, [await _check(client, codec, one) for one in t["inputs"]], evaluate(t)) for t in ordered
        ]


def show(told: Told, console: Console) -> None:
    """For people: what fired, on what, and each step of the decision."""
    t = told.trigger
    wide = console if console.is_terminal else Console(width=160)
    head = f"{t['trigger_id']}: {t['kind']} rule {t['rule']} on {t['reference_symbol']}, {t['state']}"
    wide.print(f"{head}, at {time_text(t['ts'])}", markup=False, highlight=False)
    wide.print(f"threshold {money(t['threshold'])}, best price {money(t['high_water'])}", highlight=False)
    table = Table(
        "topic", "partition", "offset", "event time (UTC)", "value", "in the log", box=box.SIMPLE_HEAD
    )
    for i in told.inputs:
        cells = i.topic, i.partition, i.offset, time_text(i.ts), i.value, i.found
        table.add_row(*(escape(str(cell)) for cell in cells))
    wide.print(table)
    for step in told.explanation.steps:
        wide.print(f"  {step}", markup=False, highlight=False)
    wide.print("fires" if told.explanation.fires else "does not fire", highlight=False)


async def _find(settings: Settings, client: AIOKafkaConsumer, codec: Codec, trigger_id: str) -> Record:
    account, _, rest = trigger_id.partition(":")
    wanted = f"{account}:{rest.rsplit(':', 2)[0]}".encode()
    found: Record | None = None
    async for content in _triggers(settings, client, codec, wanted):
        found = content if content["trigger_id"] == trigger_id else found
    if found is None:
        raise ConfigError(
            [f"no trigger {trigger_id}; an id is account:symbol:position epoch:exit epoch, say one:AAPL:3:0"]
        )
    return found


async def _triggers(
    settings: Settings, client: AIOKafkaConsumer, codec: Codec, key: bytes | None = None
) -> AsyncIterator[Record]:
    """Every record of exits.triggers, or those of a key (account:symbol), partition by partition."""
    topic = settings.tidewire_topic_prefix + EXIT_TRIGGERS
    async for _, records in whole(client, (await ends(settings, [topic]))[topic]):
        for record in records:
            if key in (None, record.key) and (content := decoded(codec, record.value)) is not None:
                yield content


async def _check(client: AIOKafkaConsumer, codec: Codec, one: Mapping[str, Any]) -> Checked:
    place = TopicPartition(one["topic"], one["partition"])
    named = place.topic, place.partition, one["offset"], one["ts"], one["value"]
    if one["topic"] not in await client.topics():
        return Checked(*named, "no such topic")
    client.assign([place])
    if (await client.beginning_offsets([place]))[place] > one["offset"]:
        return Checked(*named, "out of retention")
    client.seek(place, one["offset"])
    for _ in range(_LOOKS):
        for record in (await client.getmany(place, timeout_ms=_POLL_MS, max_records=1)).get(place, ()):
            content = decoded(codec, record.value) if record.offset == one["offset"] else None
            return Checked(*named, "unreadable" if content is None else _compared(content, one))
    return Checked(*named, "out of retention")


def _compared(content: Record, one: Mapping[str, Any]) -> str:
    prices = [float(content[name]) for name in _PRICES if content.get(name) is not None]
    values = [*prices, sum(prices) / len(prices)] if prices else []
    return "same" if content["ts"] == one["ts"] and (not values or one["value"] in values) else "different"
