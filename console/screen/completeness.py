"""What is known of each feed's completeness: connections, gaps, comparisons with Alpaca's history. Pure.

For the screen a row's minute has one word, the worst of its symbols: `lost` (unrecoverable), `gap`,
`received` (in the log, not compared yet) or `audited`. The report at the end says it of each symbol
(verify/coverage.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from console.screen.channels import NEWS, ORDERS
from schemas.gaps import CLOSED, EVERY, Board, Gap, kind_of

AUDITED, RECEIVED, GAP, LOST = "audited", "received", "gap", "lost"
WORDS = (AUDITED, RECEIVED, GAP, LOST)
CRYPTO_ROW, OPTIONS_ROW, OTHERS = "crypto", "options", "others"

_MINUTE = 60_000_000_000
_KEPT_MINUTES = 240
_KEPT_CLOSED = 20
_FIRST_CHANNELS = frozenset({"trades", "quotes", "bars"})

Place = tuple[str, int]
"""A row of the screen and the start of a minute, ns."""


def row_of(feed: str, channel: str) -> str:
    """The row of the screen that a channel belongs to."""
    kind = kind_of(feed)
    if kind == "news":
        return NEWS
    if kind == "trading":
        return ORDERS
    if kind == "options":
        return OPTIONS_ROW if channel == "trades" else OTHERS
    if channel not in _FIRST_CHANNELS:
        return OTHERS
    return CRYPTO_ROW if kind == "crypto" else channel


@dataclass(frozen=True, slots=True)
class Feed:
    """One connection to Alpaca as its owner reported it last."""

    name: str
    state: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Completeness:
    """What the panel shows. Gaps are ordered by when they were noticed, `closed` the newest first.

    `lost` counts gaps of which something cannot be had back, by feed; `words` the minutes of each row.
    """

    feeds: tuple[Feed, ...] = ()
    open: tuple[Gap, ...] = ()
    closed: tuple[Gap, ...] = ()
    repaired: int = 0
    republished: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class Tracker:
    """The fold of control.connections, alpaca.gaps and alpaca.audits, and of the minutes that were seen."""

    def __init__(self) -> None:
        self._board = Board()
        self._feeds: dict[str, tuple[int, Feed]] = {}
        self._seen: set[Place] = set()
        self._audits: dict[tuple[str, str, int], dict[str, tuple[int, bool]]] = {}
        self._shown = Completeness()
        self._changed = False

    def connection(self, record: Mapping[str, Any]) -> None:
        """Take a record of control.connections."""
        name, ts = record["feed"], record["ts"]
        if ts >= self._feeds.get(name, (0, None))[0]:
            self._feeds[name] = ts, Feed(name, record["state"], record["reason"])
            self._changed = True

    def gap(self, record: Mapping[str, Any]) -> None:
        """Take a record of alpaca.gaps."""
        self._changed |= self._board.put(Gap.of(record))

    def audit(self, record: Mapping[str, Any]) -> None:
        """Take a record of alpaca.audits."""
        held = self._audits.setdefault((record["feed"], record["channel"], record["ts"]), {})
        differing = set(record["differing"])
        for symbol in record["symbols"]:
            if record["audited_ts"] >= held.get(symbol, (0, False))[0]:
                held[symbol] = record["audited_ts"], symbol not in differing
        self._changed = True

    def saw(self, row: str, ts: int) -> None:
        """Events of this row came at this event time (ns)."""
        place = row, ts - ts % _MINUTE
        if place not in self._seen:
            self._seen.add(place)
            self._changed = True

    def audited(self, feed: str, channel: str, symbol: str, ts: int) -> bool:
        """Whether the minute of this event time (ns) was compared and found equal, for this symbol."""
        held = self._audits.get((feed, channel, ts - ts % _MINUTE), {})
        return held.get(symbol, (0, False))[1]

    def show(self) -> Completeness:
        """How things stand; made anew only when something has changed."""
        if self._changed:
            self._changed = False
            self._forget()
            self._shown = self._made()
        return self._shown

    def _made(self) -> Completeness:
        closed = self._board.closed()
        repaired = [gap for gap in closed if not gap.unrecoverable]
        lost = [gap for gap in closed if gap.unrecoverable]
        shown = [*repaired[-_KEPT_CLOSED:], *lost[-_KEPT_CLOSED:]]
        return Completeness(
            feeds=tuple(feed for _, (_, feed) in sorted(self._feeds.items())),
            open=tuple(self._board.open()),
            closed=tuple(sorted(shown, key=lambda gap: -gap.ts)),
            repaired=len(repaired),
            republished=sum(gap.published for gap in repaired),
            lost=Counter(gap.feed for gap in lost),
            words=self._words([*self._board.open(), *closed]),
        )

    def _words(self, gaps: Iterable[Gap]) -> dict[str, dict[str, int]]:
        places: dict[Place, str] = dict.fromkeys(self._seen, RECEIVED)
        for (feed, channel, minute), held in self._audits.items():
            equal = all(same for _, same in held.values())
            _worsen(places, (row_of(feed, channel), minute), AUDITED if equal else GAP)
        newest = max((minute for _, minute in places), default=0)
        oldest = min((minute for _, minute in places), default=0)
        for gap in gaps:
            if (word := self._word(gap)) is not None:
                # of a channel that had nothing before, a gap begins long before anybody looked
                for minute in (m for m in _minutes(gap, newest) if m >= oldest):
                    _worsen(places, (row_of(gap.feed, gap.channel), minute), word)
        counted: dict[str, dict[str, int]] = {}
        for (row, _), word in places.items():
            words = counted.setdefault(row, dict.fromkeys(WORDS, 0))
            words[word] += 1
        return counted

    def _word(self, gap: Gap) -> str | None:
        if gap.state != CLOSED:
            return GAP
        return LOST if gap.unrecoverable and not self._equal_since(gap) else None

    def _equal_since(self, gap: Gap) -> bool:
        """Whether a later comparison found all of a gap's symbols equal after all."""
        for minute in _minutes(gap, gap.from_ts):
            held = self._audits.get((gap.feed, gap.channel, minute), {})
            symbols = held if EVERY in gap.symbols else gap.symbols
            found = [held.get(symbol, (0, False)) for symbol in symbols]
            if not found or not all(same and at > gap.ts for at, same in found):
                return False
        return True

    def _forget(self) -> None:
        """Drop what is older than the newest few hours."""
        minutes = [minute for _, minute in self._seen] + [minute for _, _, minute in self._audits]
        oldest = max(minutes, default=0) - _KEPT_MINUTES * _MINUTE
        if min(minutes, default=0) < oldest:
            self._seen = {place for place in self._seen if place[1] >= oldest}
            self._audits = {key: held for key, held in self._audits.items() if key[2] >= oldest}


def _minutes(gap: Gap, newest: int) -> Iterable[int]:
    """The minutes that a gap touches, at most the newest few hours; one that lasts goes to `newest`."""
    last = max(gap.from_ts, newest) if gap.until_ts is None else gap.until_ts
    first = max(gap.from_ts, last - _KEPT_MINUTES * _MINUTE)
    return range(first - first % _MINUTE, last + 1, _MINUTE)


_RANK = {RECEIVED: 0, AUDITED: 1, GAP: 2, LOST: 3}


def _worsen(places: dict[Place, str], place: Place, word: str) -> None:
    known = places.get(place)
    if known is None or _RANK[word] > _RANK[known]:
        places[place] = word
