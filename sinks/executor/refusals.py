"""What a refusal of the broker means for the order, by Alpaca's code and words. Pure.

One that the table does not know ends the order and alerts: who sends it again without understanding it,
trades by accident.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sinks.executor.broker_types import Refused

Next = Literal["look_up", "clear", "look_again", "end"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about a refusal.

    `next`: look_up (an order with this id is there: find it), clear (other orders hold the shares, or would
    be crossed: cancel them, then look at the position again), look_again (the position has changed), end.
    `permanent`: no later try helps until somebody acts. `alert`: somebody should look at it.
    """

    name: str
    next: Next = "end"
    permanent: bool = False
    alert: bool = False


UNKNOWN = Verdict("unknown", alert=True)

_RULES: tuple[tuple[int | None, tuple[str, ...], Verdict], ...] = (
    # (code, or None for any; words of which one must be there, none: any; what it means), the first that fits
    (40010001, ("client_order_id must be unique",), Verdict("reused", "look_up")),
    (40310000, ("insufficient qty", "insufficient balance"), Verdict("held", "clear")),
    (40310000, ("wash trade",), Verdict("crossing", "clear")),
    (40310000, ("insufficient buying power", "insufficient day trading"), Verdict("buying_power")),
    (40310000, ("suspend",), Verdict("suspended")),
    (40310000, ("not allowed to short", "cannot be sold short"), Verdict("short", permanent=True)),
    (40310000, ("pattern day trad",), Verdict("day_trades", permanent=True)),
    (40310000, ("minimal amount of order",), Verdict("too_small", permanent=True)),
    (40310000, ("fractional",), Verdict("fractional", permanent=True)),
    (40310000, ("market hours", "market is closed", "extended hours"), Verdict("hours")),
    (42210000, ("position intent mismatch",), Verdict("flipped", "look_again")),
    (42210000, ("not found", "not active", "not tradable"), Verdict("asset", permanent=True, alert=True)),
    (42210000, ("market hours", "market is closed", "extended hours"), Verdict("hours")),
    (42210000, ("sub-penny", "increment"), Verdict("price")),
    (40110000, (), Verdict("keys", permanent=True, alert=True)),
)


def verdict(refused: Refused) -> Verdict:
    """What a refusal means."""
    words = refused.message.lower()
    for code, known, meaning in _RULES:
        if code in (None, refused.code) and (not known or any(part in words for part in known)):
            return meaning
    return Verdict("keys", permanent=True, alert=True) if refused.status == 401 else UNKNOWN
