"""A partition's state as records: JSON objects by key, decoded when first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

State = dict[str, Any]


class Records:
    """States by key; the caller puts back what it has changed. Decimals are kept as text by the caller."""

    def __init__(self, version: int, stored: Mapping[bytes, bytes] | None = None) -> None:
        self.expected: dict[str, int] = {}  # by input topic, the offset that follows the last one handled
        self._version = version
        self._stored = dict(stored or {})
        self._states: dict[bytes, State] = {}
        self._changed: set[bytes] = set()

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
        self._changed.add(key)

    def delete(self, key: bytes) -> None:
        """Forget a key."""
        self._stored.pop(key, None)
        self._states.pop(key, None)
        self._changed.add(key)

    def take_changed(self) -> dict[bytes, bytes | None]:
        """The rows changed since the last call, as JSON by key; None: deleted."""
        changed, self._changed = self._changed, set()
        return {key: self._row(key) for key in sorted(changed)}

    def _row(self, key: bytes) -> bytes | None:
        state = self._states.get(key)
        return None if state is None else orjson.dumps({**state, "v": self._version})
