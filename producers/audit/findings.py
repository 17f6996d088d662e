"""What an audit writes: records of alpaca.audits, and the gaps that it asks to be fetched. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from producers.audit.cases import Judged, Next, came_from
from producers.audit.minutes import MINUTE
from schemas import event_id, gaps
from schemas.gaps import Gap


@dataclass(frozen=True, slots=True)
class Place:
    """What was compared: a channel's minute (its start, ns). `sampled`: only some of its symbols are."""

    feed: str
    channel: str
    minute: int
    sampled: bool = False


def record(place: Place, judged: Sequence[Judged], now_ns: int, owner_epoch: int) -> dict[str, Any] | None:
    """The audit record of those that are settled or differ for good; None: nobody is."""
    told = [j for j in judged if j.next is not Next.AGAIN]
    if not told:
        return None
    differing = sorted(j.look.symbol for j in told if j.next is not Next.EQUAL)
    return content(
        place,
        sorted(j.look.symbol for j in told),
        differing,
        sum(j.look.expected for j in told),
        sum(j.look.held for j in told),
        _detail(told),
        now_ns,
        owner_epoch,
    )


def content(
    place: Place,
    symbols: Sequence[str],
    differing: Sequence[str],
    expected: int,
    held: int,
    detail: str | None,
    now_ns: int,
    owner_epoch: int,
) -> dict[str, Any]:
    """The content of a record of schema audit."""
    return {
        "feed": place.feed, "channel": place.channel, "ts": place.minute, "symbols": list(symbols),
        "differing": list(differing), "expected": expected, "held": held, "sampled": place.sampled,
        "audited_ts": now_ns, "detail": detail, "received_ts": now_ns, "source": "rest",
        "owner_epoch": owner_epoch,
        "event_id": event_id.audit_id(place.feed, place.channel, place.minute, now_ns),
    }  # fmt: skip


def _detail(told: Sequence[Judged]) -> str | None:
    parts = [
        f"{j.look.symbol}: the history has {j.look.expected}, the log {j.look.held}"
        + (f" ({j.why})" if j.why else "; asked for")
        for j in told
        if j.next is not Next.EQUAL
    ]
    return "; ".join(parts) or None


def repairs(place: Place, judged: Iterable[Judged], opened_ts: int, owner_epoch: int) -> list[Gap]:
    """The gaps to ask for: the whole minute of those that differ."""
    symbols = [j.look.symbol for j in judged if j.next is Next.REPAIR]
    if not symbols:
        return []
    start = came_from(place.channel, place.minute)
    return gaps.opened(
        place.feed,
        place.channel,
        symbols,
        gaps.AUDIT,
        start,
        opened_ts,
        until_ts=start + MINUTE - 1,
        owner_epoch=owner_epoch,
        source="rest",
        detail="an audit found a difference",
    )
