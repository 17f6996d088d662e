"""Which decoded rules and results must not be folded, and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from processors.placing.desk import exit_epoch_of
from schemas.exit_rules import parse, rule_key, rule_record
from tidewire.errors import ConfigError


def of_rule(rule: Mapping[str, Any], key: bytes | None) -> str | None:
    """Why a rule cannot be folded; None: it can. The reason names every mistake."""
    if key != rule_key(rule["account"], rule["symbol"], rule["rule"]):
        return "its key is not account:symbol:rule"
    if not rule["active"]:
        return None
    try:
        spec = parse(rule["spec"])
        rule_record(rule["account"], rule["symbol"], rule["rule"], spec, rule["set_by"], rule["ts"])
    except ConfigError as error:
        return "; ".join(error.problems)
    return None


def of_result(result: Mapping[str, Any], key: bytes | None) -> str | None:
    """Why a result cannot be folded; None: it can."""
    if key != result["account"].encode():
        return "its key is not its account"
    try:
        exit_epoch_of(result)
    except ValueError as error:
        return str(error)
    return None
