"""What the log says of corporate actions against what Alpaca announces now: what is to be written. Pure.

A first announcement, a change of one, one that has vanished and one that has come back are each a new event.
What the log holds already is not written again; so a restart, which reads the log, writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from producers.corporate_actions.reading import Announced, midnight, read
from schemas.event_id import corporate_action_id

What = Literal["announced", "changed", "removed"]
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class News:
    """One record to write. `what` has become of the announcement."""

    what: What
    announced: Announced
    revision: int
    """How many events of it came before."""

    def record(self, received_ts: int, owner_epoch: int) -> Record:
        """The corporate_action record; `received_ts` in ns."""
        one, removed = self.announced, self.what == "removed"
        content = (
            one.content + (f"|{self.revision}" if self.revision else "") + ("|removed" if removed else "")
        )
        return {
            "symbol": one.symbol,
            "action_id": one.action_id,
            "kind": one.kind,
            "ts": midnight(one.ex_date),
            "ex_date": one.ex_date,
            "old_rate": one.old_rate,
            "new_rate": one.new_rate,
            "cash": one.cash,
            "new_symbol": one.new_symbol,
            "removed": removed,
            "detail": one.content,
            "received_ts": received_ts,
            "source": "rest",
            "owner_epoch": owner_epoch,
            "event_id": corporate_action_id(one.symbol, one.action_id, content),
        }


@dataclass(slots=True)
class _Known:
    announced: Announced
    removed: bool
    events: int
    event_id: bytes


class Board:
    """Every action that the log tells of, as it told last."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Known] = {}

    def __len__(self) -> int:
        return sum(not known.removed for known in self._known.values())

    def take(self, record: Mapping[str, Any]) -> None:
        """A record of the log; the same event twice counts once.

        Raises:
            ValueError: its detail is not what it should be.
        """
        action = orjson.loads(record["detail"])
        told = read(record["kind"] + "s", action)
        former = self._known.get(told.key)
        if former is not None and former.event_id == record["event_id"]:
            return
        events = 1 if former is None else former.events + 1
        self._known[told.key] = _Known(told, bool(record["removed"]), events, record["event_id"])

    def missing(
        self, symbols: Collection[str], start: str, end: str, answer: Iterable[Announced]
    ) -> list[Announced]:
        """What a whole answer for these symbols and days of processing should have had and has not."""
        found, asked = {one.key for one in answer}, set(symbols)
        return [
            known.announced
            for key, known in self._known.items()
            if key not in found
            and not known.removed
            and known.announced.symbol in asked
            and start <= known.announced.process_date <= end
        ]

    def news(self, answer: Iterable[Announced], gone: Iterable[Announced] = ()) -> list[News]:
        """What must be written: of `answer` what is not known so, and that `gone` are announced no more."""
        wanted: dict[tuple[str, str], News] = {}
        for one in answer:
            known = self._known.get(one.key)
            if known is None:
                wanted[one.key] = News("announced", one, 0)
            elif known.removed or known.announced.content != one.content:
                what: What = "announced" if known.removed else "changed"
                wanted[one.key] = News(what, one, known.events)
        for one in gone:
            if one.key not in wanted:
                wanted[one.key] = News("removed", one, self._known[one.key].events)
        return list(wanted.values())
