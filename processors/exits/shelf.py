"""The live objects of one partition as the rows of its table, and what of them is to be written. Pure.

Rows by key: `trigger|id`, `fired|account|symbol` (the newest exit epoch that fired), `watch|key of the
watch`, `symbol|reference symbol`, `clock`. A crash may leave some of them written: a row is never newer than
one that stands before it in this list, so that a replay of the inputs brings the rest. A watch that is
released for good stays as a row that says so until the commit after the next, when no replay can bring it
back.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson

from processors.columns.records import Records
from processors.exits.clock import Watermark
from processors.exits.hours import Hours
from processors.exits.state import Epochs, Guard
from processors.exits.watching import Watching

VERSION = 1
"""Layout of the rows: `Records(VERSION, stored)`."""

Position = tuple[str, str]
"""Account and symbol."""

_CLOCK = b"clock"


class Shelf:
    """Loads what the table holds; `touch_*` say what is to be written at the next commit."""

    def __init__(self, records: Records, hours: Hours) -> None:
        self.records = records
        self.clock = Watermark()
        self.symbols: dict[str, Watching] = {}
        self.guards: dict[str, Guard] = {}
        self.gone: dict[str, int] = {}
        self.fired: dict[Position, Epochs] = {}
        self.fired_ts: dict[Position, int] = {}
        self.triggers: dict[str, dict[str, Any]] = {}
        self._dirty_guards: dict[str, Guard] = {}
        self.dirty_symbols: dict[str, Watching] = {}
        self._dirty_fired: dict[Position, None] = {}
        self._leaving: dict[bytes, None] = {}
        self._gone_next: dict[bytes, None] = {}
        self._load(hours)
        records.prepare = self._store

    def touch(self, guard: Guard) -> None:
        """A watch has changed."""
        self._dirty_guards[guard.key] = guard

    def forget(self, key: str, offset: int) -> None:
        """A watch is released for good, said the record at `offset`."""
        self.guards.pop(key, None)
        self._dirty_guards.pop(key, None)
        self.gone[key] = offset
        self.records.put(_watch_row(key), {"gone": offset})
        self._gone_next[_watch_row(key)] = None

    def welcome(self, key: str) -> None:
        """A watch that was released is there again."""
        self.gone.pop(key, None)
        self._gone_next.pop(_watch_row(key), None)
        self._leaving.pop(_watch_row(key), None)

    def drop_symbol(self, symbol: str) -> None:
        """Nobody watches it, and nothing of it need be kept."""
        self.symbols.pop(symbol, None)
        self.dirty_symbols.pop(symbol, None)
        self.records.delete(f"symbol|{symbol}".encode())

    def put_trigger(self, record: dict[str, Any]) -> tuple[bytes, bytes]:
        """A trigger that fired; its row as it is to be written at once: key and value."""
        key = f"trigger|{record['trigger_id']}".encode()
        row = {"state": "pending", "record": plain_trigger(record)}
        self.triggers[record["trigger_id"]] = record
        self.records.put(key, row)
        position = record["account"], record["symbol"]
        self.fired[position] = record["position_epoch"], record["exit_epoch"]
        self.fired_ts[position] = record["ts"]
        self._dirty_fired[position] = None
        return key, orjson.dumps({**row, "v": VERSION})

    def sent(self, trigger_id: str) -> dict[str, Any] | None:
        """The intent of a trigger is in the log; returns its record, None if it was said before."""
        record = self.triggers.pop(trigger_id, None)
        if record is None:
            return None
        key = f"trigger|{trigger_id}".encode()
        self.records.put(key, {"state": "sent", "record": plain_trigger(record)})
        self._gone_next[key] = None
        return {**record, "state": "sent"}

    def has_fired(self, guard: Guard) -> bool:
        """Whether its exit epoch, or a later one, has had its trigger."""
        return self.fired.get(guard.position, (-1, -1)) >= guard.epochs

    def _load(self, hours: Hours) -> None:
        for key in sorted(self.records.keys()):  # a set's order is another in each process
            kind, _, name = key.decode().partition("|")
            row = self.records.get(key)
            assert row is not None
            if kind == "watch":
                self._load_watch(key, name, row)
            elif kind == "symbol":
                self.symbols[name] = Watching.from_row(name, row, hours)
            elif kind == "trigger":
                self._load_trigger(key, name, row)
            elif kind == "fired":
                account, _, symbol = name.partition("|")
                self._fire((account, symbol), tuple(row["epochs"]), row["ts"])
            else:
                self.clock = Watermark(row["now"], row["ahead"])

    def _load_watch(self, key: bytes, name: str, row: dict[str, Any]) -> None:
        if "gone" in row:
            self.gone[name] = row["gone"]
            self._gone_next[key] = None
        else:
            self.guards[name] = Guard.from_row(name, row)

    def _load_trigger(self, key: bytes, name: str, row: dict[str, Any]) -> None:
        record = read_trigger(row["record"])
        if row["state"] == "sent":
            self._gone_next[key] = None
        else:
            self.triggers[name] = record
        position = record["account"], record["symbol"]
        self._fire(position, (record["position_epoch"], record["exit_epoch"]), record["ts"])

    def _fire(self, position: Position, epochs: tuple[int, ...], ts: int) -> None:
        first, second = epochs
        self.fired[position] = max(self.fired.get(position, (-1, -1)), (first, second))
        self.fired_ts[position] = max(self.fired_ts.get(position, 0), ts)

    def _store(self) -> None:
        fired, self._dirty_fired = self._dirty_fired, {}
        guards, self._dirty_guards = self._dirty_guards, {}
        symbols, self.dirty_symbols = self.dirty_symbols, {}
        for position in fired:
            row = {"epochs": list(self.fired[position]), "ts": self.fired_ts[position]}
            self.records.put(f"fired|{position[0]}|{position[1]}".encode(), row)
        for guard in guards.values():
            watching = self.symbols.get(guard.watch["symbol"])
            seen = {} if watching is None else watching.prices.expected
            self.records.put(_watch_row(guard.key), guard.to_row(guard.behind or seen))
        for watching in symbols.values():
            self.records.put(f"symbol|{watching.symbol}".encode(), watching.to_row())
        if fired or guards or symbols:
            self.records.put(_CLOCK, {"now": self.clock.now, "ahead": self.clock.ahead})
        for key in self._leaving:
            self.records.delete(key)
            if key.startswith(b"watch|"):
                self.gone.pop(key.decode().partition("|")[2], None)
        self._leaving, self._gone_next = self._gone_next, {}


def plain_trigger(record: dict[str, Any]) -> dict[str, Any]:
    """A trigger as a JSON object."""
    found = dict(record)
    for name in ("threshold", "high_water"):
        found[name] = None if found[name] is None else str(found[name])
    return {**found, "event_id": record["event_id"].hex()}


def read_trigger(row: dict[str, Any]) -> dict[str, Any]:
    """A trigger out of its JSON object."""
    found = dict(row)
    for name in ("threshold", "high_water"):
        found[name] = None if found[name] is None else Decimal(found[name])
    return {**found, "event_id": bytes.fromhex(row["event_id"])}


def _watch_row(key: str) -> bytes:
    return f"watch|{key}".encode()
