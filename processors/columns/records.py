"""A partition's state as records: JSON objects by key, decoded when first asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from processors.columns.matrix import FENCES
from tidewire.fence import LogFence

State = dict[str, Any]


class Records:
    """States by key; the caller puts back what it has changed. Decimals are kept as text by the caller.

    `fences`, by input topic, are kept beside them like a matrix's.

    `prepare` is called before changed rows are taken: who keeps states elsewhere puts them there.
    """

    def __init__(self, version: int, stored: Mapping[bytes, bytes] | None = None, partition: int = 0) -> None:
        self.expected: dict[str, int] = {}  # by input topic, the offset that follows the last one handled
        self._version = version
        self._stored = dict(stored or {})
        self._states: dict[bytes, State] = {}
        self._changed: dict[bytes, None] = {}
        self.prepare: Callable[[], None] | None = None
        self._fences_key = FENCES + str(partition).encode()
        self._fences_kept = self._stored.pop(self._fences_key, b"{}")
        self.fences: defaultdict[str, LogFence] = defaultdict(LogFence)
        for topic, rises in orjson.loads(self._fences_kept).items():
            self.fences[topic] = LogFence(rises)

    def __len__(self) -> int:
        return len(self._stored.keys() | self._states.keys())

    def other_version(self) -> bool:
        """Whether a row was written by another layout."""
        return any(orjson.loads(value).get("v") != self._version for value in self._stored.values())

    def keys(self) -> Iterator[bytes]:
        """Every key held, in no order."""
        return iter(self._stored.keys() | self._states.keys())

    def get(self, key: bytes) -> State | None:
        """The state of a key; the same object until it is put anew or deleted."""
        state = self._states.get(key)
        if state is None and key in self._stored:
            state = self._states[key] = orjson.loads(self._stored.pop(key))
        return state

    def put(self, key: bytes, state: State) -> None:
        """Set a state; it counts as changed until the next `take_changed`."""
        self._stored.pop(key, None)
        self._states[key] = state
        self._touch(key)

    def delete(self, key: bytes) -> None:
        """Forget a key."""
        self._stored.pop(key, None)
        self._states.pop(key, None)
        self._touch(key)

    def take_changed(self) -> dict[bytes, bytes | None]:
        """The rows changed since the last call, as JSON by key; None: deleted.

        They come in the order of their last change, deletions last: a crash amid the writing leaves rows that
        depend on others, or stand in for deleted ones, only beside those.
        """
        if self.prepare is not None:
            self.prepare()
        changed, self._changed = self._changed, {}
        rows = {key: self._row(key) for key in changed}
        rises = {topic: fence.rises for topic, fence in self.fences.items() if fence.rises}
        fences = orjson.dumps(rises, option=orjson.OPT_SORT_KEYS)
        if fences != self._fences_kept:
            rows[self._fences_key] = self._fences_kept = fences
        return dict(sorted(rows.items(), key=lambda row: row[1] is None))

    def _touch(self, key: bytes) -> None:
        self._changed.pop(key, None)
        self._changed[key] = None

    def _row(self, key: bytes) -> bytes | None:
        state = self._states.get(key)
        return None if state is None else orjson.dumps({**state, "v": self._version})
