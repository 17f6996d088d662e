"""Whether each rule of each open position is watched, and nothing else is. Pure.

It judges a log at rest: between a fill and its watch a difference is no mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from schemas.exit_rules import RuleSpec, parse
from tidewire.accounts import Account
from tidewire.errors import ConfigError

Record = Mapping[str, Any]
Place = tuple[str, str]


def differences(
    positions: Iterable[Record], rules: Iterable[Record], watches: Iterable[Record], owners: Iterable[Account]
) -> list[str]:
    """What is wrong, in words; empty: every rule of every open position is watched, with its quantity and
    epoch, beside the right symbol, and no other watch is active. Each record is the newest of its key.
    """
    held = {(p["account"], p["symbol"]): p for p in positions if p["quantity"]}
    named = _named(rules)
    defaults = _defaults(owners)
    wanted: dict[tuple[str, str, str], tuple[str, int, Decimal]] = {}
    for place, position in held.items():
        in_force = {**defaults.get((place[0], position["asset_class"]), {}), **named.get(place, {})}
        for rule, spec in in_force.items():
            if spec is not None:
                symbol = spec.reference_symbol or place[1]
                wanted[*place, rule] = symbol, position["epoch"], position["quantity"]
    found: dict[tuple[str, str, str], list[tuple[str, int, Decimal]]] = {}
    for watch in watches:
        if watch["active"]:
            key = watch["account"], watch["position_symbol"], watch["rule"]
            found.setdefault(key, []).append((watch["symbol"], watch["position_epoch"], watch["quantity"]))
    return [
        *(
            _missing(key, said, found.get(key, []))
            for key, said in sorted(wanted.items())
            if found.get(key) != [said]
        ),
        *(f"{_name(key)} is watched, but {_why(key, held)}" for key in sorted(found.keys() - wanted.keys())),
    ]


def _named(rules: Iterable[Record]) -> dict[Place, dict[str, RuleSpec | None]]:
    """By position and name: the rule; None: removed, which takes a default one away too."""
    named: dict[Place, dict[str, RuleSpec | None]] = {}
    for rule in rules:
        try:
            spec = parse(rule["spec"]) if rule["active"] else None
        except (
            ConfigError
        ):  # a dead letter: what stood before is in force, and that is not in the log any more
            continue
        named.setdefault((rule["account"], rule["symbol"]), {})[rule["rule"]] = spec
    return named


def _defaults(owners: Iterable[Account]) -> dict[tuple[str, str], dict[str, RuleSpec]]:
    found: dict[tuple[str, str], dict[str, RuleSpec]] = {}
    for owner in owners:
        for asset_class, name, spec in owner.exits:
            found.setdefault((owner.name, asset_class), {})[name] = spec
    return found


def _missing(
    key: tuple[str, str, str], said: tuple[str, int, Decimal], found: list[tuple[str, int, Decimal]]
) -> str:
    if not found:
        return f"{_name(key)} is not watched"
    there = "; ".join(_said(one) for one in found)
    return f"{_name(key)} should watch {_said(said)}, but watches {there}"


def _said(one: tuple[str, int, Decimal]) -> str:
    return f"{one[0]} for {one[2].normalize():f} in epoch {one[1]}"


def _why(key: tuple[str, str, str], held: Mapping[Place, Record]) -> str:
    return "no such rule is in force" if key[:2] in held else "the position is closed"


def _name(key: tuple[str, str, str]) -> str:
    return f"{key[0]}: rule {key[2]} of {key[1]}"
