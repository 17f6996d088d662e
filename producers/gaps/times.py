"""From which event time a gap reaches, and up to which. Pure; times in ns since 1970 UTC.

Too much is harmless, since only what the log lacks is published; too little is a hole.
"""

from __future__ import annotations

from collections.abc import Mapping

from tidewire.clock import NS_PER_DAY, NS_PER_SECOND

ALLOWANCE_NS = 10 * NS_PER_SECOND
"""Events are not sent in the order of their times: so much older than the newest may one be. Exchanges report
trades within 10 s, by FINRA's rule; what comes later is found by the audits.
"""
AFTER_NS = NS_PER_SECOND
"""The same for the first events after a gap, and for clocks that do not agree."""
MINUTE_NS = 60 * NS_PER_SECOND
NEWS_ALLOWANCE_NS = 15 * MINUTE_NS
"""An article may be sent minutes after its last change."""
LIVE_WITHIN_NS = 7 * NS_PER_DAY
"""A feed whose events are older than this at their receipt plays a recording: its time is not the clock's."""

BARS = ("bars", "updatedBars")
DAILY = "dailyBars"
RESTART_NS = 10 * NS_PER_SECOND
"""Partitions take batches one by one: so much older may be the newest event that one of them took before a
kill.
"""
_STARTS = (*BARS, DAILY)  # their times are those of the bar's start, not of its sending


def newest(by_channel: Mapping[str, int]) -> int | None:
    """The greatest event time of a feed, by channels whose events are sent as they happen; None: unknown."""
    sent = [ts for channel, ts in by_channel.items() if channel not in _STARTS]
    return max(sent or by_channel.values(), default=None)


def start(channel: str, by_channel: Mapping[str, int], *, history: bool = True) -> int:
    """From when events of a channel may be missing after the newest received ones, of which there is one.

    A channel without history takes the newest time of the whole feed: nothing is fetched for it, so the
    interval should be no wider than it was.
    """
    own = by_channel.get(channel) if history or channel in _STARTS else None
    ts = (newest(by_channel) or 0) if own is None else own
    if channel in BARS:
        sent = ts if own is not None else ts - ALLOWANCE_NS
        return max(0, sent - sent % MINUTE_NS - MINUTE_NS)
    if channel == DAILY:
        return max(0, ts if own is not None else ts - NS_PER_DAY)
    return max(0, ts - (NEWS_ALLOWANCE_NS if channel == "news" else ALLOWANCE_NS))


def in_log(newest_ts: Mapping[str, int]) -> dict[str, int]:
    """By channel the event time up to which a log surely holds everything, from its newest event times.

    Bars of a day share the topic of those of a minute, so that nothing is known of them.
    """
    return {channel: ts - RESTART_NS for channel, ts in newest_ts.items() if channel != DAILY}


def live(ts: int, received_ts: int) -> bool:
    """Whether event times follow the clock, judged by one event."""
    return abs(received_ts - ts) < LIVE_WITHIN_NS
