"""The default exits of an account: rules for every position of an asset class, read from accounts.toml. Pure.

::

    [[accounts.paper-1.exits.us_equity]]
    kind = "stop_loss"
    percent = 5

    [[accounts.paper-1.exits.us_equity]]
    name = "lock-in"              # the default is the kind
    kind = "trailing_stop"
    trail_percent = 2.5

A rule that a user sets or removes under the same name for one symbol takes its place there.
"""

from __future__ import annotations

from typing import Any

from tidewire.errors import ConfigError
from tidewire.exit_spec import ASSET_CLASSES, NAME, RuleSpec, parse

Policy = tuple[tuple[str, str, RuleSpec], ...]
"""Asset class, name and rule, in the file's order."""

_OF_ONE_SYMBOL = ("price", "at", "reference_symbol")


def read(where: str, raw: Any, problems: list[str]) -> Policy:
    """The default exits of an account's table `exits`; its mistakes are added to `problems`."""
    if not isinstance(raw, dict):
        problems.append(f"{where} must be a table of asset classes: {', '.join(ASSET_CLASSES)}")
        return ()
    found: list[tuple[str, str, RuleSpec]] = []
    for asset_class, rules in raw.items():
        here = f"{where}.{asset_class}"
        if asset_class not in ASSET_CLASSES:
            problems.append(f"{here}: no such asset class; known are {', '.join(ASSET_CLASSES)}")
        elif not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            problems.append(
                f"{here} must be a list of rules, each under [[accounts.NAME.exits.{asset_class}]]"
            )
        else:
            found += _rules(here, asset_class, rules, problems)
    return tuple(found)


def _rules(
    here: str, asset_class: str, rules: list[dict[str, Any]], problems: list[str]
) -> list[tuple[str, str, RuleSpec]]:
    found: list[tuple[str, str, RuleSpec]] = []
    for number, rule in enumerate(rules, 1):
        place = f"{here}, rule {number}"
        name = rule.get("name", rule.get("kind"))
        problems += [
            f"{place}: {key} belongs to one symbol, not to a default" for key in _OF_ONE_SYMBOL if key in rule
        ]
        try:
            spec = parse({key: value for key, value in rule.items() if key != "name"})
        except ConfigError as error:
            problems += [f"{place}: {problem}" for problem in error.problems]
            continue
        if not isinstance(name, str) or not NAME.fullmatch(name):
            problems.append(f"{place}: a name is up to 40 of a-z 0-9 . _ - and begins with a letter or digit")
        elif name in [known for _, known, _ in found]:
            problems.append(f"{place}: there is a rule {name} already; give one of them another name")
        else:
            found.append((asset_class, name, spec))
    return found
