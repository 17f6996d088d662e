"""What of Alpaca's history the log lacks. Pure.

An event is held when the log has its id. Events without an id of their own (quotes, option trades) are
numbered among identical ones, as the stream's are: so the right number of true repeats is published, and
nothing at the second time. A bar is held when any of its revisions says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from producers.channel import Encode, Message
from schemas.event_id import SIZE

Record = tuple[bytes, bytes]
"""Key and value."""


@dataclass(slots=True)
class Refused:
    """A row of history that can be no record, and why."""

    message: Message
    error: Exception


@dataclass(slots=True)
class Lacking:
    """What is to be published, and what became of the other messages."""

    records: list[Record] = field(default_factory=list)
    held: int = 0
    refused: list[Refused] = field(default_factory=list)


class Difference(Protocol):
    """Takes history, is told what the log holds, and says what is lacking."""

    def take(self, messages: Iterable[Message]) -> None:
        """Messages of history, in the stream's shape."""
        ...

    def know(self, record: Mapping[str, Any]) -> None:
        """A record that the log holds."""
        ...

    def lacking(self, asked_ns: int) -> Lacking:
        """Of the messages taken since the last call, what is not held; from now on it counts as held.

        `asked_ns`: when history was asked, on the clock of `received_ts`. Call it when everything is known
        that the stream had brought by then.
        """
        ...


class Events:
    """Everything that an event id names. `encode` is that of a fresh encoder."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._lacking = Lacking()
        self.held: set[bytes] = set()
        """Event ids."""

    def take(self, messages: Iterable[Message]) -> None:
        """See Difference. Encoded at once: bytes need a tenth of what messages do."""
        found, encode = self._lacking, self._encode
        records = found.records
        for message in messages:
            try:
                record = encode(message)
            except Exception as error:  # whatever it is, it is this message's alone
                found.refused.append(Refused(message, error))
            else:
                if record is None:  # history itself has it twice
                    found.held += 1
                else:
                    records.append(record)

    def know(self, record: Mapping[str, Any]) -> None:
        """See Difference."""
        self.held.add(record["event_id"])

    def lacking(self, asked_ns: int) -> Lacking:
        """See Difference."""
        found, self._lacking = self._lacking, Lacking()
        held = self.held
        # Every schema of an event ends with its id.
        records = [record for record in found.records if record[1][-SIZE:] not in held]
        found.held += len(found.records) - len(records)
        found.records = records
        held.update(value[-SIZE:] for _, value in records)
        return found


Named = tuple[str, str, int]
"""Symbol, interval, start of a bar."""


@dataclass(slots=True)
class _Held:
    newest: Mapping[str, Any]
    said: set[tuple[Any, ...]]


class BarRevisions:
    """Bars: what is lacking is the next revision of what the log holds.

    `content` reads a message, `recall` tells the encoder of `encode` the newest revision.
    """

    def __init__(
        self,
        encode: Encode,
        content: Callable[[Message], Mapping[str, Any]],
        recall: Callable[[Mapping[str, Any]], object],
    ) -> None:
        self._encode, self._content, self._recall = encode, content, recall
        self._taken: list[Message] = []
        self._held: dict[Named, _Held] = {}

    def take(self, messages: Iterable[Message]) -> None:
        """See Difference."""
        self._taken += messages

    def know(self, record: Mapping[str, Any]) -> None:
        """See Difference."""
        known = self._held.get(_named(record))
        if known is None:
            self._held[_named(record)] = _Held(record, {_numbers(record)})
            return
        known.said.add(_numbers(record))
        if record["revision"] >= known.newest["revision"]:
            known.newest = record

    def lacking(self, asked_ns: int) -> Lacking:
        """See Difference."""
        found, taken = Lacking(), self._taken
        self._taken = []
        for message in taken:
            try:
                record = self._next(message, asked_ns)
            except Exception as error:  # whatever it is, it is this message's alone
                found.refused.append(Refused(message, error))
            else:
                if record is None:
                    found.held += 1
                else:
                    found.records.append(record)
        return found

    def _next(self, message: Message, asked_ns: int) -> Record | None:
        content = self._content(message)
        known = self._held.get(_named(content))
        revision = 0
        if known is not None:
            # What the stream brought after history was asked is newer than what history said.
            if _numbers(content) in known.said or known.newest["received_ts"] > asked_ns:
                return None
            self._recall(known.newest)
            revision = known.newest["revision"] + 1
        record = self._encode(message)
        self.know({**content, "revision": revision, "received_ts": asked_ns})
        return record


def _named(bar: Mapping[str, Any]) -> Named:
    return bar["symbol"], bar["interval"], bar["ts"]


def _numbers(bar: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
    return tuple(bar[name] for name in names)
