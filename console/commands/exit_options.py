"""What is said on the command line -> rule specs. Pure; every mistake of a line in one message."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from schemas.exit_rules import NAME, RuleSpec, parse
from tidewire.errors import ConfigError

Named = list[tuple[str, RuleSpec]]

_DURATION = re.compile(r"(\d+)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Wrong(Exception):  # its text becomes one of the problems of a ConfigError
    """An option's value that cannot be understood."""


def distance(text: str, price: str = "price", percent: str = "percent") -> dict[str, str]:
    """5% or 195.50 as the fields of a spec."""
    number, is_percent = text.strip(), text.strip().endswith("%")
    return {percent: number[:-1].strip()} if is_percent else {price: number}


def duration(text: str) -> int:
    """2h, 90s, 1h30m as seconds.

    Raises:
        Wrong: it is no duration.
    """
    parts = _DURATION.findall(text.strip().lower())
    if not parts or "".join(n + unit for n, unit in parts) != text.strip().lower():
        raise Wrong(f"{text!r} is no duration, as in 90s, 5m, 2h or 1h30m")
    return sum(int(n) * _SECONDS[unit] for n, unit in parts)


def _time_stop(text: str) -> dict[str, Any]:
    return {"at": text} if "T" in text else {"after_seconds": duration(text)}


def _end_of_day(text: str) -> dict[str, Any]:
    return {"before_close_seconds": duration(text)}


def _trailing(text: str) -> dict[str, Any]:
    return distance(text, "trail_price", "trail_percent")


_KINDS: Mapping[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "stop_loss": ("--stop-loss", distance),
    "take_profit": ("--take-profit", distance),
    "trailing_stop": ("--trailing", _trailing),
    "time_stop": ("--time-stop", _time_stop),
    "end_of_day": ("--end-of-day", _end_of_day),
}


def specs(
    given: Mapping[str, str | None], bracket: str | None, rule: str | None, shared: Mapping[str, Any]
) -> Named:
    """The rules of one line by name: one a kind that is given. `shared` goes into each of them.

    A bracket is a stop loss and a take profit, as in 5%/10%. Rules are named after their kind; `rule` names
    one, or stands before the kinds of several.

    Raises:
        ConfigError: every mistake, each with its option.
    """
    problems: list[str] = []
    wanted = _bracketed({kind: text for kind, text in given.items() if text is not None}, bracket, problems)
    if not wanted and not problems:
        options = ", ".join(option for option, _ in _KINDS.values())
        problems.append(f"no rule: give one or more of {options}, --bracket")
    if rule is not None and not NAME.fullmatch(rule):
        problems.append("--rule: a name is up to 40 of a-z 0-9 . _ - and begins with a letter or digit")
    found: Named = []
    for kind, text in wanted.items():
        option, read = _KINDS[kind]
        try:
            spec = parse({"kind": kind, **read(text), **shared})
        except Wrong as error:
            problems.append(f"{option}: {error}")
        except ConfigError as error:
            problems += [f"{option} {text}: {problem}" for problem in error.problems]
        else:
            name = kind if rule is None else rule if len(wanted) == 1 else f"{rule}-{kind}"
            found.append((name, spec))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return found


def _bracketed(wanted: dict[str, str], bracket: str | None, problems: list[str]) -> dict[str, str]:
    if bracket is None:
        return wanted
    stop, slash, target = bracket.partition("/")
    if not slash or not stop.strip() or not target.strip():
        problems.append(f"--bracket {bracket}: give a stop and a target, as in 5%/10% or 180/210")
        return wanted
    for kind, text in (("stop_loss", stop), ("take_profit", target)):
        if kind in wanted:
            problems.append(f"--bracket has a {_KINDS[kind][0]} already: give one of them")
        wanted[kind] = text
    return wanted


def shared(
    on: str | None,
    reference: str | None,
    limit_offset: str | None,
    extended_hours: bool,
    foreign_orders: str | None,
    max_quote_age: float | None,
    max_hold: int | None,
) -> dict[str, Any]:
    """What goes into every rule of a line: only what was given."""
    found: dict[str, Any] = {}
    if on is not None:
        found["reference_symbol"] = on.upper()
    if reference is not None:
        found["reference"] = reference
    if limit_offset is not None:
        found["order"] = {"type": "limit", "limit_offset_percent": limit_offset.rstrip("% ")}
    if extended_hours:
        found["extended_hours"] = True
    if foreign_orders is not None:
        found["foreign_orders"] = foreign_orders
    if max_quote_age is not None:
        found["max_quote_age_seconds"] = max_quote_age
    if max_hold is not None:
        found["max_hold_seconds"] = max_hold
    return found


def in_words(spec: RuleSpec) -> str:
    """What a rule fires at, in a few words."""
    values = {name: f"{value}" for name, value in spec.measures().items()}
    if "percent" in values:
        side = "below entry" if spec.kind == "stop_loss" else "above entry"
        return f"{values['percent']}% {side} (short: the other side)"
    if "trail_percent" in values:
        return f"{values['trail_percent']}% behind the best price"
    if "trail_price" in values:
        return f"{values['trail_price']} USD behind the best price"
    if "after_seconds" in values:
        return f"{values['after_seconds']} s after it was opened"
    if "before_close_seconds" in values:
        return f"{values['before_close_seconds']} s before the close"
    return f"at {next(iter(values.values()))}"
