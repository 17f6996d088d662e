"""What the machine of machine.py speaks of: where an intent is, what is learnt, what is to be done. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from sinks.executor import sizing
from sinks.executor.broker_types import BrokerOrder, NewOrder
from sinks.executor.facts import Facts
from sinks.executor.intents import Intent
from sinks.executor.refusals import Verdict
from sinks.executor.risk import Breach

ZERO = Decimal(0)

Phase = Literal["received", "clearing", "sending", "unknown", "open", "settling", "done"]


@dataclass(frozen=True, slots=True)
class State:
    """Where an intent is. Kept whole in the ledger."""

    phase: Phase = "received"
    attempt: int = 0
    order: NewOrder | None = None
    """What was last sent, or is about to be."""
    order_id: str | None = None
    doubt_ns: int | None = None
    """When an order of this attempt was last sent without an answer; None: all have been answered."""
    ending: tuple[str, str] | None = None
    """Outcome and reason that wait until no doubt is left."""
    base: Decimal | None = None
    """What was held at the first order of an exit."""
    before: Decimal = ZERO
    """Filled by former attempts, and by an order in whose place somebody has put another."""
    worth_before: Decimal = ZERO
    filled: Decimal = ZERO
    """Filled by this attempt."""
    average: Decimal | None = None
    status: str | None = None
    looks: int = 0
    waits: int = 0
    """How often others were waited for that hold the shares."""
    told: tuple[str, ...] = ()
    """What of this attempt was told already."""
    withdrawn: bool = False
    """We have asked for the end of this attempt's order, because it did not fill."""
    renewed_ns: int | None = None
    """When such an order had ended: the exit goes on at the prices of then."""
    outcome: str | None = None
    reason: str = ""
    remaining: Decimal | None = None

    @property
    def done(self) -> bool:
        """Nothing more will come of it."""
        return self.phase == "done"

    @property
    def all_filled(self) -> Decimal:
        """Filled by all attempts."""
        return self.before + self.filled

    @property
    def all_average(self) -> Decimal | None:
        """USD, over all attempts."""
        worth = self.worth_before + self.filled * (self.average or ZERO)
        return worth / self.all_filled if self.all_filled and worth else None


def as_of(intent: Intent, state: State) -> Intent:
    """The intent as it stands: one that goes on after an order that did not fill is as young as that order's
    end, and its price is to be made anew.
    """
    if state.renewed_ns is None:
        return intent
    return replace(intent, received_ts=max(intent.received_ts, state.renewed_ns), limit_price=None)


# -- what is learnt


@dataclass(frozen=True, slots=True)
class Resumed:
    """It was taken from the log, or over from an executor that is gone."""

    now: int


@dataclass(frozen=True, slots=True)
class Surveyed:
    """The broker was looked at."""

    facts: Facts


@dataclass(frozen=True, slots=True)
class Shown:
    """The broker showed the order: in answer to the POST, a look-up or a poll."""

    order: BrokerOrder
    now: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """The limit order of an exit has worked for its time and has not filled."""

    now: int


@dataclass(frozen=True, slots=True)
class Missing:
    """The broker has no order under the id."""

    now: int


@dataclass(frozen=True, slots=True)
class Denied:
    """The broker refused the POST; `verdict` says what that means."""

    reason: str
    now: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Nobody knows what became of the POST."""

    reason: str
    now: int


@dataclass(frozen=True, slots=True)
class Unsent:
    """Nothing was sent; the last look before the POST, or the broker's rate limit, forbade it.

    `outcome` None: try again; else the intent's end (refused, stale, dry_run).
    """

    reason: str
    now: int
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class Blind:
    """The broker could not be looked at."""

    reason: str
    now: int


Event = Resumed | Surveyed | Shown | Overdue | Missing | Denied | Doubtful | Unsent | Blind

# -- what to do


@dataclass(frozen=True, slots=True)
class Survey:
    """Look at the broker, after a pause (ns)."""

    pause: int = 0


@dataclass(frozen=True, slots=True)
class Clear:
    """Ask for the end of these orders after a pause (ns), then look again."""

    order_ids: tuple[str, ...]
    pause: int = 0


@dataclass(frozen=True, slots=True)
class Post:
    """Send the order, with one request. `since`: the account was ours at that time (ns) or later."""

    order: NewOrder
    since: int = 0


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask for the order by its client's id, after a pause (ns)."""

    client_order_id: str
    pause: int = 0


@dataclass(frozen=True, slots=True)
class Watch:
    """Wait for news of the order."""

    order_id: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Ask for the end of our own order, and look at it."""

    order_id: str


Action = Survey | Clear | Post | LookUp | Watch | Withdraw | None


@dataclass(frozen=True, slots=True)
class Result:
    """What to tell on orders.results."""

    outcome: str
    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class Step:
    """The new state, what to tell of it, and what to do once both are kept."""

    state: State
    action: Action
    results: tuple[Result, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides about orders. `shape` makes the order of a size (None: the intent's own), or says why none
    can be made; `check` are the risk checks."""

    max_age_ns: int
    shape: Callable[[Intent, sizing.Size | None, Facts, str], NewOrder | Breach]
    check: Callable[[Intent, NewOrder, Facts], Breach | None]
