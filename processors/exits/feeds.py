"""Which feeds are connected and which gaps last: what that closes for a symbol. Pure.

Only the newest word of each feed and gap counts, so they may be told again and again, in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from processors.exits.facts import Closed
from processors.exits.gates import FEED, GAP, QUOTE, TRADE
from processors.exits.hours import CRYPTO, OPTION, STOCK
from schemas.gaps import CLOSED, EVERY, Gap, kind_of

_CLASSES = {"stocks": STOCK, "options": OPTION, "crypto": CRYPTO}
_CONCERNS = {"trades": TRADE, "quotes": QUOTE, "statuses": "", "lulds": ""}
_CONNECTED = "CONNECTED"


class Feeds:
    """All feeds of prices."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[int, str, str]] = {}  # by feed: ts, state, reason
        self._since: dict[str, int] = {}
        self._gaps: dict[str, Gap] = {}
        self._ended: dict[str, int] = {}  # by gap that closed: when, so that an older word does not open it

    def connection(self, record: Mapping[str, Any]) -> str | None:
        """A connection record; returns the asset class concerned, None where it changes nothing."""
        feed, ts, state = record["feed"], record["ts"], record["state"]
        of_class = _CLASSES.get(kind_of(feed))
        known = self._states.get(feed)
        if of_class is None or (known is not None and ts < known[0]):
            return None
        self._states[feed] = ts, state, record.get("reason") or ""
        if state == _CONNECTED:
            self._since.pop(feed, None)
        else:
            self._since.setdefault(feed, ts)
        return of_class

    def gap(self, record: Mapping[str, Any]) -> Gap | None:
        """A gap record; returns the gap where it changes something."""
        gap = Gap.of(record)
        known = self._gaps.get(gap.id)
        if kind_of(gap.feed) not in _CLASSES or gap.channel not in _CONCERNS:
            return None
        if gap == known or (known is not None and gap.ts < known.ts) or gap.ts < self._ended.get(gap.id, 0):
            return None
        if gap.state == CLOSED or not gap.lasts:
            self._gaps.pop(gap.id, None)
            self._ended[gap.id] = gap.ts
            while len(self._ended) > 1_000:
                del self._ended[next(iter(self._ended))]
        else:
            self._gaps[gap.id] = gap
        return gap

    def closed(self, of_class: str, symbol: str) -> tuple[Closed, ...]:
        """Gates that these close for a symbol."""
        found: list[Closed] = []
        states = {f: s for f, s in self._states.items() if _CLASSES[kind_of(f)] == of_class}
        if states and all(state != _CONNECTED for _, state, _ in states.values()):
            found.append((FEED, f"no feed is connected ({', '.join(sorted(states))})", ""))
        found += [
            (GAP, f"a gap is open: {gap.channel} of {gap.feed}", _CONCERNS[gap.channel])
            for gap in self._gaps.values()
            if _CLASSES[kind_of(gap.feed)] == of_class and (symbol in gap.symbols or EVERY in gap.symbols)
        ]
        return tuple(sorted(found))

    def down_for(self, record: Mapping[str, Any]) -> int:
        """For how long (ns) the feed of this record has been away, by the clock of its own records."""
        since = self._since.get(record["feed"])
        return 0 if since is None else max(0, record["ts"] - since)
