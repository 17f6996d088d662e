"""What the screen shows of exits, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Exit:
    """One that fired, at event time `ts` (ns). `name` is the trigger's; prices in USD.

    `state`: pending, sent, ordered, or how its order ended. `latency_ns`: from the receive time of the price
    that fired it to the broker's answer; None: there is no order.
    """

    ts: int
    name: str
    rule: str
    price: float | None
    threshold: Decimal
    state: str
    latency_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Exits:
    """Rules of open positions: `armed`, and `held` by gate; then exits so far, and the newest of them first.

    `killed`: why the kill switch is on, None: it is off.
    """

    armed: int = 0
    held: Mapping[str, int] = field(default_factory=dict)
    triggered: int = 0
    ordered: int = 0
    closed: int = 0
    newest: tuple[Exit, ...] = ()
    killed: str | None = None

    @property
    def any(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.armed or self.held or self.triggered or self.killed)
