"""A position that nobody had, and its exit rules: what they would have done over recorded prices. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from processors.portfolio.exact import exact, quotient
from schemas.codec import Record
from schemas.event_id import watch_id
from schemas.exit_rules import RuleSpec, parameters
from schemas.fills import asset_class

ACCOUNT = "what-if"
"""It has no keys, and nobody's positions."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """`quantity` (negative: short) at `entry` USD, held from the first price that is replayed."""

    symbol: str
    entry: Decimal
    quantity: Decimal
    rules: tuple[tuple[str, RuleSpec], ...]

    @property
    def symbols(self) -> frozenset[str]:
        """Whose prices its rules watch."""
        return frozenset(spec.reference_symbol or self.symbol for _, spec in self.rules)

    def watches(self, ts: int) -> Sequence[Record]:
        """Its exit_watch records, the position being opened at `ts` (event time, ns)."""
        return [self._watch(name, spec, ts) for name, spec in self.rules]

    def _watch(self, rule: str, spec: RuleSpec, ts: int) -> Record:
        price = spec.price if spec.percent is None else self._from_entry(spec)
        return {
            "symbol": spec.reference_symbol or self.symbol,
            "account": ACCOUNT,
            "position_symbol": self.symbol,
            "position_epoch": 0,
            "rule": rule,
            "ts": ts,
            "kind": spec.kind,
            "quantity": self.quantity,
            "entry_price": self.entry,
            "stop_price": price if spec.kind == "stop_loss" else None,
            "limit_price": price if spec.kind == "take_profit" else None,
            "trail_price": spec.trail_price,
            "trail_percent": spec.trail_percent,
            "parameters": parameters(spec, ts, ts, ACCOUNT),
            "active": True,
            "exit_epoch": 0,
            "asset_class": asset_class(self.symbol),
            "held": None,
            "price_basis_ts": ts,
            "result": None,
            "received_ts": 0,  # before everything: every price is its business
            "source": "replay",
            "event_id": watch_id(ACCOUNT, self.symbol, rule, 0, 0, ts),
        }

    def _from_entry(self, spec: RuleSpec) -> Decimal:
        """A percent of the entry price: below it for what a long position loses, above for a short one's."""
        assert spec.percent is not None, "it was asked for"
        lower = (spec.kind == "stop_loss") == (self.quantity > 0)
        share = 100 - spec.percent if lower else 100 + spec.percent
        with exact():
            return quotient(self.entry * share, Decimal(100))
