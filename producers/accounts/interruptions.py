"""The gaps of one account's order events: from when to when the stream told nothing, and what became of it.

A gap begins with a lost (or silent) stream or with the start of a process, is over once the stream listens
again, and is closed by the first whole round over REST after that. REST tells every fill and how each order
ended, but not the states that an order passed through: where there may have been some, the gap says so. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.gaps import CLOSED, EVERY, Gap, opened
from tidewire.clock import NS_PER_SECOND

CHANNEL = "orders"
ALLOWANCE_NS = NS_PER_SECOND
"""A gap begins so long before what is known to be complete, and ends so long after."""
PASSING = "states between an order's beginning and its end (pending_new, new, accepted, pending_cancel ...)"

Write = Callable[[Gap], None]


@dataclass(frozen=True, slots=True)
class Repair:
    """What one whole round found.

    `known` are all events that REST told and the round compared, with their time by the broker's clock (ns);
    `told` are those of them that the log lacked. `moving` counts the orders that may have passed through
    states meanwhile.
    """

    known: Mapping[Hashable, int] = field(default_factory=dict)
    told: frozenset[Hashable] = frozenset()
    moving: int = 0


class Interruptions:
    """Of one account. `write` takes every state; `former` are gaps that an earlier process left open."""

    def __init__(self, feed: str, epoch: int, write: Write, former: Iterable[Gap] = ()) -> None:
        self._feed, self._epoch, self._write = feed, epoch, write
        self._open = {gap.id: gap for gap in former}
        self._counted: dict[str, set[Hashable]] = {}
        self._moving: dict[str, int] = {}
        self._last_opened = 0

    @property
    def lasting(self) -> bool:
        """Whether there is one whose end is not known."""
        return any(gap.lasts for gap in self._open.values())

    @property
    def ended(self) -> frozenset[str]:
        """Names of those that are over and not closed."""
        return frozenset(gap.id for gap in self._open.values() if not gap.lasts)

    def begin(self, reason: str, from_ts: int, now: int, *, without: str | None = None) -> None:
        """The stream tells nothing from `from_ts` (the broker's clock) on; one that lasts goes on instead.

        `without` says why passing states will not be had at all, as long as it lasts.
        """
        gap = next((gap for gap in self._open.values() if gap.lasts), None)
        if gap is None:
            gap = self._opened(reason, from_ts, now, None)
        elif without is None or gap.unrecoverable:
            return
        self._put(gap if without is None else replace(gap, unrecoverable=(CHANNEL,), detail=without))

    def over(self, until_ts: int, now: int) -> None:
        """The stream listens again since `until_ts` (the broker's clock)."""
        for gap in list(self._open.values()):
            if gap.lasts:
                self._put(gap.over(now, until_ts + ALLOWANCE_NS))

    def repaired(self, repair: Repair, ended: frozenset[str], now: int) -> None:
        """A round has told what was missing; the gaps that had `ended` before it began are closed by it."""
        gaps = [gap for gap in self._open.values() if not (gap.lasts and gap.unrecoverable)]
        shares = self._shares(repair, gaps, ended)
        for gap in gaps:
            mine = shares[gap.id]
            self._open[gap.id] = replace(
                gap, found=gap.found + len(mine), published=gap.published + len(mine & repair.told)
            )
            self._moving[gap.id] = max(self._moving.get(gap.id, 0), repair.moving)
        for gap in gaps:  # when all is counted: what one gap has is no other's
            if gap.id in ended:
                self._close(self._open[gap.id], self._moving[gap.id], now)

    def _shares(self, repair: Repair, gaps: list[Gap], ended: frozenset[str]) -> dict[str, set[Hashable]]:
        """Each event that is not counted yet, at the first gap that it lies in; told ones that lie in none,
        at one of those that are closed now, if there is one.
        """
        shares: dict[str, set[Hashable]] = {gap.id: set() for gap in gaps}
        for name in repair.known.keys() - set().union(*self._counted.values()):
            inside = next((gap.id for gap in gaps if gap.covers(EVERY, repair.known[name])), None)
            if inside is None and name in repair.told:
                inside = max(shares, key=lambda id: id in ended, default=None)
            if inside is not None:
                shares[inside].add(name)
                self._counted.setdefault(inside, set()).add(name)
        return shares

    def _close(self, gap: Gap, moving: int, now: int) -> None:
        lost = moving > 0 or bool(gap.unrecoverable)
        what = {"unrecoverable": (CHANNEL,), "detail": _unsaid(moving)} if lost else {"detail": None}
        self._put(gap.at(now, state=CLOSED, **what))

    def silent(self, reason: str, from_ts: int, until_ts: int, repair: Repair, now: int) -> Gap:
        """Something was lost inside a healthy connection, and REST has told it: opened and closed at once."""
        gap = self._opened(reason, from_ts, now, until_ts + ALLOWANCE_NS)
        self._put(gap)
        self.repaired(repair, frozenset((gap.id,)), now)
        return gap

    def _opened(self, reason: str, from_ts: int, now: int, until_ts: int | None) -> Gap:
        # A name is the time of opening: no two of an account may have the same.
        self._last_opened = max(now, self._last_opened + 1)
        start = from_ts - ALLOWANCE_NS
        more: dict[str, Any] = {"until_ts": until_ts, "owner_epoch": self._epoch}
        return opened(self._feed, CHANNEL, (EVERY,), reason, start, self._last_opened, **more)[0]

    def _put(self, gap: Gap) -> None:
        gap = replace(gap, owner_epoch=self._epoch)
        if gap.state == CLOSED:
            self._open.pop(gap.id, None)
            self._counted.pop(gap.id, None)
            self._moving.pop(gap.id, None)
        else:
            self._open[gap.id] = gap
        self._write(gap)


def _unsaid(moving: int) -> str:
    orders = f"of {moving} order{'s' if moving != 1 else ''} " if moving else ""
    return f"fills and ends are complete; {PASSING} {orders}cannot be had over REST"
