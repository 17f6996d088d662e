"""Exits from the trigger to the end of its order: each step there exactly once, or named. Pure.

A trigger has one intent (said again after a crash: the same one), an intent one row in the executor's ledger
and one chain of attempts, an attempt one order at the broker, a row that has ended one final result. After
the last one the position is closed, or the next exit epoch guards it. Users' own intents go the same way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from schemas.exit_rules import DUPLICATE
from schemas.order_ids import PREFIX, client_order_id, trigger_name

Record = Mapping[str, Any]
Place = tuple[str, str]
"""(account, symbol)."""

_SAME = ("account", "symbol", "kind", "position_epoch", "client_order_id")
"""Fields in which an intent that is said again equals itself."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An intent as the executor's ledger has it. `outcome` None: it has not ended."""

    intent_id: str
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """An order that the executor sent, or was about to send."""

    intent_id: str
    attempt: int
    client_order_id: str
    order_id: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the topics, the ledger and the broker hold."""

    triggers: Sequence[Record] = ()
    intents: Sequence[Record] = ()
    results: Sequence[Record] = ()
    taken: Sequence[Taken] = ()
    attempts: Sequence[Attempt] = ()
    placed: Mapping[str, frozenset[str]] | None = None
    """The simulated broker's order ids by client_order_id; None: nobody knows."""
    positions: Mapping[Place, tuple[int, Decimal]] = field(default_factory=dict)
    """Position epoch and quantity."""
    guards: Mapping[Place, Sequence[tuple[int, int]]] = field(default_factory=dict)
    """Position and exit epoch of every active watch of a position."""
    unguarded: Sequence[str] = ()
    """What exit_watches.py says."""


@dataclass(frozen=True, slots=True)
class ExitOutcome:
    """The counts, and what is wrong in words. `still_open`: exits whose intent has no final result yet."""

    triggers: int = 0
    intents: int = 0
    said_again: int = 0
    """Records beyond the first of an intent: what a recovery published again."""
    taken: int = 0
    orders: int = 0
    closed: int = 0
    """Exits after which the broker held nothing."""
    not_closed: int = 0
    """Exits that ended with a reason and left something."""
    still_open: int = 0
    users_intents: int = 0
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, int]:
        """For the report."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "problems"}


def compare(e: Evidence, limit: int = 10) -> ExitOutcome:
    """Follow each trigger and each intent; at most `limit` problems of a kind are named."""
    triggers = {t["trigger_id"]: t for t in e.triggers}
    live = [i for i in e.intents if i["run_id"] is None]
    intents = {i["intent_id"]: i for i in reversed(live)}  # the first of each
    exits = {name for name, intent in intents.items() if intent["kind"] == "exit"}
    ends = _ends(e.results)
    taken = {row.intent_id: row for row in e.taken}
    kinds: Iterable[Iterator[str]] = (
        _named_wrongly(triggers),
        _not_one_intent(triggers, intents, live),
        (f"intent {name} is an exit, and no trigger wanted it" for name in sorted(exits - triggers.keys())),
        _not_one_end(intents, taken, ends),
        _not_one_chain(e.attempts, taken),
        _not_one_order(e.attempts, e.placed),
        _left_alone(triggers, ends, e),
        iter(e.unguarded),
    )
    left = {name: ends[name][0]["remaining"] for name in exits if name in ends}
    return ExitOutcome(
        triggers=len(triggers),
        intents=len(exits),
        said_again=len(live) - len(intents),
        taken=len(exits & taken.keys()),
        orders=sum(a.intent_id in exits for a in e.attempts),
        closed=sum(remaining == 0 for remaining in left.values()),
        not_closed=sum(remaining != 0 for remaining in left.values()),
        still_open=len(exits - ends.keys()),
        users_intents=len(intents) - len(exits),
        problems=tuple(problem for found in kinds for problem in list(found)[:limit]),
    )


def _ends(results: Iterable[Record]) -> dict[str, list[Record]]:
    """The final results of each intent; the same one said again (the outbox after a crash) is one."""
    found: dict[str, dict[bytes, Record]] = defaultdict(dict)
    for result in results:
        if result["final"] and result["outcome"] != DUPLICATE:
            found[result["intent_id"]][result["event_id"]] = result
    return {name: list(of_intent.values()) for name, of_intent in found.items()}


def _named_wrongly(triggers: Mapping[str, Record]) -> Iterator[str]:
    for name, t in triggers.items():
        right = trigger_name(t["account"], t["symbol"], t["position_epoch"], t["exit_epoch"])
        if name != right:
            yield f"trigger {name} should be called {right}: another one may have its name"


def _not_one_intent(
    triggers: Mapping[str, Record], intents: Mapping[str, Record], said: Iterable[Record]
) -> Iterator[str]:
    for name in triggers.keys() - intents.keys():
        yield f"trigger {name} fired, and no intent followed"
    for again in said:
        first = intents[again["intent_id"]]
        other = [field for field in _SAME if again[field] != first[field]]
        if other:
            yield f"intent {again['intent_id']} was said twice, with different {', '.join(other)}"


def _not_one_end(
    intents: Mapping[str, Record], taken: Mapping[str, Taken], ends: Mapping[str, Sequence[Record]]
) -> Iterator[str]:
    for name in intents.keys() - taken.keys() - ends.keys():
        yield f"intent {name} is in the log, and the executor has not taken it"
    for name in taken.keys() - intents.keys():
        yield f"intent {name} is in the executor's ledger, and nobody wanted it"
    for name, row in taken.items():
        if row.outcome is not None and name not in ends:
            yield f"intent {name} has ended ({row.outcome}), and orders.results does not say so"
        if row.outcome is None and name in ends:
            yield f"intent {name} goes on in the ledger after its final result ({ends[name][0]['outcome']})"
    for name, results in ends.items():
        if len(results) > 1:
            yield f"intent {name} has {len(results)} final results"


def _not_one_chain(attempts: Iterable[Attempt], taken: Mapping[str, Taken]) -> Iterator[str]:
    by_intent: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_intent[attempt.intent_id].append(attempt)
    for name, chain in by_intent.items():
        if sorted(a.attempt for a in chain) != list(range(len(chain))):
            yield f"the attempts of intent {name} do not follow each other"
        if name not in taken:
            yield f"there are orders of intent {name}, which is not in the ledger"
        for a in chain:
            if a.client_order_id != client_order_id(name, a.attempt):
                yield f"attempt {a.attempt} of intent {name} has another intent's client_order_id"


def _not_one_order(attempts: Iterable[Attempt], placed: Mapping[str, frozenset[str]] | None) -> Iterator[str]:
    if placed is None:
        return
    known = {attempt.client_order_id: attempt for attempt in attempts}
    for name, orders in placed.items():
        if name.startswith(PREFIX) and name not in known:
            yield f"the broker has order {name}, which is not in the executor's ledger"
        if name in known and len(orders) > 1:
            yield f"the broker has {len(orders)} orders of {name} ({known[name].intent_id})"
    for name, attempt in known.items():
        if attempt.order_id is not None and attempt.order_id not in placed.get(name, ()):
            yield f"order {attempt.order_id} of intent {attempt.intent_id} is not at the broker"


def _left_alone(
    triggers: Mapping[str, Record], ends: Mapping[str, Sequence[Record]], e: Evidence
) -> Iterator[str]:
    """Positions that are open after their exit has ended, and that no later exit epoch guards."""
    newest: dict[Place, Record] = {}
    for trigger in triggers.values():
        place = trigger["account"], trigger["symbol"]
        epoch, quantity = e.positions.get(place, (None, Decimal(0)))
        if epoch == trigger["position_epoch"] and quantity:
            known = newest.get(place)
            if known is None or known["exit_epoch"] < trigger["exit_epoch"]:
                newest[place] = trigger
    for place, trigger in newest.items():
        if (end := ends.get(trigger["trigger_id"])) is None:
            continue
        now = trigger["position_epoch"], trigger["exit_epoch"]
        guards = e.guards.get(place, ())
        if guards and not any(guard > now for guard in guards):  # without any, no rule is in force
            why = f"{end[0]['outcome']}: {end[0]['reason']}".removesuffix(": ")
            yield f"exit {trigger['trigger_id']} ended ({why}), and nothing guards what is left"
