"""Exit rules as records: their keys and partitions, and what goes into a watch's `parameters`. Pure.

What a rule's `spec` may say is in tidewire/exit_spec.py, where the accounts' default policy is read too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from schemas.event_id import rule_id
from tidewire.errors import ConfigError
from tidewire.exit_spec import ASSET_CLASSES as ASSET_CLASSES
from tidewire.exit_spec import NAME as NAME
from tidewire.exit_spec import OrderSpec, SignalSpec, plain
from tidewire.exit_spec import RuleSpec as RuleSpec
from tidewire.exit_spec import parse as parse

Record = dict[str, Any]

POLICY = "policy"
"""`set_by` of a rule that nobody set: it is the account's default for positions of that class."""

PERMANENT = "permanent: "
"""How the `reason` of an order_result begins when no further attempt can help: a user has to act. The watches
then stay down (`held` is "refused") until a rule of the position is set anew."""

DUPLICATE = "duplicate"
"""`outcome` of an intent whose trigger the ledger knows already: it says nothing of the first one's fate."""

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PriceBasis:
    """What the account side knows of the shares that prices are in.

    `splits`: those that were booked to the account since the rule's prices were given, or all: when they
    took effect (ns), and how many shares became of one. `confirmed_ts`: the opening of the
    newest session (ns) in which the broker said that it holds what we think; 0: it never did.
    """

    splits: tuple[tuple[int, Decimal], ...] = ()
    confirmed_ts: int = 0


_NO_BASIS = PriceBasis()


@dataclass(frozen=True, slots=True)
class Parameters:
    """A watch's `parameters`: what its other fields do not say. Times in ns since 1970 UTC.

    `percent` is that of the rule, where its price was made from the entry price. `opened_ts`: of the
    position; a time stop counts `after_seconds` from there. `rule_ts`: when the rule was set, 0: by policy.
    `pause_seconds`: so long, in event time, after the trigger of the former exit epoch it must not fire;
    it grows while the executor refuses, and is 0 otherwise. See PriceBasis for the last two.
    """

    reference: str
    order: OrderSpec
    extended_hours: bool
    foreign_orders: str
    max_quote_age_seconds: Decimal | None
    max_hold_seconds: int
    on_signal: SignalSpec | None
    percent: Decimal | None
    after_seconds: int | None
    at_ts: int | None
    before_close_seconds: int | None
    opened_ts: int
    rule_ts: int
    set_by: str
    pause_seconds: int = 0
    splits: tuple[tuple[int, Decimal], ...] = ()
    confirmed_ts: int = 0


def parameters(
    spec: RuleSpec,
    opened_ts: int,
    rule_ts: int,
    set_by: str,
    pause_seconds: int = 0,
    basis: PriceBasis = _NO_BASIS,
) -> str:
    """The `parameters` of a watch: canonical JSON, so that equal ones are equal bytes."""
    order, signal = spec.order, spec.on_signal
    found: dict[str, Any] = {
        "reference": spec.reference,
        "order": {"type": order.type, "limit_offset_percent": _text(order.limit_offset_percent)},
        "extended_hours": spec.extended_hours,
        "foreign_orders": spec.foreign_orders,
        "max_quote_age_seconds": _text(spec.max_quote_age_seconds),
        "max_hold_seconds": spec.max_hold_seconds,
        "on_signal": signal
        and {"kind": signal.kind, "action": signal.action, "percent": _text(signal.percent)},
        "percent": _text(spec.percent),
        "after_seconds": spec.after_seconds,
        "at_ts": None if spec.at is None else int(spec.at.timestamp()) * _SECOND,
        "before_close_seconds": spec.before_close_seconds,
        "opened_ts": opened_ts,
        "rule_ts": rule_ts,
        "set_by": set_by,
        "pause_seconds": pause_seconds,
    }
    if basis.splits:
        found["splits"] = [[ts, plain(ratio)] for ts, ratio in basis.splits]
    if basis.confirmed_ts:
        found["confirmed_ts"] = basis.confirmed_ts
    return json.dumps(found, sort_keys=True, separators=(",", ":"))


def read_parameters(text: str) -> Parameters:
    """The parameters of a watch.

    Raises:
        ValueError: they are none, or hold what a rule cannot say.
    """
    found = json.loads(text)
    try:
        found["order"] = OrderSpec.model_validate(found["order"])
        if found["on_signal"] is not None:
            found["on_signal"] = SignalSpec.model_validate(found["on_signal"])
        found["splits"] = tuple((ts, Decimal(ratio)) for ts, ratio in found.get("splits", ()))
        for name in ("max_quote_age_seconds", "percent"):
            found[name] = None if found[name] is None else Decimal(found[name])
        return Parameters(**found)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"no parameters of a watch: {error!r}") from None


def rule_key(account: str, symbol: str, rule: str) -> bytes:
    """Kafka key of a rule; its partition is that of the account."""
    return f"{account}:{symbol}:{rule}".encode()


def watch_key(watch: Record) -> bytes:
    """Kafka key of a watch; its partition is that of `symbol`, the reference symbol."""
    parts = watch["symbol"], watch["account"], watch["position_symbol"], watch["rule"]
    return ":".join(parts).encode()


def rule_record(
    account: str, symbol: str, rule: str, spec: RuleSpec, set_by: str, ts: int, active: bool = True
) -> Record:
    """A rule as it is set (or, not active, removed) at `ts` (ns).

    Raises:
        ConfigError: the rule's name or the symbol cannot stand in a key.
    """
    problems = []
    if not NAME.fullmatch(rule):
        problems.append(
            f"rule {rule!r}: a name is up to 40 of a-z 0-9 . _ - and begins with a letter or digit"
        )
    if not symbol or len(symbol) > 30 or any(c.isspace() or c in ":|" for c in symbol):
        problems.append(f"symbol {symbol!r}: a ticker, a pair (BTC/USD) or an OCC symbol is wanted")
    if problems:
        raise ConfigError(problems)
    return {
        "account": account,
        "symbol": symbol,
        "rule": rule,
        "ts": ts,
        "spec": spec.canonical(),
        "active": active,
        "set_by": set_by,
        "received_ts": ts,
        "source": "rest" if set_by.startswith("api:") else "ws",
        "event_id": rule_id(account, symbol, rule, ts),
    }


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)
