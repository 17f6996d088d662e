"""Seeded faults over the feeds of one running demo, and what must be true after each and at the end.

After each fault that costs a connection: every feed is connected again and no gap is open. At the end: the
report is complete, and what it calls unrecoverable is exactly what an independent count finds missing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import feeds_count
from tests.chaos.feeds_line import ALL_FEEDS, FEEDS, FeedsLine

VENUES = tuple(FEEDS)
LOST = ("disconnect", "stall", "slow_client", "overflow", "restart")
"""Why a gap may open after a fault."""
_NS = 10**9
_SKIPPED_WITHIN = 240.0
Tell = Callable[[str], None]


@dataclass
class FeedsOutcome:
    """What one run saw; times in seconds, the worst of each kind."""

    ran: dict[str, int] = field(default_factory=dict)
    cuts: int = 0
    over_backoff: list[float] = field(default_factory=list)
    gap_seconds: list[float] = field(default_factory=list)
    mutes_found: list[float] = field(default_factory=list)
    restarts: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    repaired_within: dict[str, float] = field(default_factory=dict)
    exit_code: int = 1
    complete: bool = False
    problems: list[str] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    """Not stored, by channel, as counted here."""
    lost_fills: int = 0
    wrongly_named: list[str] = field(default_factory=list)
    """What the report names and is stored, and what is lost and not named."""
    left_running: list[str] = field(default_factory=list)

    @property
    def lost_with_history(self) -> int:
        """Lost events of channels whose past Alpaca gives: there may be none."""
        return sum(self.lost.get(channel, 0) for channel in feeds_count.HAVE_HISTORY)

    def numbers(self) -> dict[str, Any]:
        """For chaos.json."""
        found = asdict(self)
        for name in ("over_backoff", "gap_seconds", "mutes_found"):
            values = found.pop(name)
            found[f"{name}_max"] = round(max(values), 2) if values else None
        return found | {"lost_with_history": self.lost_with_history}


Step = Callable[["Session"], None]


class Session:
    """One run's line, its chance and its outcome, given to every step."""

    def __init__(self, line: FeedsLine, seed: int, tell: Tell) -> None:
        self.line, self.chance, self.outcome, self.tell = line, random.Random(seed), FeedsOutcome(), tell

    def did(self, what: str, times: int = 1) -> None:
        """Count it."""
        self.outcome.ran[what] = self.outcome.ran.get(what, 0) + times

    def mended(self, feeds: Sequence[str], since_ns: int) -> None:
        """Wait until these feeds were lost and are back, and every gap that this opened is closed."""
        found = self.line.reconnected(feeds, since_ns)
        self.outcome.over_backoff += [reconnect.over for reconnect in found]
        self.outcome.gap_seconds.append(self.line.gaps_closed(feeds, since_ns, LOST))

    def whole(self) -> None:
        """Wait until all feeds are connected and no gap is open."""
        self.line.connected(ALL_FEEDS)
        self.line.none_open()


# -- steps


def cuts(kinds: Sequence[str] = ("drop", "half_frame", "close"), venues: Sequence[str] = VENUES) -> Step:
    """Cut every venue's sockets, each in its own way."""

    def step(session: Session) -> None:
        since = time.time_ns()
        how: list[str] = []
        feeds: list[str] = []
        for venue in venues:
            kind = session.chance.choice(kinds)
            hit = session.line.fault(kind=kind, venue=venue)["sockets"]
            if hit:
                feeds += FEEDS[venue]
            session.did(kind, hit)
            session.outcome.cuts += hit
            how.append(f"{venue} {kind}")
        session.mended(feeds, since)
        over, gap = session.outcome.over_backoff[-len(feeds) :], session.outcome.gap_seconds[-1]
        session.tell(f"cut {', '.join(how)}: back {max(over):.1f} s beyond the backoff, gaps {gap:.1f} s")

    return step


def mute(*venues: str) -> Step:
    """The sockets stay open and say nothing more."""
    feeds = [feed for venue in venues for feed in FEEDS[venue]]

    def step(session: Session) -> None:
        since = time.time_ns()
        for venue in venues:
            session.line.fault(kind="mute", venue=venue)
            session.did("mute")
        for feed in feeds:
            found = session.line.lost(feed, since)
            session.outcome.mutes_found.append(found)
            session.tell(f"mute {feed}: found after {found:.1f} s")
        session.line.reconnected(feeds, since)
        session.outcome.gap_seconds.append(session.line.gaps_closed(feeds, since, LOST))

    return step


def refused(name: str, venue: str, *faults: Mapping[str, Any], undo: Mapping[str, Any] | None = None) -> Step:
    """Something refuses what is tried, and then the sockets are cut, so that it is tried."""

    def step(session: Session) -> None:
        since = time.time_ns()
        for body in faults:
            session.line.fault(**{"venue": venue, **body})
        session.line.fault(kind="drop", venue=venue)
        session.line.reconnected(FEEDS[venue], since)
        session.outcome.gap_seconds.append(session.line.gaps_closed(FEEDS[venue], since, LOST))
        session.did(name)
        session.tell(f"{name} at {venue}: whole again after {(time.time_ns() - since) / _NS:.1f} s")
        if undo is not None:
            session.line.fault(**{"venue": venue, **undo})
            cuts(("drop",), (venue,))(session)

    return step


def ends(name: str, venue: str, **body: Any) -> Step:
    """A fault that ends the connection by itself."""

    def step(session: Session) -> None:
        since = time.time_ns()
        session.line.fault(venue=venue, **body)
        session.line.reconnected(FEEDS[venue], since)
        session.outcome.gap_seconds.append(session.line.gaps_closed(FEEDS[venue], since, LOST))
        session.did(name)
        session.tell(f"{name} at {venue}: whole again after {(time.time_ns() - since) / _NS:.1f} s")

    return step


def harmless(name: str, venue: str, **body: Any) -> Step:
    """A fault that must cost nothing: events go on to come over this connection, or over the next one."""

    def step(session: Session) -> None:
        session.line.fault(venue=venue, **body)
        before = session.line.rows("SELECT count(*) FROM trades")
        session.line.run.wait_for(
            lambda: session.line.rows("SELECT count(*) FROM trades") > before, "more trades"
        )
        session.whole()
        session.did(name)
        session.tell(f"{name} at {venue}: cost nothing")

    return step


def kill(name: str) -> Step:
    """kill -9; the feeds come back and the gap of a producer is found by its successor."""

    def step(session: Session) -> None:
        since = time.time_ns()
        took = session.line.kill(name)
        feeds: tuple[str, ...] = ()
        if name == "producer":
            feeds = tuple(feed for venue in ("stocks", "crypto", "options", "news") for feed in FEEDS[venue])
        if name == "accounts":
            feeds = FEEDS["trading"]
        session.line.connected(ALL_FEEDS)
        back = time.time_ns()
        session.line.run.wait_for(
            lambda: session.line.rows("SELECT 1 FROM trades WHERE received_ts > %s LIMIT 1", back) != [],
            f"trades that were stored after the kill of {name}",
        )
        if feeds:
            session.outcome.gap_seconds.append(session.line.gaps_closed(feeds, since, LOST))
        session.whole()
        session.outcome.restarts[name] = max(took, session.outcome.restarts.get(name, 0.0))
        session.did(f"kill {name}")
        whole = (time.time_ns() - since) / _NS
        session.tell(f"kill -9 {name}: back after {took:.1f} s, whole after {whole:.1f} s")

    return step


# -- single messages, dropped in silence

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


# -- a run


@contextmanager
def _line(folder: Path, seed: int, rate: int) -> Iterator[FeedsLine]:
    line = FeedsLine(folder, seed, rate)
    try:
        yield line
    finally:
        line.close()


def play(
    folder: Path,
    steps: Sequence[Step],
    seed: int,
    tell: Tell = lambda _: None,
    rate: int = 150,
    seconds: float = float("inf"),
) -> FeedsOutcome:
    """Run the steps one by one over one demo, then end it and count. No step begins after `seconds`."""
    began = time.monotonic()

    def tell_when(text: str) -> None:
        tell(f"{time.monotonic() - began:5.0f} s  {text}")

    with _line(folder, seed, rate) as line:
        line.open()
        tell_when("the line works")
        session = Session(line, seed, tell_when)
        for number, step in enumerate(steps):
            if time.monotonic() - began > seconds:
                tell_when(f"the time is used up: {len(steps) - number} steps are left out")
                break
            step(session)
        session.whole()
        tell_when("all is whole: the market closes")
        outcome = session.outcome
        line.run.interrupt()
        outcome.exit_code, report = line.run.finish()
        outcome.complete = report["complete"]
        outcome.problems = report["problems"]
        outcome.left_running = line.run.left_running()
    tell_when(f"the report says complete: {outcome.complete}")
    _count(folder / "home", outcome)
    tell_when(f"lost {outcome.lost}, wrongly named {len(outcome.wrongly_named)}")
    return outcome


def _count(home: Path, outcome: FeedsOutcome) -> None:
    """Hold the report against the independent count."""
    lost, outcome.lost = feeds_count.lost(home)
    unrecoverable, missing, report = feeds_count.named(home)
    outcome.wrongly_named = [f"lost and not named: {event}" for event in (lost - unrecoverable).elements()]
    outcome.wrongly_named += [f"named and stored: {event}" for event in (unrecoverable - lost).elements()]
    outcome.wrongly_named += [f"called missing: {event}" for event in missing.elements()]
    orders = feeds_count.lost_orders(home)
    outcome.lost_fills = sum(n for (_, event, _), n in orders.items() if event in ("fill", "partial_fill"))
    told = report["channels"]["order_events"]["unrecoverable"]
    if told != orders.total():
        outcome.wrongly_named.append(f"{orders.total()} order events are lost, {told} are named")
