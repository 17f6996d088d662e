"""What a rule makes of a position: the watch beside its prices. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from processors.placing.attempts import Attempt
from processors.placing.position import Cause, Position
from processors.portfolio.exact import exact, quotient, rounded
from schemas.event_id import watch_id
from schemas.exit_rules import PriceBasis, RuleSpec, parameters

Watch = dict[str, Any]

_DECIMALS = ("quantity", "entry_price", "stop_price", "limit_price", "trail_price", "trail_percent")
_WRITING = ("ts", "received_ts", "source", "event_id")
"""What differs between two writings of one watch."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that is in force. `ts`: when it was set (ns), 0 by policy."""

    name: str
    spec: RuleSpec
    ts: int
    set_by: str

    def reference_symbol(self, position: Position) -> str:
        """Whose prices it watches."""
        return self.spec.reference_symbol or position.symbol


def watch(
    position: Position,
    rule: Rule,
    attempt: Attempt,
    held: str | None,
    basis_ts: int,
    confirmed_ts: int,
    cause: Cause,
) -> Watch:
    """The `exit_watch` record. `basis_ts`: of whose shares the position's entry price is; `confirmed_ts`: the
    broker has confirmed it as of then (ns).

    Prices of the rule itself are in the shares of when it was set; those made from the entry price in its.
    The position's splits are told to whoever has the prices: it knows which of them were announced.
    """
    p, spec = position, rule.spec
    price = spec.price if spec.price is not None else _from_entry(p, spec)
    own_price = spec.price is not None or spec.trail_price is not None
    since = rule.ts if own_price else 0
    splits = [s for s in p.splits if s[0] > since] if rule.reference_symbol(p) == p.symbol else []
    basis = PriceBasis(tuple(splits), confirmed_ts)
    return {
        "symbol": rule.reference_symbol(p),
        "account": p.account,
        "position_symbol": p.symbol,
        "position_epoch": p.epoch,
        "rule": rule.name,
        "ts": cause.ts,
        "kind": spec.kind,
        "quantity": rounded(p.quantity),
        "entry_price": p.entry_price,
        "stop_price": price if spec.kind == "stop_loss" else None,
        "limit_price": price if spec.kind == "take_profit" else None,
        "trail_price": spec.trail_price,
        "trail_percent": spec.trail_percent,
        "parameters": parameters(spec, p.opened_ts, rule.ts, rule.set_by, attempt.pause_seconds, basis),
        "active": True,
        "exit_epoch": attempt.epoch,
        "asset_class": p.asset_class,
        "held": held if held is not None else "refused" if attempt.down else None,
        "price_basis_ts": rule.ts if own_price and rule.ts else basis_ts,
        "result": attempt.result,
        "received_ts": cause.received_ts,
        "source": cause.source,
        "event_id": watch_id(p.account, p.symbol, rule.name, p.epoch, attempt.epoch, cause.ts),
    }


def released(former: Watch, cause: Cause) -> Watch:
    """The watch when nothing is to be guarded any more."""
    names = former["account"], former["position_symbol"], former["rule"]
    id = watch_id(*names, former["position_epoch"], former["exit_epoch"], cause.ts)
    return former | {
        "active": False,
        "ts": cause.ts,
        "received_ts": cause.received_ts,
        "source": cause.source,
        "event_id": id,
    }


def says_the_same(former: Watch, now: Watch) -> bool:
    """Whether writing it again would tell nobody anything."""
    return all(former[name] == now[name] for name in now if name not in _WRITING)


def to_row(watch: Watch) -> dict[str, Any]:
    """As JSON can hold it."""
    texts = {name: None if watch[name] is None else f"{watch[name]:f}" for name in _DECIMALS}
    return watch | texts | {"event_id": watch["event_id"].hex()}


def from_row(row: Mapping[str, Any]) -> Watch:
    """The watch of `to_row`."""
    amounts = {name: None if row[name] is None else Decimal(row[name]) for name in _DECIMALS}
    rest = {name: value for name, value in row.items() if name != "v"}
    return rest | amounts | {"event_id": bytes.fromhex(row["event_id"])}


def _from_entry(position: Position, spec: RuleSpec) -> Decimal | None:
    """A percent of the entry price: below it for what a long position loses, above for a short one's loss."""
    if spec.percent is None:
        return None
    lower = (spec.kind == "stop_loss") == (position.quantity > 0)
    share = 100 - spec.percent if lower else 100 + spec.percent
    with exact():
        return quotient(position.entry_price * share, Decimal(100))
