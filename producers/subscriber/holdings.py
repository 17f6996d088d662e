"""In which symbols any account has a position, or had one a moment ago. Pure.

A symbol counts once however many accounts hold it. After the last of them has closed it, it stays for a grace
period: the fills that closed it may still be corrected, and who sells often buys again.
"""

from __future__ import annotations


class Holdings:
    """Positions by account and symbol, as the records of portfolio.positions tell them. Times in ns."""

    def __init__(self, grace_ns: int) -> None:
        self._grace_ns = grace_ns
        self._open: dict[str, dict[str, bool]] = {}
        self._classes: dict[str, str] = {}
        self._closed: dict[str, int] = {}

    def put(self, account: str, symbol: str, asset_class: str, *, is_open: bool, at: int) -> None:
        """A position as it stands since `at` (wall clock, ns).

        A closed one that is told again does not begin its grace anew.
        """
        accounts = self._open.setdefault(symbol, {})
        told_again = accounts.get(account) is False
        accounts[account] = is_open
        self._classes[symbol] = asset_class
        if not is_open and not told_again:
            self._closed[symbol] = max(at, self._closed.get(symbol, 0))

    def held(self, now: int) -> dict[str, str]:
        """Symbol to asset class of what is to be subscribed at this time (ns)."""
        return {symbol: of_class for symbol, of_class in self._classes.items() if self._is_held(symbol, now)}

    def known(self) -> dict[str, str]:
        """Symbol to asset class of every position ever told of."""
        return dict(self._classes)

    def _is_held(self, symbol: str, now: int) -> bool:
        return self._any_open(symbol) or now < self._closed.get(symbol, 0) + self._grace_ns

    def _any_open(self, symbol: str) -> bool:
        return any(self._open[symbol].values())
