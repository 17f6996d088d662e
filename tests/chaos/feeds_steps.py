"""The steps of a run of faults: each spoils the feeds in one way and waits until all is whole again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.chaos.feeds_line import ALL_FEEDS, FEEDS
from tests.chaos.feeds_session import LOST, Session, Step

VENUES = tuple(FEEDS)
_NS = 10**9


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
