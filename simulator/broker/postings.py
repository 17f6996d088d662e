"""Activities that are no fills: made, noted in the account, and announced to the journal. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from simulator.broker.account import Account
from simulator.broker.account_json import transfer_json
from simulator.broker.amounts import ZERO, text
from simulator.broker.book import Adjustment
from simulator.broker.updates import Announcer, activity_id


class Desk(Protocol):
    """Who has the clock, the ids and the announcer: the exchange."""

    @property
    def announce(self) -> Announcer:
        """Whom to tell of changes."""

    def stamp(self) -> int:
        """The time of the next event, ns."""

    def new_id(self) -> str:
        """A random UUID."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What an activity does to a position; see book.Adjustment."""

    symbol: str
    asset_class: str
    kind: str
    amount: Decimal
    base: Decimal = ZERO


def post(
    desk: Desk, account: Account, kind: str, fields: Mapping[str, Any], effect: Effect | None = None
) -> dict[str, Any]:
    """Let an activity of a type happen; returns it as REST shows it. Decimals become plain text."""
    ts = desk.stamp()
    plain = {name: text(v) if isinstance(v, Decimal) else v for name, v in fields.items()}
    asked = {"net_amount": "0", **plain, "activity_type": kind}
    body = transfer_json(account, asked, ts, activity_id(ts, desk.new_id()))
    adjustment = None
    if effect is not None:
        adjustment = Adjustment(
            body["id"], effect.symbol, effect.asset_class, effect.kind, effect.amount, effect.base, ts
        )
    account.post(body, adjustment)
    desk.announce.posted(account.n, body, adjustment)
    return body
