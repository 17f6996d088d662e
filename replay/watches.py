"""The watches that stood when exits fired, out of the triggers: exits.watch keeps only the newest. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

import orjson

from processors.exits.coordinates import Coordinates
from processors.exits.state import plain_watch
from processors.exits.trigger import canonical
from replay.inputs import RANKS, WATCH, Entries, Item
from replay.order import EVENT, Key, Times
from schemas.catalogue import EXIT_TRIGGERS
from schemas.codec import Record
from schemas.exit_rules import watch_key

_DECIMALS = ("quantity", "entry_price", "stop_price", "limit_price", "trail_price", "trail_percent")


def of_trigger(trigger: Record) -> Record | None:
    """The exit_watch that a trigger carries; None: it carries none that can be read."""
    try:
        found = orjson.loads(trigger["watch"])
        amounts = {name: None if found[name] is None else Decimal(found[name]) for name in _DECIMALS}
        return {**found, **amounts, "event_id": bytes.fromhex(found["event_id"])}
    except (ValueError, KeyError, TypeError, ArithmeticError):
        return None


def restored(
    triggers: Iterable[tuple[Coordinates, Record]], known: Iterable[Record], by: str = EVENT
) -> dict[int, Entries]:
    """By partition, the watches of triggers that the log of watches does not hold any more, in order.

    Each stands where it was written: at its own time, before what exits.watch holds of that time.
    """
    there = {canonical(plain_watch(watch)) for watch in known}
    found: dict[int, Entries] = {}
    for at, watch in _once(triggers, there):
        times = Times(by)
        time = times.see(watch["ts"], watch["received_ts"])
        key = Key(time, RANKS[EXIT_TRIGGERS], at.partition, at.offset)
        found.setdefault(at.partition, []).append((key, Item(WATCH, at, watch, key=watch_key(watch))))
    return {partition: sorted(entries, key=lambda entry: entry[0]) for partition, entries in found.items()}


def _once(
    triggers: Iterable[tuple[Coordinates, Record]], there: set[str]
) -> Iterator[tuple[Coordinates, Record]]:
    for at, trigger in triggers:
        if trigger["watch"] in there:
            continue
        there.add(trigger["watch"])
        watch = of_trigger(trigger)
        if watch is not None:
            yield at, watch
