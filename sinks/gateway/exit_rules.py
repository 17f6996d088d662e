"""Exit rules and what they watch, as the gateway knows them: exits.rules and exits.watch, read whole. Pure.

What leaves here is asked for by account: whoever asks says which accounts the user sees.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson

from schemas.codec import Record
from schemas.exit_rules import read_parameters
from sinks.gateway.messages import Payload, moment, number

MOST_RULES = 1_000
"""Rules that one account may have; more are a program gone wild."""

_SHOWN = {
    "stopPrice": "stop_price",
    "limitPrice": "limit_price",
    "trailPrice": "trail_price",
    "trailPercent": "trail_percent",
}

Key = tuple[str, str, str]
"""Account, symbol of the position, rule."""


class ExitRules:
    """The newest rule of every name and the newest watch of each."""

    def __init__(self) -> None:
        self._rules: dict[str, dict[Key, Record]] = {}
        self._watches: dict[str, dict[Key, Record]] = {}

    def take(self, stem: str, record: Record) -> None:
        """The next record of exits.rules or exits.watch."""
        account = record["account"]
        if stem == "exit_rule":
            key = account, record["symbol"], record["rule"]
            _put(self._rules.setdefault(account, {}), key, record)
            return
        key = account, record["position_symbol"], record["rule"]
        known = self._watches.setdefault(account, {})
        if record["active"] or known.get(key, record)["symbol"] == record["symbol"]:
            _put(known, key, record)

    def count(self, account: str) -> int:
        """Rules that somebody has set on an account's positions."""
        return len(self._rules.get(account, {}))

    def find(self, account: str, symbol: str, rule: str) -> Record | None:
        """A rule that was set, or the watch of a default one; None: there is none of this name."""
        key = account, symbol, rule
        return self._rules.get(account, {}).get(key) or self._watches.get(account, {}).get(key)

    def of(self, accounts: Collection[str]) -> list[Payload]:
        """Everything of these accounts, sorted: rules that were set, and default ones of open positions."""
        found = []
        for account in sorted(accounts):
            rules, watches = self._rules.get(account, {}), self._watches.get(account, {})
            found += [_payload(key, rules.get(key), watches.get(key)) for key in sorted({*rules, *watches})]
        return found


def _put(known: dict[Key, Record], key: Key, record: Record) -> None:
    if record["active"]:
        known[key] = record
    else:
        known.pop(key, None)


def _payload(key: Key, rule: Record | None, watch: Record | None) -> Payload:
    set_by = rule["set_by"] if rule is not None else "policy"
    state = "waiting" if watch is None else "armed" if watch["held"] is None else "held"
    return {
        "account": key[0],
        "symbol": key[1],
        "rule": key[2],
        "kind": watch["kind"] if rule is None and watch is not None else _spec(rule).get("kind"),
        "spec": None if rule is None else _spec(rule),
        "setBy": set_by,
        "setAt": None if rule is None else moment(rule["ts"]),
        "state": state,
        "watch": None if watch is None else _watch_payload(watch),
    }


def _spec(rule: Record | None) -> dict[str, Any]:
    found = orjson.loads(rule["spec"]) if rule is not None else {}
    return found if isinstance(found, dict) else {}


def _watch_payload(watch: Record) -> Payload:
    return {
        "referenceSymbol": watch["symbol"],
        "reference": read_parameters(watch["parameters"]).reference,
        "quantity": number(watch["quantity"]),
        "entryPrice": number(watch["entry_price"]),
        **{shown: None if watch[name] is None else number(watch[name]) for shown, name in _SHOWN.items()},
        "held": watch["held"],
        "positionEpoch": watch["position_epoch"],
        "exitEpoch": watch["exit_epoch"],
        "lastResult": watch["result"],
    }
