"""Was anything lost, doubled, oversold, turned round, ordered on old data or after the switch? Pure.

The simulator's journal is the oracle: positions are folded here, anew, from its executions. Beside it stand
what was asked for (orders.intents), what the executor's ledger says, and what was told (orders.results).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any

from schemas.order_ids import PREFIX, client_order_id
from tests.chaos.orders_records import ZERO, Evidence, Happened

SLACK_NS = 5_000_000_000
"""Between the executor's last look at the clock and the broker: the switch's question, the socket."""
_ENDS = frozenset({"filled", "canceled", "expired", "replaced", "rejected"})
_FILLS = frozenset({"fill", "partial_fill"})
_CLASSES = (
    "lost", "duplicated", "above_held", "flipped", "stale", "after_switch", "not_durable", "results_wrong",
)  # fmt: skip


@dataclass
class Verdict:
    """Differences in words, each list empty when all is well, and what was looked at."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    above_held: list[str] = field(default_factory=list)
    flipped: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    after_switch: list[str] = field(default_factory=list)
    not_durable: list[str] = field(default_factory=list)
    results_wrong: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def complaints(self) -> list[str]:
        """All of them."""
        return [f"{name}: {text}" for name in _CLASSES for text in getattr(self, name)]

    def numbers(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {name: getattr(self, name) for name in _CLASSES} | {"seen": dict(self.seen)}


def judge(evidence: Evidence) -> Verdict:
    """Hold everything against the journal."""
    found = Verdict()
    orders = _orders(evidence)
    positions = _play(evidence, found)
    _attempts(evidence, orders, found)
    _ledger(evidence, orders, found)
    _ages(evidence, orders, found)
    _switch(evidence, found)
    _results(evidence, found)
    _exits(evidence, positions, found)
    found.seen.update(
        intents=len(evidence.intents), orders=len(orders), results=len(evidence.outbox),
        repeated_results=len(evidence.published) - len(dict(evidence.published)),
        second_attempts=sum(each.attempt > 0 for each in evidence.attempts),
    )  # fmt: skip
    found.seen.update(f"ended {each.outcome}" for each in evidence.kept if each.outcome)
    return found


@dataclass
class _Order:
    """Of ours, as the journal shows it; `last` is the line at which it ended."""

    line: Happened
    first: int
    last: int | None = None
    filled: Decimal = ZERO


def _orders(evidence: Evidence) -> dict[str, list[_Order]]:
    """By client_order_id, in the order in which they came; more than one is a finding."""
    by_id: dict[str, _Order] = {}
    named: dict[str, list[_Order]] = defaultdict(list)
    for number, line in enumerate(evidence.journal):
        if not line.client_order_id.startswith(PREFIX):
            continue
        if (order := by_id.get(line.order_id)) is None:
            order = by_id[line.order_id] = _Order(line, number)
            named[line.client_order_id].append(order)
        order.filled += line.filled
        if line.status in _ENDS and order.last is None:
            order.last = number
    return named


def _play(evidence: Evidence, found: Verdict) -> dict[tuple[str, str], Decimal]:
    """Positions by the executions alone; on the way: does each order of an exit only close?"""
    exits = {
        client_order_id(name, attempt)
        for name, intent in evidence.intents.items()
        if intent["kind"] == "exit"
        for attempt in range(20)
    }
    positions: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    open_exits: dict[tuple[str, str], dict[str, Decimal]] = defaultdict(dict)
    seen: set[str] = set()
    for line in evidence.journal:
        place = line.account, line.symbol
        held, ours = positions[place], line.client_order_id in exits
        sign = 1 if line.side == "buy" else -1
        if ours and line.order_id not in seen:
            seen.add(line.order_id)
            asked = line.quantity + sum(open_exits[place].values())
            if held * sign >= 0:
                found.flipped.append(f"{line.client_order_id}: {line.side} {line.symbol} with {held} held")
            elif asked > abs(held):
                found.above_held.append(f"{line.client_order_id}: {asked} of {line.symbol}, {held} held")
            open_exits[place][line.order_id] = line.quantity
        if line.event in _FILLS:
            after = positions[place] = held + sign * line.filled
            if ours and held * after < 0:
                found.flipped.append(f"{line.client_order_id}: {line.symbol} went from {held} to {after}")
            if ours:
                open_exits[place][line.order_id] -= line.filled
        if ours and line.status in _ENDS:
            open_exits[place].pop(line.order_id, None)
    return positions


def _attempts(evidence: Evidence, orders: dict[str, list[_Order]], found: Verdict) -> None:
    """One order an attempt; the next only when the last is over; one intent a position and exit epoch."""
    for name, same in orders.items():
        if len(same) > 1:
            found.duplicated.append(f"{len(same)} orders are called {name}")
    known: set[str] = set()
    by_epoch: dict[tuple[Any, ...], str] = {}
    for name, intent in evidence.intents.items():
        mine = [(n, orders.get(client_order_id(name, n))) for n in range(20)]
        placed = [(n, same[0]) for n, same in mine if same]
        known.update(order.line.client_order_id for _, order in placed)
        if intent["kind"] == "order" and len(placed) > 1:
            found.duplicated.append(f"{name}: {len(placed)} orders of one strategy's intent")
        found.duplicated += [
            f"{name}: attempt {later} before attempt {earlier} was over"
            for (earlier, before), (later, after) in pairwise(placed)
            if before.last is None or before.last > after.first
        ]
        epoch = (intent["account"], intent["symbol"], intent["position_epoch"], intent["trigger_id"])
        if placed and intent["kind"] == "exit" and by_epoch.setdefault(epoch, name) != name:
            found.duplicated.append(f"{name} and {by_epoch[epoch]} are the same exit")
    found.duplicated += [f"nobody asked for {name}" for name in orders.keys() - known]


def _ledger(evidence: Evidence, orders: dict[str, list[_Order]], found: Verdict) -> None:
    """Each order stands in the ledger, from before it was sent, and as the broker has it."""
    kept = {each.intent_id: each for each in evidence.kept}
    attempts = {each.client_order_id: each for each in evidence.attempts}
    for name, same in orders.items():
        row, accepted = attempts.get(name), evidence.accepted.get(name)
        if row is None or row.intent_id not in kept:
            found.not_durable.append(f"{name} was ordered, and the ledger has no row of it")
            continue
        if accepted is None or kept[row.intent_id].taken > accepted or row.sent > accepted:
            found.not_durable.append(f"{name} was ordered before the ledger had its row")
        order, over = same[0], kept[row.intent_id].phase == "done"
        if over and (row.order_id, row.filled) != (order.line.order_id, order.filled):
            found.results_wrong.append(
                f"{name}: the ledger says {row.filled} of {row.order_id}, the broker {order.filled} of"
                f" {order.line.order_id}"
            )


def _ages(evidence: Evidence, orders: dict[str, list[_Order]], found: Verdict) -> None:
    for name, intent in evidence.intents.items():
        for number in range(20):
            order = client_order_id(name, number)
            accepted = evidence.accepted.get(order)
            limit = intent["received_ts"] + evidence.max_age[intent["account"]] + SLACK_NS
            if accepted is not None and accepted > limit:
                found.stale.append(f"{name}: ordered {(accepted - intent['received_ts']) / 1e9:.1f} s late")
            if name in evidence.old and order in orders:
                found.stale.append(f"{name} was too old from the start, and was ordered")
    outcomes = {each.intent_id: each.outcome for each in evidence.kept}
    found.stale += [
        f"{name} was too old from the start, and ended {outcomes.get(name)}"
        for name in sorted(evidence.old)
        if outcomes.get(name) != "stale"
    ]


def _switch(evidence: Evidence, found: Verdict) -> None:
    first: dict[str, tuple[int, Happened]] = {}
    for number, line in enumerate(evidence.journal):
        first.setdefault(line.order_id, (number, line))
    for start, stop in evidence.switched:
        found.after_switch += [
            f"{line.client_order_id} was taken {number - start} lines after the switch"
            for number, line in first.values()
            if start <= number < stop and line.client_order_id.startswith(PREFIX)
        ]


def _results(evidence: Evidence, found: Verdict) -> None:
    """What was told is what the ledger says, no more and no less."""
    outbox, published = dict(evidence.outbox), defaultdict(set)
    for event_id, value in evidence.published:
        published[event_id].add(value)
    wrong = found.results_wrong
    if evidence.waiting:
        wrong.append(f"{evidence.waiting} results were never published")
    wrong += [f"{event.hex()} stands in the ledger only" for event in outbox.keys() - published.keys()]
    wrong += [f"{event.hex()} stands in Kafka only" for event in published.keys() - outbox.keys()]
    wrong += [
        f"{event.hex()} was published with other content"
        for event, values in published.items()
        if event in outbox and values != {outbox[event]}
    ]
    repeated = [event for event, times in Counter(event for event, _ in evidence.outbox).items() if times > 1]
    wrong += [f"{event.hex()} was told by the ledger more than once" for event in repeated]


def _exits(evidence: Evidence, positions: dict[tuple[str, str], Decimal], found: Verdict) -> None:
    """Each intent was taken and has ended, once and with a reason; and what is left open is named."""
    kept = {each.intent_id: each for each in evidence.kept}
    finals: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in evidence.results:
        if result["final"]:
            finals[result["intent_id"]].append(result)
    for name, intent in evidence.intents.items():
        row, ends = kept.get(name), finals[name]
        if row is None:
            found.lost.append(f"{name} is in no ledger")
        elif row.phase != "done" or not ends:
            found.lost.append(f"{name} has not ended: {row.phase}, {len(ends)} final results")
        elif len(ends) > 1 or ends[0]["outcome"] != row.outcome:
            found.results_wrong.append(f"{name} ended {[e['outcome'] for e in ends]}, not {row.outcome}")
        elif not (ends[0]["reason"] or ends[0]["outcome"] in _ENDS):
            found.lost.append(f"{name} ended {ends[0]['outcome']} and nobody says why")
        elif intent["kind"] == "exit" and ends[0]["remaining"] == ZERO:
            found.seen["exits that closed their position"] += 1
    found.lost += list(_left_open(evidence, positions, finals))


def _left_open(
    evidence: Evidence,
    positions: dict[tuple[str, str], Decimal],
    finals: dict[str, list[dict[str, Any]]],
) -> Iterator[str]:
    """A position of a trigger that is open at the end must have a last result that owns up to it."""
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for intent in evidence.intents.values():
        if intent["kind"] == "exit":
            place = intent["account"], intent["symbol"]
            if place not in last or _epochs(intent) > _epochs(last[place]):
                last[place] = intent
    for place, intent in last.items():
        held, ends = positions.get(place, ZERO), finals.get(intent["intent_id"], [])
        if held and not any(end["remaining"] or end["outcome"] not in ("filled", "closed") for end in ends):
            yield f"{held} of {place[1]} are open in {place[0]}, and {intent['intent_id']} does not say why"


def _epochs(intent: dict[str, Any]) -> tuple[int, int]:
    return int(intent["position_epoch"]), int(str(intent["trigger_id"]).rpartition(":")[2])
