"""How many REST requests a stream has saved: those made, beside those that polling would have made. Pure.

A position that is right within a second of its fill needs, without a stream, account, positions and orders
asked for each second.
"""

from __future__ import annotations

from collections.abc import Callable

from tidewire.metrics import TRADING_REST_POLLING

POLLED_PER_SECOND = 3
"""Requests that polling each second makes: account, positions, orders."""


class Savings:
    """Of one account. `monotonic` gives seconds; `made` the requests made so far."""

    def __init__(self, made: Callable[[], int], monotonic: Callable[[], float]) -> None:
        self._made, self._monotonic = made, monotonic
        self._began = monotonic()
        self._counted = 0

    @property
    def made(self) -> int:
        """Requests made."""
        return self._made()

    @property
    def polling(self) -> int:
        """Requests that polling each second would have made in the same time."""
        return int((self._monotonic() - self._began) * POLLED_PER_SECOND)

    @property
    def saved(self) -> float | None:
        """Part of polling's requests that were not made, at most 1; None: it is too early to say."""
        return 1 - self.made / self.polling if self.polling else None

    def count(self) -> None:
        """Bring the metric up to date."""
        polling = self.polling
        TRADING_REST_POLLING.inc(polling - self._counted)
        self._counted = polling

    def __str__(self) -> str:
        saved = self.saved
        part = "" if saved is None else f" ({saved:.1%} saved)"
        return f"{self.made} REST requests; polling each second would have made {self.polling}{part}"
