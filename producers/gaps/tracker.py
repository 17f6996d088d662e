"""When a feed's gaps open and end: a state machine over what its connection tells. Pure.

What was subscribed when a connection ended is missing until it is subscribed again and events come. A gap
lasts meanwhile, and longer when the connection falls again before. A channel's symbol is in one lasting gap
at most. Times are ns since 1970 UTC. The methods return the states that are new, to be written in their
order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from producers.gaps import times
from schemas.gaps import (
    DISCONNECT,
    EVERY,
    OVERFLOW,
    RESTART,
    SLOW_CLIENT,
    STALL,
    Gap,
    has_history,
    opened,
)
from tidewire.clock import NS_PER_DAY, NS_PER_SECOND

SETTLE_NS = NS_PER_SECOND
"""So long after the subscription events are gathered before the newest of them ends a gap."""
QUIET_NS = 5 * NS_PER_SECOND
"""Without any event so long after the subscription, the clock ends a gap."""

STOPPED = "stopped"
_REASONS = {"mute": STALL, "slow_client": SLOW_CLIENT, "overflow": OVERFLOW}

Held = Mapping[str, tuple[str, ...]]
"""Channel to symbols."""


@dataclass(slots=True)
class _Lasting:
    """A gap without an end. `back_ns`: since when all of it that is wanted is subscribed again; `guessed`: no
    event was known when it began, so that its start is the clock's.
    """

    gap: Gap
    back_ns: int | None = None
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class LogEnd:
    """What the log holds of a feed at a start: the newest event time by channel, and when the newest record
    was received.
    """

    newest: Mapping[str, int]
    received_ts: int


class Tracker:
    """The lasting gaps of one feed.

    `delay_ns`: so much later than they happen are its events sent. Gaps that began more than `reach_ns` ago
    are not fetched any more.
    """

    def __init__(self, feed: str, epoch: int, *, delay_ns: int = 0, reach_ns: int = 7 * NS_PER_DAY) -> None:
        self._feed, self._epoch, self._delay, self._reach = feed, epoch, delay_ns, reach_ns
        self._lasting: dict[str, _Lasting] = {}
        self._missing: dict[tuple[str, str], str] = {}
        self._held: dict[str, frozenset[str]] = {}
        self._settled = False
        self._newest: Mapping[str, int] = {}
        self._received_ns: int | None = None
        self._first_ns: int | None = None
        self._known_at_loss = 0
        self._before: LogEnd | None = None

    @property
    def lasting(self) -> list[Gap]:
        """Gaps that have no end yet."""
        return [entry.gap for entry in self._lasting.values()]

    # -- a new owner

    def adopt(self, gap: Gap, now_ns: int) -> list[Gap]:
        """Go on with a lasting gap that a former owner left."""
        if gap.id in self._lasting or not gap.lasts or gap.feed != self._feed:
            return []
        taken = gap.at(max(now_ns, gap.ts + 1), owner_epoch=self._epoch)
        states, taken = self._within_reach(taken, now_ns)
        self._last(taken, guessed=False, now_ns=now_ns)
        return [*states, taken]

    def restart(self, log_end: LogEnd | None, wanted: Held, now_ns: int) -> list[Gap]:
        """Begin: what is wanted may be missing since the newest event of the log; nothing was, if it is None.

        The same holds for what is subscribed besides, until the first subscriptions are complete. Call it
        after `adopt`, and before the feed connects.
        """
        self._before = log_end if log_end is not None and log_end.newest else None
        return self._open_since_log(wanted, now_ns)

    # -- the connection

    def subscribed(self, confirmed: Held, now_ns: int) -> list[Gap]:
        """Alpaca holds these from now on; the whole list."""
        self._held = {channel: frozenset(symbols) for channel, symbols in confirmed.items()}
        self._first_ns = now_ns if self._first_ns is None else self._first_ns
        states = self._open_since_log(confirmed, now_ns)
        self._look_for_returned(now_ns)
        return states

    def settled(self, now_ns: int) -> None:
        """Everything that is wanted has been asked for and answered: what is not subscribed was released or
        refused.
        """
        self._settled = True
        self._before = None
        self._look_for_returned(now_ns)

    def data(self, newest: Mapping[str, int], received_ns: int) -> None:
        """Events came. `newest`: by channel the greatest event time, and may change later; it is kept."""
        self._newest = newest
        self._received_ns = received_ns

    def lost(self, kind: str, now_ns: int) -> list[Gap]:
        """The connection ended, or could not be made. One that we stop ourselves opens no gap: the next owner
        finds in the log since when events are missing, as it must after a kill.
        """
        for entry in self._lasting.values():
            entry.back_ns = None
        held, self._held, self._settled = self._held, {}, False
        self._known_at_loss = times.newest(self._newest) or 0
        if kind == STOPPED:
            return []
        reason = _REASONS.get(kind, DISCONNECT)
        return [
            g for channel, s in held.items() for g in self._open(channel, s, reason, self._newest, now_ns)
        ]

    def tick(self, now_ns: int) -> list[Gap]:
        """The clock went on: gaps that are over by now."""
        states = []
        for entry in list(self._lasting.values()):
            until = self._until(entry, now_ns)
            if until is not None:
                states.append(self._end(entry, until, now_ns))
        return states

    # -- steps

    def _open_since_log(self, wanted: Held, now_ns: int) -> list[Gap]:
        if self._before is None:
            return []
        before, states = self._before, []
        for channel, symbols in wanted.items():
            for gap in self._open(channel, symbols, RESTART, before.newest, now_ns):
                old, rest = self._within_reach(gap, now_ns)
                self._lasting[rest.id].gap = rest
                states += [*old, rest]
        return states

    def _open(
        self, channel: str, symbols: Iterable[str], reason: str, newest: Mapping[str, int], now_ns: int
    ) -> list[Gap]:
        new = [s for s in symbols if not {(channel, s), (channel, EVERY)} & self._missing.keys()]
        # Without any event so far, everything since the first subscription may be missing.
        blind = {} if newest else {"": now_ns if self._first_ns is None else self._first_ns}
        from_ts = times.start(channel, newest or blind, history=has_history(self._feed, channel))
        if reason != RESTART and self._plays_now():  # a quiet channel: the connection stood all the time
            from_ts = max(from_ts, now_ns - self._reach // 2)
        gaps = opened(self._feed, channel, new, reason, from_ts, now_ns, owner_epoch=self._epoch)
        for gap in gaps:
            self._last(gap, guessed=bool(blind), now_ns=None)
        return gaps

    def _last(self, gap: Gap, *, guessed: bool, now_ns: int | None) -> None:
        entry = self._lasting[gap.id] = _Lasting(gap, guessed=guessed)
        self._missing.update({(gap.channel, symbol): gap.id for symbol in gap.symbols})
        if now_ns is not None and self._returned(gap):
            entry.back_ns = now_ns

    def _within_reach(self, gap: Gap, now_ns: int) -> tuple[list[Gap], Gap]:
        """The part that is too old to be fetched, opened and closed, and the gap without it."""
        limit, live = now_ns - self._reach, self._plays_now()
        if gap.from_ts >= limit or not live:
            return [], gap
        days = self._reach / NS_PER_DAY
        (old,) = opened(
            self._feed, gap.channel, gap.symbols, gap.reason, gap.from_ts, now_ns - 1, until_ts=limit,
            owner_epoch=self._epoch,
        )  # fmt: skip
        why = f"older than TIDEWIRE_BACKFILL_DAYS={days:g} when it was found"
        return [old, old.lost(now_ns, why)], replace(gap, from_ts=limit)

    def _look_for_returned(self, now_ns: int) -> None:
        for entry in self._lasting.values():
            if entry.back_ns is None and self._returned(entry.gap):
                entry.back_ns = now_ns

    def _returned(self, gap: Gap) -> bool:
        held = self._held.get(gap.channel, frozenset())
        return self._settled or EVERY in held or held.issuperset(gap.symbols)

    def _until(self, entry: _Lasting, now_ns: int) -> int | None:
        """The event time up to which a gap reached; None: it is not over."""
        back = entry.back_ns
        if back is None:
            return None
        came = self._received_ns is not None and self._received_ns > back
        if came and now_ns >= back + SETTLE_NS:
            known = times.newest(self._newest) or 0
            if (
                self._plays_now()
            ):  # the first events may be late ones: what was missed is older than the clock
                return max(known, back - self._delay) + times.AFTER_NS
            if known > self._known_at_loss:
                return known + times.AFTER_NS
        if now_ns < back + QUIET_NS:
            return None
        if entry.gap.opened_ts - entry.gap.from_ts > self._reach:  # only a recording's; it is at its end
            return entry.gap.from_ts + self._reach // 2
        return now_ns + times.AFTER_NS

    def _end(self, entry: _Lasting, until_ts: int, now_ns: int) -> Gap:
        gap = entry.gap
        if entry.guessed and until_ts < gap.from_ts:  # the first events show that a recording plays
            blind = now_ns - gap.opened_ts
            gap = replace(gap, from_ts=max(0, until_ts - blind - times.MINUTE_NS))
        del self._lasting[gap.id]
        for symbol in gap.symbols:
            if self._missing.get((gap.channel, symbol)) == gap.id:
                del self._missing[gap.channel, symbol]
        return gap.over(max(now_ns, gap.ts + 1), until_ts)

    def _plays_now(self) -> bool:
        """Whether event time follows the clock."""
        known = times.newest(self._newest)
        if known is not None and self._received_ns is not None:
            return times.live(known, self._received_ns)
        if self._before is not None:
            known = times.newest(self._before.newest)
            return known is None or times.live(known, self._before.received_ts)
        return True
