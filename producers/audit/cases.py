"""What becomes of a minute that is compared: who is equal, who is looked at again, who needs a repair. Pure.

Equal is equal at the first look. A difference is looked at again after a moment, since log and history are
read at different times, and once the log has been read as far as it went at the first look: on a busy machine
that takes longer. If it stays, a gap is asked for, once; when that is closed the minute is compared
again, and a difference that outlives it is named and left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from producers.audit.comparison import Look
from producers.audit.minutes import MINUTE
from schemas.gaps import AUDIT, CLOSED, Gap

SETTLE_NS = 5_000_000_000
"""Between two looks at a difference."""
MOST_REPAIRS = 3
"""Of one symbol's minute; the next is asked for only if the last one found something."""


class Next(Enum):
    """What follows from a look."""

    EQUAL = "equal"
    AGAIN = "again"
    REPAIR = "repair"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a lane's part of the log was read, and how far it goes: next offsets by topic."""

    read: Mapping[str, int] = field(default_factory=dict)
    ends: Mapping[str, int] = field(default_factory=dict)

    def holds(self, ends: Mapping[str, int]) -> bool:
        """Whether it was read as far as it went when it had these ends."""
        return all(self.read.get(topic, 0) >= end for topic, end in ends.items())


UNKNOWN = Extent()


@dataclass(slots=True)
class _Todo:
    not_before: int = 0
    differed: bool = False
    ends: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judged:
    """A look and what follows from it; `why` a difference is left as it is."""

    look: Look
    next: Next
    why: str | None = None


@dataclass(slots=True)
class Case:
    """One channel of one minute: the symbols that are not settled yet."""

    channel: str
    minute: int
    todo: dict[str, _Todo] = field(default_factory=dict)

    @classmethod
    def of(cls, channel: str, minute: int, symbols: Iterable[str]) -> Case:
        """A case in which nobody has been compared."""
        return cls(channel, minute, {symbol: _Todo() for symbol in symbols})

    def ready(self, now_ns: int, open_gaps: Sequence[Gap]) -> list[str]:
        """Symbols to compare now; those in a gap that is not closed wait for its end."""
        waiting = [gap for gap in open_gaps if overlaps(gap, self.channel, self.minute)]
        return [
            symbol
            for symbol, todo in self.todo.items()
            if todo.not_before <= now_ns and not any(concerns(gap, symbol) for gap in waiting)
        ]

    def judge(
        self, look: Look, now_ns: int, gaps_of: Callable[[str], Sequence[Gap]], extent: Extent = UNKNOWN
    ) -> Judged:
        """What follows from a look; `gaps_of` gives the known gaps of a symbol in this minute."""
        if look.equal:
            del self.todo[look.symbol]
            return Judged(look, Next.EQUAL)
        todo = self.todo[look.symbol]
        if not todo.differed:
            todo.differed, todo.not_before, todo.ends = True, now_ns + SETTLE_NS, extent.ends
            return Judged(look, Next.AGAIN)
        if not extent.holds(todo.ends):
            todo.not_before = now_ns + SETTLE_NS
            return Judged(look, Next.AGAIN)
        why = final_reason([g for g in gaps_of(look.symbol) if g.state == CLOSED])
        if why is None:
            todo.differed, todo.not_before = False, now_ns + SETTLE_NS  # then the gap has to be closed
            return Judged(look, Next.REPAIR)
        del self.todo[look.symbol]
        return Judged(look, Next.NAMED, why)


def came_from(channel: str, minute: int) -> int:
    """When the events of a minute began to come (ns): a bar comes when its minute has ended."""
    return minute + MINUTE if channel == "bars" else minute


def overlaps(gap: Gap, channel: str, minute: int) -> bool:
    """Whether events of a minute came within a gap of their channel."""
    start = came_from(channel, minute)
    return gap.from_ts < start + MINUTE and (gap.until_ts is None or gap.until_ts >= start)


def concerns(gap: Gap, symbol: str) -> bool:
    """Whether a gap is about this symbol."""
    return symbol in gap.symbols or "*" in gap.symbols


def final_reason(closed: Sequence[Gap]) -> str | None:
    """Why a difference is not repaired (again), from the closed gaps in which it lies; None: it can be."""
    if not closed:
        return None
    last = max(closed, key=lambda gap: gap.ts)
    if last.unrecoverable:
        return f"unrecoverable: {last.detail or 'no history'}"
    repairs = [gap for gap in closed if gap.reason == AUDIT]
    if not repairs:
        return None
    if not max(repairs, key=lambda gap: gap.ts).published:
        return "a repair found nothing that the log lacks"
    if len(repairs) >= MOST_REPAIRS:
        return f"{len(repairs)} repairs did not make it equal"
    return None
