"""What one run of faults of the feeds has at hand, and what it saw."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos import feeds_count
from tests.chaos.feeds_line import ALL_FEEDS, FeedsLine

LOST = ("disconnect", "stall", "slow_client", "overflow", "restart")
"""Why a gap may open after a fault."""
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
