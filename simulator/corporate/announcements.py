"""Corporate actions as announced: kept by id, found by symbol, kind and day of processing. Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import date
from typing import Any

Action = dict[str, Any]

SYMBOLS = ("symbol", "old_symbol", "source_symbol", "acquiree_symbol", "acquirer_symbol", "new_symbol")
"""Fields by which an action is found; an action has some of them."""
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "forward_split": ("symbol", "new_rate", "old_rate", "ex_date"),
    "reverse_split": ("symbol", "new_rate", "old_rate", "ex_date"),
    "unit_split": ("old_symbol", "new_symbol", "alternate_symbol", "old_rate", "new_rate", "alternate_rate"),
    "stock_dividend": ("symbol", "rate", "ex_date"),
    "cash_dividend": ("symbol", "rate", "ex_date"),
    "spin_off": ("source_symbol", "source_rate", "new_symbol", "new_rate", "ex_date"),
    "cash_merger": ("acquiree_symbol", "rate"),
    "stock_merger": ("acquirer_symbol", "acquirer_rate", "acquiree_symbol", "acquiree_rate"),
    "stock_and_cash_merger": (
        "acquirer_symbol", "acquirer_rate", "acquiree_symbol", "acquiree_rate", "cash_rate",
    ),
    "redemption": ("symbol", "rate"),
    "name_change": ("old_symbol", "new_symbol"),
    "worthless_removal": ("symbol",),
    "rights_distribution": ("source_symbol", "new_symbol", "rate", "ex_date", "payable_date"),
}  # fmt: skip
_EFFECTIVE = ("unit_split", "cash_merger", "stock_merger", "stock_and_cash_merger")
_CUSIPS: Mapping[str, str] = {
    "symbol": "cusip",
    "old_symbol": "old_cusip",
    "new_symbol": "new_cusip",
    "source_symbol": "source_cusip",
    "alternate_symbol": "alternate_cusip",
    "acquirer_symbol": "acquirer_cusip",
    "acquiree_symbol": "acquiree_cusip",
}
_NAME = re.compile(r"[A-Z0-9._-]{1,40}")


class Announcements:
    """What is announced now, by id."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, Action]] = {}

    def put(self, kind: str, fields: Mapping[str, Any]) -> Action:
        """Announce an action, or change the one of the same `id`; returns it as REST shows it.

        What Alpaca always sends and nobody cares for is filled in: CUSIPs, dates, flags.

        Raises:
            ValueError: no such kind, or a field that it needs is missing or none of its kind.
        """
        if kind not in _NEEDED:
            raise ValueError(f"invalid type {kind[:40]}")
        if missing := [name for name in _NEEDED[kind] if fields.get(name) in (None, "")]:
            raise ValueError(f"{kind} needs {', '.join(missing)}")
        for name, value in fields.items():
            _check(name, value)
        action = _complete(kind, dict(fields))
        self._known[action["id"]] = kind, action
        return action

    def remove(self, action_id: str) -> bool:
        """An action is announced no more; returns whether it was."""
        return self._known.pop(action_id, None) is not None

    def find(self, wanted: Mapping[str, frozenset[str]], start: str, end: str) -> list[tuple[str, Action]]:
        """(kind, action) by the day of processing, then id; `wanted` may name symbols, types, cusips, ids.

        Days are YYYY-MM-DD and inclusive; ids are looked for on every day.
        """
        found = []
        for action_id, (kind, action) in self._known.items():
            if ids := wanted.get("ids"):
                fits = action_id in ids
            else:
                fits = start <= action["process_date"] <= end and _fits(kind, action, wanted)
            if fits:
                found.append((kind, action))
        return sorted(found, key=lambda each: (each[1]["process_date"], each[1]["id"]))


def bucket(kind: str) -> str:
    """Under which name an answer lists a kind."""
    return kind + "s"


def _fits(kind: str, action: Action, wanted: Mapping[str, frozenset[str]]) -> bool:
    if (types := wanted.get("types")) and kind not in types:
        return False
    if (cusips := wanted.get("cusips")) and not cusips & {str(action.get(c)) for c in _CUSIPS.values()}:
        return False
    symbols = wanted.get("symbols")
    return not symbols or bool(symbols & {str(action.get(name)) for name in SYMBOLS})


def _complete(kind: str, fields: Action) -> Action:
    fields.setdefault("id", str(uuid.uuid4()))
    day = fields.get("ex_date") or fields.get("effective_date") or fields.get("process_date")
    fields.setdefault("process_date", day or date.today().isoformat())
    if kind in _EFFECTIVE:
        fields.setdefault("effective_date", fields["process_date"])
    if kind == "cash_dividend":
        fields.setdefault("special", False)
        fields.setdefault("foreign", False)
    for name, cusip in _CUSIPS.items():
        if name in fields and not (kind == "reverse_split" and name == "symbol"):
            fields.setdefault(cusip, _cusip(str(fields[name])))
    if kind == "reverse_split":
        fields.setdefault("old_cusip", _cusip(fields["symbol"]))
        fields.setdefault("new_cusip", _cusip(fields["symbol"] + "*"))
    return fields


def _check(name: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name.endswith("rate") and not (number and value > 0):
        raise ValueError(f"{name} must be a positive number")
    if name.endswith("_date"):
        date.fromisoformat(str(value))
    if name.endswith("symbol") and not _NAME.fullmatch(str(value)):
        raise ValueError(f"invalid {name}")


def _cusip(symbol: str) -> str:
    """Nine letters and digits that stand for a symbol."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, symbol).hex[:9].upper()
