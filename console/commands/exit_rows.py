"""What `tidewire exits list` and `events` show of records. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from console.commands.exit_options import in_words
from schemas.codec import Record
from schemas.exit_rules import POLICY, RuleSpec, parse, read_parameters
from tidewire.accounts import Account
from tidewire.errors import ConfigError

HEAD = (
    "account",
    "symbol",
    "rule",
    "kind",
    "fires",
    "set by",
    "state",
    "at",
    "position",
    "exit",
    "last result",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A rule and what it watches. `watch` is the exit_watch record of an open position; None: there is none.

    `symbol` is `every us_equity` and the like for a default rule of an account.
    """

    account: str
    symbol: str
    rule: str
    spec: RuleSpec
    set_by: str
    watch: Record | None = None

    @property
    def state(self) -> str:
        """armed, held and why, or what it waits for."""
        if self.watch is None:
            return "default" if self.symbol.startswith("every ") else "waits for a position"
        return "armed" if self.watch["held"] is None else f"held: {self.watch['held']}"

    def cells(self) -> list[str]:
        """For a table."""
        watch = self.watch or {}
        price = watch.get("stop_price") or watch.get("limit_price")
        at = f"{watch.get('symbol')} {money(price)}" if price is not None else watch.get("symbol", "-")
        held = f"{money(watch['quantity'])} @ {money(watch['entry_price'])}" if watch else "-"
        epochs = f"{watch['position_epoch']}:{watch['exit_epoch']}" if watch else "-"
        rest = [self.set_by, self.state, at, held, epochs, watch.get("result") or "-"]
        return [self.account, self.symbol, self.rule, self.spec.kind, in_words(self.spec), *rest]

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it: money is text."""
        watch = None if self.watch is None else plain(self.watch)
        spec = json.loads(self.spec.canonical())
        names = {"account": self.account, "symbol": self.symbol, "rule": self.rule, "spec": spec}
        return names | {"set_by": self.set_by, "state": self.state, "watch": watch}


def rows(rules: Iterable[Record], watches: Iterable[Record], owners: Iterable[Account]) -> list[Row]:
    """Every rule in force: those that were set, those that a default made of a position, and the defaults."""
    open_ = {(w["account"], w["position_symbol"], w["rule"]): w for w in watches if w["active"]}
    owners = tuple(owners)
    found: dict[tuple[str, str, str], Row] = {}
    for rule in rules:
        key = rule["account"], rule["symbol"], rule["rule"]
        spec = _spec(rule)
        if rule["active"] and spec is not None:
            found[key] = Row(*key, spec, rule["set_by"], open_.get(key))
    for key, watch in open_.items():
        default = _default(owners, watch)
        if key not in found and default is not None and read_parameters(watch["parameters"]).set_by == POLICY:
            found[key] = Row(*key, default, POLICY, watch)
    for owner in owners:
        for asset_class, name, spec in owner.exits:
            key = owner.name, f"every {asset_class}", name
            found[key] = Row(*key, spec, POLICY)
    return [found[key] for key in sorted(found)]


def money(value: Decimal | None) -> str:
    """Without an exponent or needless zeros; - for None."""
    if value is None:
        return "-"
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as JSON can hold it: money as text, bytes as hex."""
    return {name: _plain(value) for name, value in record.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return money(value)
    if isinstance(value, list):
        return [plain(item) if isinstance(item, Mapping) else item for item in value]
    return value.hex() if isinstance(value, bytes) else value


def _spec(rule: Record) -> RuleSpec | None:
    try:
        return parse(rule["spec"])
    except ConfigError:  # written by somebody else; the portfolio service has dead-lettered it
        return None


def _default(owners: tuple[Account, ...], watch: Record) -> RuleSpec | None:
    wanted = watch["account"], watch["asset_class"], watch["rule"]
    named = {(o.name, asset_class, name): spec for o in owners for asset_class, name, spec in o.exits}
    return named.get(wanted)
