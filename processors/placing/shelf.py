"""What a desk keeps of one partition, as live objects and as the rows of its table. Pure.

Rows by key: `rule|account|symbol|rule`, `position|account|symbol`, `attempts|account|symbol`, and `watch|`
with the watch's Kafka key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processors.columns.records import Records
from processors.placing import attempts, position, watches
from processors.placing.attempts import Attempt
from processors.placing.position import Position
from processors.placing.watches import Rule, Watch
from schemas.exit_rules import parse

Place = tuple[str, str]
"""Account and symbol of a position."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A position, open or closed. `confirmed_ts`: the newest session (its opening, ns) in which the broker
    has said that it holds as much; 0: none.
    """

    position: Position
    confirmed_ts: int = 0

    @property
    def basis_ts(self) -> int:
        """Of whose shares the entry price is (ns)."""
        return max(self.position.opened_ts, *(ts for ts, _ in self.position.splits), 0)


class Shelf:
    """Each `put_...` keeps a thing and its row. `next_rule`: the greatest offset that a rule had, plus 1."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.rules: dict[Place, dict[str, tuple[Rule | None, int]]] = {}
        """By name: the rule (None: removed) and the offset that follows its record."""
        self.guarded: dict[Place, Guarded] = {}
        self.attempts: dict[Place, dict[int, Attempt]] = {}
        self.watches: dict[Place, dict[bytes, Watch]] = {}
        self.released: dict[bytes, None] = {}
        """Keys of released watches, the longest released first."""
        self.next_rule = 0
        self._load()

    def attempt(self, place: Place, epoch: int) -> Attempt:
        """The attempt that is due for an epoch of a position."""
        return self.attempts.get(place, {}).get(epoch, Attempt())

    def put_rule(self, record: Mapping[str, Any], following: int) -> None:
        """A rule that was set or removed; `following`: the offset after its record.

        Raises:
            ConfigError: its spec has mistakes.
        """
        self._keep_rule(record, following)
        row = {name: record[name] for name in ("spec", "active", "ts", "set_by")}
        key = f"rule|{record['account']}|{record['symbol']}|{record['rule']}"
        self.records.put(key.encode(), row | {"next": following})

    def put_position(self, place: Place, guarded: Guarded) -> None:
        """A position that has changed."""
        self.guarded[place] = guarded
        row = position.to_row(guarded.position) | {"confirmed_ts": guarded.confirmed_ts}
        self.records.put(f"position|{place[0]}|{place[1]}".encode(), row)

    def put_attempt(self, place: Place, epoch: int, attempt: Attempt) -> None:
        """The attempt that is due for an epoch of a position."""
        known = self.attempts.setdefault(place, {})
        known[epoch] = attempt
        self.records.put(f"attempts|{place[0]}|{place[1]}".encode(), attempts.to_row(known))

    def put_watch(self, key: bytes, watch: Watch) -> None:
        """A watch as it stands in Kafka now."""
        self._keep_watch(key, watch)
        self.records.put(b"watch|" + key, watches.to_row(watch))

    def drop_watch(self, key: bytes, watch: Watch) -> None:
        """A released watch of which nothing is left in Kafka."""
        self.released.pop(key, None)
        self.watches.get(_place(watch), {}).pop(key, None)
        self.records.delete(b"watch|" + key)

    def released_watch(self, key: bytes) -> Watch:
        """The last record of a released watch."""
        row = self.records.get(b"watch|" + key)
        assert row is not None
        return watches.from_row(row)

    def _keep_rule(self, record: Mapping[str, Any], following: int) -> None:
        rule = None
        if record["active"]:
            rule = Rule(record["rule"], parse(record["spec"]), record["ts"], record["set_by"])
        place = record["account"], record["symbol"]
        self.rules.setdefault(place, {})[record["rule"]] = rule, following
        self.next_rule = max(self.next_rule, following)

    def _keep_watch(self, key: bytes, watch: Watch) -> None:
        self.watches.setdefault(_place(watch), {})[key] = watch
        self.released.pop(key, None)
        if not watch["active"]:
            self.released[key] = None

    def _load(self) -> None:
        found: list[tuple[int, bytes, Watch]] = []
        for key in sorted(self.records.keys()):
            kind, _, rest = key.decode().partition("|")
            row = self.records.get(key)
            assert row is not None
            if kind == "watch":
                watch = watches.from_row(row)
                found.append((watch["ts"], rest.encode(), watch))
            else:
                self._load_one(kind, *rest.split("|"), row=row)
        for _, key, watch in sorted(found, key=lambda one: one[:2]):
            self._keep_watch(key, watch)

    def _load_one(self, kind: str, account: str, symbol: str, rule: str = "", *, row: dict[str, Any]) -> None:
        if kind == "rule":
            self._keep_rule(row | {"account": account, "symbol": symbol, "rule": rule}, row["next"])
        elif kind == "position":
            found = position.from_row(account, symbol, row)
            self.guarded[account, symbol] = Guarded(found, row.get("confirmed_ts", 0))
        else:
            self.attempts[account, symbol] = attempts.from_row(row)


def _place(watch: Watch) -> Place:
    return watch["account"], watch["position_symbol"]
