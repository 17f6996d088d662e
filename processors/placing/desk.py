"""All rules and positions of one partition's accounts, and the watches that follow from them. Pure.

Whatever comes in only says which positions are to be looked at again; `take` compares what should be watched
with what was written last, and gives what differs. So a restart, a replayed record or another default policy
write nothing that stands already, and leave nothing out: a new desk looks at everything once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from processors.columns.records import Records
from processors.placing import basis, watches
from processors.placing.position import Cause, Position
from processors.placing.shelf import Guarded, Place, Shelf
from processors.placing.watches import Rule, Watch
from schemas.exit_rules import DUPLICATE as KNOWN_TRIGGER
from schemas.exit_rules import POLICY, RuleSpec, watch_key
from schemas.order_ids import trigger_name

APPLIED, DUPLICATE = "applied", "duplicate"
NOT_FINAL = "not_final"  # a result after which more will come
NOT_AN_EXIT = "not_an_exit"  # the result of somebody's own order

MOST_RELEASED = 2_000
KEEP_RELEASED = 1_000
"""Released watches of a partition: at MOST_RELEASED the oldest get tombstones, KEEP_RELEASED are left."""

UNRECONCILED, UNEXPLAINED = "unreconciled", "unexplained"

Policies = Mapping[tuple[str, str], tuple[tuple[str, RuleSpec], ...]]
"""By account and asset class: the default rules with their names."""


@dataclass(frozen=True, slots=True)
class Change:
    """A watch to be written in the partition of `symbol`; a tombstone where it is over and done with."""

    key: bytes
    watch: Watch
    tombstone: bool = False

    @property
    def symbol(self) -> str:
        """Whose prices it watches."""
        return str(self.watch["symbol"])


class Desk:
    """The live objects of one partition over the rows that its table keeps."""

    def __init__(self, records: Records, policies: Policies) -> None:
        self.shelf = Shelf(records)
        self._policies = policies
        self._unreconciled: dict[str, Cause] = {}
        self._due: dict[Place, Cause] = {}
        for place, written in self.shelf.watches.items():
            for watch in written.values():
                self._look(place, _cause(watch))
        for place, guarded in self.shelf.guarded.items():
            self._look(place, guarded.position.cause)

    # ---------------------------------------------------------------- in

    def fold_rule(self, record: Mapping[str, Any], offset: int) -> str:
        """A rule that was set or removed; returns what became of it.

        Raises:
            ConfigError: its spec has mistakes.
        """
        place = record["account"], record["symbol"]
        _, following = self.shelf.rules.get(place, {}).get(record["rule"], (None, 0))
        if offset < following:
            return DUPLICATE
        self.shelf.put_rule(record, offset + 1)
        guarded = self.shelf.guarded.get(place)
        if guarded is not None and record["active"]:
            epoch = guarded.position.epoch
            before = self.shelf.attempt(place, epoch)
            if (after := before.wanted_again()) is not before:
                self.shelf.put_attempt(place, epoch, after)
        self._look(place, _cause(record))
        return APPLIED

    def fold_result(self, record: Mapping[str, Any]) -> str:
        """What the executor said of an intent; returns what became of it. A repeated one changes nothing.

        Raises:
            ValueError: its trigger_id is none of a position's.
        """
        exit_epoch = exit_epoch_of(record)
        if exit_epoch is None:
            return NOT_AN_EXIT
        if not record["final"] or record["outcome"] == KNOWN_TRIGGER:
            return NOT_FINAL
        place, epoch = (record["account"], record["symbol"]), record["position_epoch"]
        before = self.shelf.attempt(place, epoch)
        after = before.ended(exit_epoch, record)
        if after is before:
            return DUPLICATE
        # Kept even if the position is not known yet: a table that is folded anew may read results first.
        self.shelf.put_attempt(place, epoch, after)
        self._look(place, _cause(record))
        return APPLIED

    def position(self, now: Position) -> None:
        """A position as the portfolio has it now; the same one again changes nothing."""
        place = now.account, now.symbol
        guarded = self.shelf.guarded.get(place)
        before = None if guarded is None else guarded.position
        if before is not None and before.splits:
            now = replace(now, splits=basis.kept(before.splits, now.splits, now.forgotten_ts))
        known = 0 if guarded is None else guarded.confirmed_ts
        confirmed = max(known, now.confirmed_ts)
        attempt = self.shelf.attempt(place, now.epoch)
        moved = attempt.moved(before, now)
        if moved is not attempt:
            self.shelf.put_attempt(place, now.epoch, moved)
        elif confirmed == known and (now.same(before) if before is not None else not now.epoch):
            return
        self.shelf.put_position(place, Guarded(now, confirmed))
        cause = now.cause
        if (
            confirmed != known and now.broker is not None
        ):  # the first word of its day: prices count from then on
            cause = max(cause, Cause(now.broker[1], now.broker[1], "rest"))
        self._look(place, cause)

    def unreconciled(self, accounts: Mapping[str, Cause]) -> None:
        """The accounts of whose order events something may be missing, each with what said so last."""
        turned = self._unreconciled.keys() ^ accounts.keys()
        causes = {**self._unreconciled, **accounts}
        self._unreconciled = dict(accounts)
        for place in self.shelf.guarded:
            if place[0] in turned:
                self._look(place, causes[place[0]])

    # ---------------------------------------------------------------- out

    def __bool__(self) -> bool:
        return bool(self._due)

    def take(self) -> list[Change]:
        """What is to be written, in order; `written` must be told once it is on its way, `again` if not."""
        due, self._due = self._due, {}
        changes = [change for place, cause in due.items() for change in self._differing(place, cause)]
        return changes + list(self._tombstones({change.key for change in changes}))

    def written(self, changes: Iterable[Change]) -> None:
        """These are in Kafka's hands: they need not be written again."""
        for change in changes:
            if change.tombstone:
                self.shelf.drop_watch(change.key, change.watch)
            else:
                self.shelf.put_watch(change.key, change.watch)

    def again(self, changes: Iterable[Change]) -> None:
        """These could not be written."""
        for change in changes:
            self._look((change.watch["account"], change.watch["position_symbol"]), _cause(change.watch))

    def counts(self) -> tuple[int, int]:
        """Watches that are active, and those of them that the account side holds."""
        active = [w for written in self.shelf.watches.values() for w in written.values() if w["active"]]
        return len(active), sum(watch["held"] is not None for watch in active)

    # ---------------------------------------------------------------- inside

    def _look(self, place: Place, cause: Cause) -> None:
        self._due[place] = max(cause, self._due.get(place, cause))

    def _differing(self, place: Place, cause: Cause) -> Iterator[Change]:
        written, wanted = self.shelf.watches.get(place, {}), self._wanted(place, cause)
        for key, former in written.items():
            if former["active"] and key not in wanted:
                yield Change(key, watches.released(former, cause))
        for key, watch in wanted.items():
            known = written.get(key)
            if known is None or not watches.says_the_same(known, watch):
                yield Change(key, watch)

    def _wanted(self, place: Place, cause: Cause) -> dict[bytes, Watch]:
        guarded = self.shelf.guarded.get(place)
        if guarded is None or not guarded.position.quantity:
            return {}
        p, attempt = guarded.position, self.shelf.attempt(place, guarded.position.epoch)
        held = self._held(p)
        made = [
            watches.watch(p, rule, attempt, held, guarded.basis_ts, guarded.confirmed_ts, cause)
            for rule in self._rules(place, p.asset_class)
        ]
        return {watch_key(watch): watch for watch in made}

    def _rules(self, place: Place, asset_class: str) -> list[Rule]:
        """Those that were set, and the default ones that nobody set or removed under their name."""
        default = self._policies.get((place[0], asset_class), ())
        rules: dict[str, Rule | None] = {name: Rule(name, spec, 0, POLICY) for name, spec in default}
        rules |= {name: rule for name, (rule, _) in self.shelf.rules.get(place, {}).items()}
        return [rule for _, rule in sorted(rules.items()) if rule is not None]

    def _held(self, p: Position) -> str | None:
        if p.account in self._unreconciled:
            return UNRECONCILED
        return UNEXPLAINED if p.unexplained else None

    def _tombstones(self, changing: set[bytes]) -> Iterator[Change]:
        released = self.shelf.released
        if len(released) < MOST_RELEASED:
            return
        for key in list(released)[: len(released) - KEEP_RELEASED]:
            if key not in changing:
                yield Change(key, self.shelf.released_watch(key), tombstone=True)


def exit_epoch_of(result: Mapping[str, Any]) -> int | None:
    """The exit epoch of a result; None: it is not of an exit.

    Raises:
        ValueError: its trigger_id does not name its account, symbol and position epoch.
    """
    trigger, epoch = result["trigger_id"], result["position_epoch"]
    if trigger is None or epoch is None:
        return None
    last = trigger.rpartition(":")[2]
    number = int(last) if last.isascii() and last.isdigit() else -1
    if trigger != trigger_name(result["account"], result["symbol"], epoch, number):
        raise ValueError(f"trigger {trigger!r} is not of {result['account']}, {result['symbol']}, {epoch}")
    return number


def _cause(record: Mapping[str, Any]) -> Cause:
    return Cause(record["received_ts"], record["ts"], record["source"])
