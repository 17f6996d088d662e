"""Messages that are published and never sent: what a healthy connection loses in silence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from simulator import rfc3339
from simulator.faults import MOST, Fault


@dataclass(slots=True)
class _Rule:
    fault: Fault
    left: int
    passed: int = 0


class Skips:
    """The skipping of one venue. `pending` is all that may be asked for every message."""

    def __init__(self, venue: str, channels: Collection[str]) -> None:
        self._venue = venue
        self._channels = channels
        self._rules: list[_Rule] = []
        self.pending = False
        self.skipped: list[dict[str, Any]] = []
        """venue, channel, symbol, time (RFC 3339), ts (ns) and message of each, at most 100,000."""

    @property
    def remaining(self) -> int:
        """How many messages are still to be skipped."""
        return sum(rule.left for rule in self._rules)

    def add(self, fault: Fault) -> None:
        """Skip the next messages that match; a count of 0 ends all skipping.

        Raises:
            ValueError: no such channel, or more than can be kept.
        """
        if not fault.count:
            self._rules.clear()
        elif unknown := (fault.channels or frozenset()) - set(self._channels):
            raise ValueError(f"no such channels of {self._venue}: {', '.join(sorted(unknown))}")
        elif len(self.skipped) + self.remaining + fault.count > MOST:
            raise ValueError(f"no more than {MOST} messages of a venue can be skipped")
        else:
            self._rules.append(_Rule(fault, fault.count))
        self.pending = bool(self._rules)

    def take(
        self,
        channels: Iterable[str],
        symbols: Iterable[str],
        ns: int,
        message: Callable[[], Any],
        account: int | None = None,
    ) -> bool:
        """Whether a message of these channels (the first is its own) and symbols is skipped; noted then."""
        names, about = list(channels), list(symbols)
        for rule in self._rules:
            if not _matches(rule.fault, names, about, account):
                continue
            rule.passed += 1
            if rule.passed % rule.fault.every:
                return False
            rule.left -= 1
            if not rule.left:
                self._rules.remove(rule)
                self.pending = bool(self._rules)
            self._note(names[0], ",".join(about), ns, message(), account)
            return True
        return False

    def _note(self, channel: str, symbol: str, ns: int, message: Any, account: int | None) -> None:
        entry = {
            "venue": self._venue,
            "channel": channel,
            "symbol": symbol,
            "time": rfc3339.show(ns),
            "ts": ns,
        }
        if account is not None:
            entry["account"] = account
        self.skipped.append({**entry, "message": message})


def _matches(fault: Fault, channels: list[str], symbols: list[str], account: int | None) -> bool:
    return (
        (fault.channels is None or not fault.channels.isdisjoint(channels))
        and (fault.symbols is None or not fault.symbols.isdisjoint(symbols))
        and (fault.accounts is None or account in fault.accounts)
    )
