"""Gaps: what a record of alpaca.gaps says, how it is made, and the fold of all of them. Pure.

A gap is one channel and at most 100 symbols of a feed over an interval of event time, both ends included. Its
records have one key and come in this order, each as often as there is something new to say::

    opened, until_ts null   it lasts
    opened, until_ts set    it is over: can be fetched
    backfilled              being fetched: found and published so far
    closed                  nothing more to do
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from schemas import event_id

OPENED, BACKFILLED, CLOSED = "opened", "backfilled", "closed"
STATES = (OPENED, BACKFILLED, CLOSED)

DISCONNECT, STALL, SLOW_CLIENT, OVERFLOW = "disconnect", "stall", "slow_client", "overflow"
RESTART, AUDIT, REQUEST = "restart", "audit", "request"
REASONS = (DISCONNECT, STALL, SLOW_CLIENT, OVERFLOW, RESTART, AUDIT, REQUEST)

MOST_SYMBOLS = 100
"""Symbols of one gap."""
EVERY = "*"
"""As the one symbol of a gap: all that the feed has."""

HAS_HISTORY: Mapping[str, frozenset[str]] = {
    "stocks": frozenset({"trades", "quotes", "bars", "dailyBars"}),
    "options": frozenset({"trades"}),
    "crypto": frozenset({"trades", "quotes", "bars", "dailyBars"}),
    "news": frozenset({"news"}),
    "trading": frozenset({"orders"}),
}
"""Kind of feed -> the channels whose past Alpaca gives over REST."""


def kind_of(feed: str) -> str:
    """The kind of a feed: stocks of stocks:iex."""
    return feed.partition(":")[0]


def has_history(feed: str, channel: str) -> bool:
    """Whether Alpaca gives the past of this channel over REST; its test stream has none at all."""
    return feed != "stocks:test" and channel in HAS_HISTORY.get(kind_of(feed), frozenset())


def why_no_history(feed: str, channel: str) -> str | None:
    """Why the past of a channel cannot be had, as a closed gap's detail says it; None: it can."""
    if has_history(feed, channel):
        return None
    if channel == "updatedBars":
        return "Alpaca keeps no updatedBars; the final bar of each minute is fetched with the channel bars"
    if channel in ("corrections", "cancelErrors"):
        return f"Alpaca keeps no {channel}; its history of trades leaves out what was canceled"
    return f"Alpaca keeps no {channel} of {feed}"


@dataclass(frozen=True, slots=True)
class Gap:
    """One state of one gap. Times are ns since 1970 UTC: `from_ts` and `until_ts` event times, `ts` and
    `opened_ts` of the clock of whoever wrote it.
    """

    id: str
    feed: str
    channel: str
    symbols: tuple[str, ...]
    reason: str
    opened_ts: int
    from_ts: int
    until_ts: int | None = None
    state: str = OPENED
    ts: int = 0
    found: int = 0
    published: int = 0
    unrecoverable: tuple[str, ...] = ()
    detail: str | None = None
    placed: tuple[str, ...] = ()
    owner_epoch: int = 0
    source: str = "ws"

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Gap:
        """The gap that a record speaks of."""
        values = {f.name: record[f.name] for f in fields(cls) if f.name != "channel"}
        lists = {name: tuple(record[name]) for name in ("symbols", "unrecoverable", "placed")}
        return cls(**{**values, **lists, "channel": "".join(record["channels"][:1])})

    @property
    def key(self) -> bytes:
        """Of its Kafka records."""
        return self.id.encode()

    @property
    def lasts(self) -> bool:
        """Whether its end is not known yet."""
        return self.until_ts is None

    def covers(self, symbol: str, ts: int) -> bool:
        """Whether an event of its channel for this symbol at this event time (ns) lies in it."""
        inside = self.from_ts <= ts and (self.until_ts is None or ts <= self.until_ts)
        return inside and (symbol in self.symbols or EVERY in self.symbols)

    def at(self, ts: int, **changes: Any) -> Gap:
        """The next state, reached at `ts` (ns)."""
        return replace(self, ts=ts, **changes)

    def over(self, ts: int, until_ts: int) -> Gap:
        """Its end is known: it can be fetched."""
        return self.at(ts, until_ts=max(until_ts, self.from_ts))

    def lost(self, ts: int, detail: str) -> Gap:
        """Closed, because nothing of it can be had back."""
        until = max(self.from_ts, ts) if self.until_ts is None else self.until_ts
        return self.at(ts, state=CLOSED, until_ts=until, unrecoverable=(self.channel,), detail=detail)

    def record(self) -> dict[str, Any]:
        """The content of its record, for `codec.encode("gap", ...)`; the key is `key`."""
        content: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "channel"}
        for name in ("symbols", "unrecoverable", "placed"):
            content[name] = list(content[name])
        named = event_id.gap_id(self.id, self.state, self.ts)
        return {**content, "channels": [self.channel], "received_ts": self.ts, "event_id": named}


def opened(
    feed: str,
    channel: str,
    symbols: Iterable[str],
    reason: str,
    from_ts: int,
    opened_ts: int,
    *,
    until_ts: int | None = None,
    owner_epoch: int = 0,
    source: str = "ws",
    detail: str | None = None,
) -> list[Gap]:
    """New gaps for a channel, each of at most 100 symbols; one for all symbols where `*` is among them."""
    ordered = sorted(set(symbols))
    if EVERY in ordered:
        ordered = [EVERY]
    return [
        Gap(
            id=f"{feed}:{channel}:{opened_ts}:{part[0]}",
            feed=feed,
            channel=channel,
            symbols=part,
            reason=reason,
            opened_ts=opened_ts,
            from_ts=from_ts,
            until_ts=None if until_ts is None else max(until_ts, from_ts),
            ts=opened_ts,
            owner_epoch=owner_epoch,
            source=source,
            detail=detail,
        )
        for part in _parts(ordered)
    ]


def _parts(symbols: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(symbols), MOST_SYMBOLS):
        yield tuple(symbols[start : start + MOST_SYMBOLS])


def rank(gap: Gap) -> int:
    """How far a state is on the way from opened to closed."""
    if gap.state == OPENED:
        return 0 if gap.until_ts is None else 1
    return 1 + STATES.index(gap.state)


@dataclass(slots=True)
class Board:
    """The newest state of every gap: the fold of the records of alpaca.gaps.

    A record that is behind what is known (written again, or by an owner that has been replaced) changes
    nothing.
    """

    _gaps: dict[str, Gap] = field(default_factory=dict)
    _by_channel: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def put(self, gap: Gap) -> bool:
        """Take one record; returns whether it says something new."""
        known = self._gaps.get(gap.id)
        if known is not None and (rank(gap) < rank(known) or known.state == CLOSED or gap == known):
            return False
        self._gaps[gap.id] = gap
        self._by_channel.setdefault((gap.feed, gap.channel), set()).add(gap.id)
        return True

    def get(self, id: str) -> Gap | None:
        """The newest state of one gap."""
        return self._gaps.get(id)

    def open(self) -> list[Gap]:
        """Gaps that are not closed, the oldest first."""
        return self._sorted(gap for gap in self._gaps.values() if gap.state != CLOSED)

    def closed(self) -> list[Gap]:
        """Gaps that are closed, the oldest first; with those that are unrecoverable."""
        return self._sorted(gap for gap in self._gaps.values() if gap.state == CLOSED)

    def unrecoverable(self) -> list[Gap]:
        """Closed gaps that could not be had back, the oldest first."""
        return [gap for gap in self.closed() if gap.unrecoverable]

    def covering(self, feed: str, channel: str, symbol: str, ts: int) -> list[Gap]:
        """Every gap in which an event at this time (ns) lies, the oldest first."""
        named = self._by_channel.get((feed, channel), ())
        return self._sorted(g for id in named if (g := self._gaps[id]).covers(symbol, ts))

    def state(self, feed: str, channel: str, symbol: str, ts: int) -> str | None:
        """`gap`: missing, not yet fetched; `unrecoverable`; None: in no gap, or fetched since.

        Where closed gaps overlap, the one that was closed last says what became of the event.
        """
        found = self.covering(feed, channel, symbol, ts)
        if any(gap.state != CLOSED for gap in found):
            return "gap"
        last = max(found, key=lambda gap: (gap.ts, bool(gap.unrecoverable)), default=None)
        return "unrecoverable" if last is not None and last.unrecoverable else None

    def forget(self, before_ns: int) -> int:
        """Drop closed gaps that ended before this event time (ns), to stay small; returns how many."""
        old = [g for g in self._gaps.values() if g.state == CLOSED and (g.until_ts or 0) < before_ns]
        for gap in old:
            del self._gaps[gap.id]
            self._by_channel[gap.feed, gap.channel].discard(gap.id)
        return len(old)

    def __len__(self) -> int:
        return len(self._gaps)

    @staticmethod
    def _sorted(gaps: Iterable[Gap]) -> list[Gap]:
        return sorted(gaps, key=lambda gap: (gap.opened_ts, gap.id))
