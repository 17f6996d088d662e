"""Single messages that the simulator drops in silence, and how long it takes until they are stored."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.feeds_line import FeedsLine
from tests.chaos.feeds_session import Session, Step

_NS = 10**9
_SKIPPED_WITHIN = 240.0

_STORED: Mapping[tuple[str, str], str] = {
    ("stocks", "trades"): "SELECT received_ts FROM trades WHERE symbol = %(symbol)s AND trade_id = %(i)s",
    ("stocks", "bars"): "SELECT received_ts FROM bars WHERE symbol = %(symbol)s AND bar_interval = 'minute'"
    " AND (extract(epoch from ts) * 1000000)::int8 * 1000 = %(ts)s AND trade_count = %(n)s",
    (
        "crypto",
        "trades",
    ): "SELECT received_ts FROM crypto_trades WHERE symbol = %(symbol)s AND trade_id = %(i)s",
    ("crypto", "bars"): "SELECT received_ts FROM crypto_bars WHERE symbol = %(symbol)s"
    " AND bar_interval = 'minute' AND (extract(epoch from ts) * 1000000)::int8 * 1000 = %(ts)s"
    " AND trade_count = %(n)s",
    ("news", "news"): "SELECT received_ts FROM news WHERE id = %(id)s AND revision >= %(ts)s",
    ("trading", "fill"): "SELECT received_ts FROM fills WHERE order_id = %(order)s"
    " AND cumulative_quantity = %(filled)s",
}
"""(venue, channel) -> when a message was received, as PostgreSQL has it; of an article that was changed
again, its later version, since Alpaca keeps no other.
"""


@dataclass(frozen=True, slots=True)
class Skip:
    """So many messages of a channel that are published and never sent."""

    venue: str
    channel: str
    count: int
    every: int = 1


def late_in_the_minute(second: int = 45) -> Step:
    """Wait for the end of a minute of event time: what is dropped then is audited soonest."""

    def step(session: Session) -> None:
        session.line.run.wait_for(lambda: time.time() % 60 >= second, "the end of the minute")

    return step


def skips(wanted: Sequence[Skip]) -> Step:
    """Drop single messages in silence and wait until all of them are stored."""

    def step(session: Session) -> None:
        line, before = session.line, len(session.line.skipped())
        for one in wanted:
            line.fault(kind="skip", venue=one.venue, channels=[one.channel], count=one.count, every=one.every)
        due = before + sum(one.count for one in wanted)
        line.run.wait_for(lambda: len(line.skipped()) >= due, "messages to skip", _SKIPPED_WITHIN)
        waiting = line.skipped()
        for venue, channel in {(one.venue, one.channel) for one in wanted}:
            _await(session, [e for e in waiting if (e["venue"], e["channel"]) == (venue, channel)])
        line.none_open()

    return step


def _await(session: Session, entries: Sequence[dict[str, Any]]) -> None:
    venue, channel = entries[0]["venue"], entries[0]["channel"]
    name, outcome = f"{venue} {channel}", session.outcome
    outcome.skipped[name] = len(entries)
    session.did(f"skip {name}", len(entries))
    due = time.monotonic() + _SKIPPED_WITHIN
    left = list(entries)
    while left and time.monotonic() < due:
        missing = []
        for entry in left:
            received = _received(session.line, entry)
            if received is None:
                missing.append(entry)
                continue
            outcome.repaired[name] = outcome.repaired.get(name, 0) + 1
            # a bar is told when its minute is over
            told = entry["ts"] + (60 * _NS if channel == "bars" else 0)
            took = round((received - told) / _NS, 1)
            outcome.repaired_within[name] = max(took, outcome.repaired_within.get(name, 0.0))
        left = missing
        if left:
            time.sleep(0.5)
    session.tell(
        f"skipped {name}: {len(entries) - len(left)} of {len(entries)} stored,"
        f" the last {outcome.repaired_within.get(name, 0.0):.1f} s after its time"
    )


def _received(line: FeedsLine, entry: Mapping[str, Any]) -> int | None:
    message = entry["message"]
    order = message.get("data", {}).get("order", {})
    values = {
        "symbol": entry["symbol"], "ts": entry["ts"], "i": message.get("i"), "n": message.get("n"),
        "id": str(message.get("id")), "order": order.get("id"), "filled": order.get("filled_qty"),
    }  # fmt: skip
    found = line.named_rows(_STORED[entry["venue"], entry["channel"]], values)
    return min((row[0] for row in found), default=None)
