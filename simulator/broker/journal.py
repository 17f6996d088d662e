"""The broker's memory on disk: every update that it sent, and the state that it must have after a restart.

`updates.jsonl` has one line an update. All lines of one request or quote are written at once, before a socket
gets any of them, and the last carries `state`: the orders and executions that changed, and the activities
that are no fills, each as [account, activity as REST shows it, what it does to a position]. After a kill,
lines behind the last `state` are cut off; no socket had them. `state.jsonl` has the changes without an update
(configuration, activities, marks of trailing stops, closings, samples of equity), each with the length that
updates.jsonl had, so that both can be read as one story.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from simulator.broker.amounts import text
from simulator.broker.book import Adjustment, Execution
from simulator.broker.orders import pack
from simulator.broker.updates import Changes

_NAMES = tuple(f.name for f in fields(Execution))
_DECIMAL = frozenset(f.name for f in fields(Execution) if "Decimal" in str(f.type))
_ADJUSTMENT = tuple(f.name for f in fields(Adjustment))

Entry = dict[str, Any]


class Journal:
    """Two append-only files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._updates = -1
        self._states = -1
        self._length = 0
        self.count = 0
        """Updates since the journal was last emptied."""

    def open(self, *, fresh: bool) -> list[Entry]:
        """Open for appending; returns the states of an earlier run in order, none if `fresh`.

        Raises:
            OSError: the folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if fresh else 0)
        self._updates = os.open(self._folder / "updates.jsonl", flags, 0o644)
        self._states = os.open(self._folder / "state.jsonl", flags, 0o644)
        updates, self._length = _whole_lines(self._folder / "updates.jsonl", "state")
        states, end = _whole_lines(self._folder / "state.jsonl", "at")
        os.ftruncate(self._updates, self._length)
        os.ftruncate(self._states, end)
        return list(self._merged(updates, states))

    def keep(self, changes: Changes) -> list[tuple[int, bytes]]:
        """Write what changed; returns (account, message as JSON) of each update.

        Raises:
            OSError: the disk is full or gone; then nobody may be told.
        """
        state = orjson.dumps(_state(changes))
        if not changes.updates:
            self.note({"changed": _state(changes)})
            return []
        told = [(u.account, u.ts, orjson.dumps(u.message)) for u in changes.updates]
        lines = [b'{"account":%d,"ts":%d,"message":%b' % line for line in told]
        data = b"}\n".join(lines) + b',"state":%b}\n' % state
        _write(self._updates, data)
        self._length += len(data)
        self.count += len(told)
        return [(account, message) for account, _, message in told]

    def note(self, entry: Entry) -> None:
        """Write a change that has no update.

        Raises:
            OSError: the disk is full or gone.
        """
        _write(self._states, orjson.dumps({"at": self._length, **entry}) + b"\n")

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self._updates, self._states):
            if descriptor >= 0:
                os.close(descriptor)
        self._updates = self._states = -1

    def _merged(
        self, updates: Sequence[tuple[int, Entry]], states: Sequence[tuple[int, Entry]]
    ) -> Iterator[Entry]:
        waiting = iter(states)
        state = next(waiting, None)
        for offset, line in updates:
            while state is not None and state[1]["at"] <= offset:
                yield state[1]
                state = next(waiting, None)
            self.count += 1
            event_id = line["message"]["data"]["event_id"]
            yield {"changed": line.get("state", {}), "ts": line["ts"], "event_id": event_id}
        while state is not None:
            yield state[1]
            state = next(waiting, None)


def execution_of(kept: Entry) -> Execution:
    """The execution that a journal kept."""
    values: dict[str, Any] = {
        k: Decimal(v) if k in _DECIMAL and v is not None else v for k, v in kept.items()
    }
    return Execution(**values)


def adjustment_of(kept: Entry) -> Adjustment:
    """The adjustment that a journal kept."""
    return Adjustment(**{**kept, "amount": Decimal(kept["amount"]), "base": Decimal(kept["base"])})


def _plain(value: Any) -> Any:
    return text(value) if isinstance(value, Decimal) else value


def _state(changes: Changes) -> Entry:
    executions = [
        [n, {name: _plain(getattr(e, name)) for name in _NAMES}] for n, e in changes.executions.values()
    ]
    state: Entry = {"orders": [pack(order) for order in changes.orders.values()], "executions": executions}
    if changes.activities:
        state["activities"] = [[n, body, _adjustment(a)] for n, body, a in changes.activities]
    return state


def _adjustment(adjustment: Adjustment | None) -> Entry | None:
    if adjustment is None:
        return None
    return {name: _plain(getattr(adjustment, name)) for name in _ADJUSTMENT}


def _whole_lines(path: Path, last_word: str) -> tuple[list[tuple[int, Entry]], int]:
    """((offset, line) of each line, length) up to the last line that has a word; the rest does not count."""
    lines: list[tuple[int, Entry]] = []
    offset, end, kept = 0, 0, 0
    with path.open("rb") as file:
        for raw in file:
            try:
                line = orjson.loads(raw)
            except orjson.JSONDecodeError:
                break
            if not raw.endswith(b"\n") or not isinstance(line, dict):
                break
            lines.append((offset, line))
            offset += len(raw)
            if last_word in line:
                end, kept = offset, len(lines)
    return lines[:kept], end


def _write(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])
