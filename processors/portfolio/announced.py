"""What has changed in a partition's accounts and is not sent yet. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from processors.portfolio.account import Account
from processors.portfolio.holding import Holding


@dataclass(slots=True)
class Announced:
    """What changed and is not sent yet. `steps` are positions passed on the way, ready as records.

    `marked` are positions whose price alone has moved: they may wait for what orders have changed.

    `received_ts` is the receive time in ns of the newest order event among what led to it; 0: none did.
    """

    orders: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    holdings: dict[tuple[str, str], Holding] = field(default_factory=dict)
    marked: dict[tuple[str, str], Holding] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    received_ts: int = 0

    @property
    def urgent(self) -> bool:
        """Whether order events are among what led to it."""
        return bool(self.orders or self.steps or self.holdings)

    def __bool__(self) -> bool:
        return bool(self.orders or self.steps or self.holdings or self.marked or self.accounts)
