"""Exits folded anew, without Kafka: what a replay makes of a log must hang on the log alone.

Invariant 5 in the small: however the log is cut, whatever else is asked for, the triggers are the same bytes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.exits.coordinates import Coordinates
from processors.exits.hours import AlwaysOpen
from replay import recheck, watches
from replay.exits import SPENT, Exits
from replay.inputs import RANKS, WATCH, Counts, Entries, Events, Item, Prices
from replay.lookup import BEYOND, RETENTION, Looked
from replay.order import Key, Lane, Merge
from replay.what_if import WhatIf
from schemas.catalogue import EXIT_TRIGGERS, EXIT_WATCH, STOCK_QUOTES, STOCK_STATUSES, STOCK_TRADES
from schemas.codec import Codec, load_codec
from schemas.exit_rules import parse, watch_key
from tests.integration.exits_world import BASE, SECOND, a_quote, a_watch
from tests.unit.columns_batches import block, record
from tidewire import config

AT_HAND = load_codec(config.load(_env_file=None))
SYMBOLS = ("AAA", "BBB", "CCC")
STEMS = {STOCK_QUOTES: "stock_quote", STOCK_TRADES: "stock_trade", STOCK_STATUSES: "stock_status"}


@pytest.fixture
def codec() -> Codec:
    return AT_HAND


def log_of(seed: int, count: int) -> dict[str, list[dict[str, Any]]]:
    """Quotes, trades and halts of one partition, as the topics hold them; a few late, stale or no prices."""
    chance = random.Random(seed)
    found: dict[str, list[dict[str, Any]]] = {topic: [] for topic in STEMS}
    price = dict.fromkeys(SYMBOLS, 100.0)
    for number in range(count):
        symbol = chance.choice(SYMBOLS)
        price[symbol] = round(price[symbol] + chance.choice([-0.9, -0.2, 0.1, 0.4]), 2)
        received = BASE + SECOND + number * SECOND
        ts = received - chance.choice([0, 0, 0, 5 * SECOND])
        odd = {"bid_price": -1.0} if chance.random() < 0.02 else {}
        epoch = {"owner_epoch": chance.choice([2, 2, 2, 1]) if number > 5 else 1, "received_ts": received}
        quote = a_quote(symbol, ts, price[symbol]) | epoch
        if chance.random() < 0.7:
            found[STOCK_QUOTES].append(quote | odd)
        else:
            trade = {name: quote[name] for name in ("symbol", "ts", "tape", "extra", "received_ts", "source")}
            trade |= {"owner_epoch": epoch["owner_epoch"], "event_id": quote["event_id"], "id": number}
            more = {"exchange": "V", "price": price[symbol], "size": 5, "conditions": ["@"]}
            found[STOCK_TRADES].append(trade | more)
        if chance.random() < 0.02:
            found[STOCK_STATUSES].append(halt(symbol, ts, received, chance.choice("HT")))
    return found


def halt(symbol: str, ts: int, received: int, code: str) -> dict[str, Any]:
    texts = dict.fromkeys(("status_message", "reason_code", "reason_message"), "")
    status = {"symbol": symbol, "ts": ts, "status_code": code, "tape": "C", "extra": None, **texts}
    stamp = {"received_ts": received, "source": "ws", "owner_epoch": 1, "event_id": b"12345678"}
    return status | stamp


def rules() -> list[dict[str, Any]]:
    trail, stop = {"kind": "trailing_stop", "trail_percent": "2"}, {"kind": "stop_loss", "percent": "3"}
    last = {**trail, "reference": "last"}
    found = [a_watch(symbol, trail, rule="trail") for symbol in SYMBOLS[:2]]
    return [*found, a_watch("AAA", stop, account="other"), a_watch("CCC", last, account="third")]


def blocks_of(topic: str, records: list[dict[str, Any]], sizes: Iterator[int]) -> list[Any]:
    """Whole record batches of these sizes, one after the other."""
    encode = AT_HAND.encoder(STEMS[topic])
    values = [record(n, r["symbol"].encode(), encode(r)) for n, r in enumerate(records)]
    found = []
    while values:
        size = next(sizes)
        found.append(block(values[:size]))
        values = values[size:]
    return found


def put(watched: list[dict[str, Any]]) -> Entries:
    rank = RANKS[EXIT_WATCH]
    return [
        (Key(w["ts"], rank, 0, n), Item(WATCH, Coordinates("w", 0, n), w, key=watch_key(w)))
        for n, w in enumerate(watched)
    ]


def folded(
    log: dict[str, list[dict[str, Any]]],
    seed: int,
    symbols: tuple[str, ...] = (),
    watched: list[dict[str, Any]] | None = None,
) -> tuple[Exits, Counts]:
    """Cut at random into batches and pieces, merged, folded."""
    chance = random.Random(seed)
    sizes = iter(lambda: chance.randint(1, 9), 0)
    known = set(symbols or SYMBOLS)
    counts, merge = Counts(), Merge[Item]([Lane(RANKS[t], 0) for t in (*STEMS, EXIT_WATCH)])
    merge.push(Lane(RANKS[EXIT_WATCH], 0), put(rules() if watched is None else watched))
    merge.finish(Lane(RANKS[EXIT_WATCH], 0))
    left = {topic: blocks_of(topic, records, sizes) for topic, records in log.items()}
    readers = {t: _reader(t, known, counts) for t in STEMS}
    exits = Exits(1, AlwaysOpen(), symbols)
    while left:
        topic = chance.choice(sorted(left))
        size = chance.randint(1, 5)
        piece, left[topic] = left[topic][:size], left[topic][size:]
        lane = Lane(RANKS[topic], 0)
        if piece:
            merge.push(lane, readers[topic](topic, piece, 10**9))
        if not left[topic]:
            merge.finish(lane)
            del left[topic]
        for _, item in merge.take():
            exits.fold(item)
    return exits, counts


def _reader(topic: str, symbols: set[str], counts: Counts) -> Prices | Events:
    lane = Lane(RANKS[topic], 0)
    if topic == STOCK_STATUSES:
        return Events(AT_HAND, STEMS[topic], lane, counts)
    return Prices(AT_HAND, STEMS[topic], lane, symbols, counts)


def encoded(exits: Exits) -> list[bytes]:
    return [AT_HAND.encode("exit_trigger", trigger) for trigger in exits.triggers]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 1 << 30), st.integers(0, 1 << 30))
def test_invariant_5_the_cut_of_the_log_changes_no_byte(seed: int, first: int, second: int) -> None:
    """Kafka answers in other pieces every time, and a log is compacted into other batches overnight."""
    log = log_of(seed, 50)
    one, counted = folded(log, first)
    other, again = folded(log, second)
    assert encoded(one) == encoded(other)
    assert one.turns.take() == other.turns.take()
    assert one.counts == other.counts
    assert counted == again
    everything = sum(map(len, log.values()))
    passed = sum(counted[name] for name in ("filtered", "stale", "refused"))
    assert counted["read"] == everything == passed + sum(one.counts.values()) - len(rules())


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1 << 30))
def test_fewer_symbols_change_nothing_for_the_rest(seed: int) -> None:
    """Somebody who asks about one symbol must get what he would have got among all."""
    log = log_of(seed, 60)
    everything, _ = folded(log, 1)
    one, _ = folded(log, 2, ("AAA",))
    assert one.triggers == [t for t in everything.triggers if t["symbol"] == "AAA"]


def falling(symbol: str = "AAA") -> dict[str, list[dict[str, Any]]]:
    bids = (100.0, 101.0, 99.5, 98.0, 96.5)
    quotes = [a_quote(symbol, BASE + (n + 1) * SECOND, bid) for n, bid in enumerate(bids)]
    return {STOCK_QUOTES: quotes, STOCK_TRADES: [], STOCK_STATUSES: []}


def test_watches_that_are_compacted_away_come_back_out_of_their_triggers() -> None:
    """exits.watch keeps the newest of a key: "released", after an exit. Nothing could be replayed of it."""
    watch = a_watch("AAA", {"kind": "stop_loss", "percent": "3"})
    exits, _ = folded(falling(), 1, watched=[watch])
    (live,) = exits.triggers
    at = Coordinates("t", 0, 7)
    released = watch | {"active": False, "ts": BASE + 99 * SECOND}
    found = watches.restored([(at, live), (Coordinates("t", 0, 8), live | {"state": "sent"})], [released])
    ((key, item),) = found[0]
    assert key == Key(BASE, RANKS[EXIT_TRIGGERS], 0, 7)
    assert item.record == watch | {"price_basis_ts": BASE}
    assert watches.restored([(at, live)], [watch]) == {}  # still there: not twice
    assert watches.of_trigger(live | {"watch": "{}"}) is None
    assert item.record is not None
    again, _ = folded(falling(), 2, watched=[item.record, released])
    assert again.triggers == [live]


def test_what_has_fired_on_prices_of_before_does_not_fire_on_others() -> None:
    """A replay of the last hour must not sell what was sold yesterday."""
    watch = a_watch("AAA", {"kind": "stop_loss", "percent": "3"})
    exits = Exits(1, AlwaysOpen(), spent=["demo-1:AAA:1:0"])
    exits.fold(put([watch])[0][1])
    for number, quote in enumerate(falling()[STOCK_QUOTES]):
        exits.fold(Item("stock_quote", Coordinates("q", 0, number), quote, quote["ts"]))
    assert exits.triggers == []
    assert exits.counts == {SPENT: 1, "unwatched": 5}


@pytest.mark.parametrize(
    ("spec", "quantity", "offset"),
    [
        ({"kind": "stop_loss", "percent": "3"}, 10, 4),
        ({"kind": "trailing_stop", "trail_percent": "1"}, 10, 2),
        ({"kind": "take_profit", "price": "98.5"}, -10, 3),
        ({"kind": "stop_loss", "percent": "1"}, -10, 1),
        ({"kind": "time_stop", "after_seconds": 2}, 10, 2),
    ],
)
def test_a_rule_is_tried_out_on_a_position_that_nobody_had(
    spec: dict[str, Any], quantity: int, offset: int
) -> None:
    """What would this rule have done? The answer must be that of the service, from the first price on."""
    made_up = WhatIf("AAA", Decimal(100), Decimal(quantity), (("try", parse(spec)),))
    exits = Exits(1, AlwaysOpen(), what_if=made_up)
    exits.fold(put([a_watch("AAA", {"kind": "stop_loss", "price": "99.9"})])[0][1])
    for number, quote in enumerate(falling()[STOCK_QUOTES]):
        exits.fold(Item("stock_quote", Coordinates("q", 0, number), quote, quote["ts"]))
    (trigger,) = exits.triggers
    assert (trigger["account"], trigger["inputs"][-1]["offset"]) == ("what-if", offset)


def test_a_check_finds_every_contradiction_and_forgives_what_is_deleted(codec: Codec) -> None:
    """A check that says yes to a price that was never there is worse than none."""
    exits, _ = folded(falling(), 1, watched=[a_watch("AAA", {"kind": "stop_loss", "percent": "3"})])
    (trigger,) = exits.triggers
    quotes = falling()[STOCK_QUOTES]
    places = set(recheck.named(trigger))
    values = {at: codec.encode("stock_quote", quotes[at.offset]) for at in places}
    (newest,) = [at for at in places if at.offset == 4]
    assert list(recheck.differences(trigger, Looked(dict(values)), codec)) == []
    assert list(recheck.differences(trigger, Looked({}, dict.fromkeys(places, RETENTION)), codec)) == []

    def wrong(**changes: Any) -> str:
        odd = codec.encode("stock_quote", quotes[4] | changes)
        return "; ".join(recheck.differences(trigger, Looked({**values, newest: odd}), codec))

    assert "holds 96.6" in wrong(bid_price=96.6)
    assert "event time" in wrong(ts=5)
    assert "the evidence says" in wrong(ask_price=200.0)
    assert "the evidence says" in wrong(conditions=["Z"])
    assert "beyond" in "; ".join(recheck.differences(trigger, Looked({}, {newest: BEYOND}), codec))
    watch = json.loads(trigger["watch"]) | {"stop_price": "50"}
    lower = trigger | {"watch": json.dumps(watch)}
    assert "does not fire" in "; ".join(recheck.differences(lower, Looked(dict(values)), codec))
    garbage = Looked({**values, newest: b"\x00"})
    assert any("byte" in text or "shorter" in text for text in recheck.differences(trigger, garbage, codec))


def test_event_time_goes_on_by_symbols_that_nobody_watches() -> None:
    """A time stop of a quiet symbol would wait for its next trade."""
    quotes = [a_quote("AAA", BASE + SECOND, 100.0)]
    quotes += [a_quote("ZZZ", BASE + n * SECOND, 5.0) for n in range(2, 8)]
    log = {STOCK_QUOTES: quotes, STOCK_TRADES: [], STOCK_STATUSES: []}
    timed = a_watch("AAA", {"kind": "time_stop", "after_seconds": 4})
    exits, counts = folded(log, 3, watched=[timed])
    (trigger,) = exits.triggers
    assert trigger["ts"] == BASE + 4 * SECOND
    assert counts["filtered"] == 6
