"""The checks before an order, each at its own boundary: at a limit is allowed, beyond it not. Pure.

An exit is exempt, since each of them could trap a position that a stop wants out of:

    quantity, notional    a position may have grown beyond what a new order may be
    price band            prices run away from the reference just when a stop fires
    orders per minute     a fall fires many stops at once (the broker's own limit still holds, exits first)
    daily loss            losing is what a stop is for
    duplicate             the ledger has one exit a position and exit epoch already
    signal                a crash is what a stop wants out of
    buying power          a cover buys back what is owed already; the broker has the margin for it
    tradable, fractionable, shortable   it opens nothing; whether it trades, the broker says

Not exempt, and checked where the order is shaped (shaping.py): trading hours. A market order for a closed
exchange would trade at a price that nobody has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from sinks.executor.broker_types import NewOrder
from sinks.executor.facts import Facts
from sinks.executor.intents import Intent
from tidewire.risk_limits import RiskLimits

ZERO = Decimal(0)
DUST = "dust"
_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Breach:
    """Why an order is refused. `check` names the check: one of few; DUST: all that is left is too little."""

    check: str
    reason: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """An order beside what is known."""

    intent: Intent
    order: NewOrder
    facts: Facts
    limits: RiskLimits

    @property
    def asset_class(self) -> str:
        """us_equity, us_option or crypto."""
        return "us_equity" if self.facts.asset is None else self.facts.asset.asset_class

    @property
    def price(self) -> Decimal | None:
        """What one may cost: the limit, the stop, the other side of the quote, what the intent saw."""
        quote, order = self.facts.quote, self.order
        seen = ZERO if quote is None else (quote.ask if order.side == "buy" else quote.bid)
        return order.limit_price or order.stop_price or seen or self.intent.reference_price

    @property
    def worth(self) -> Decimal | None:
        """USD of the whole order; None: nobody knows a price."""
        if self.order.notional is not None:
            return self.order.notional
        if self.price is None or self.order.quantity is None:
            return None
        return self.order.quantity * self.price * (100 if self.asset_class == "us_option" else 1)

    @property
    def quantity(self) -> Decimal | None:
        """Shares, coins, contracts; of a notional order as many as it buys at the price."""
        if self.order.quantity is not None:
            return self.order.quantity
        return None if not self.price or self.order.notional is None else self.order.notional / self.price

    @property
    def opens(self) -> Decimal:
        """How much of it opens or enlarges a position, the rest closes one."""
        position = self.facts.position
        against = position is not None and position.exit_side == self.order.side
        closes = (
            ZERO if position is None or not against else min(abs(position.quantity), position.qty_available)
        )
        return max((self.quantity or ZERO) - closes, ZERO)


def for_order(proposal: Proposal) -> Breach | None:
    """The first check that refuses a strategy's order; None: none does."""
    return next((Breach(name, why) for name, check in _CHECKS for why in check(proposal)), None)


def _account(proposal: Proposal) -> Iterator[str]:
    account = proposal.facts.account
    if account is None:
        yield "the account is not known"
    elif not account.may_trade:
        yield f"the broker has blocked or suspended trading of the account (status {account.status})"


def _asset(proposal: Proposal) -> Iterator[str]:
    asset = proposal.facts.asset
    if asset is None or not asset.tradable or asset.status != "active":
        yield f"{proposal.order.symbol} is not tradable at the broker"


def _fractionable(proposal: Proposal) -> Iterator[str]:
    order, asset = proposal.order, proposal.facts.asset
    fraction = order.notional is not None or (order.quantity or ZERO) % 1 != ZERO
    if fraction and asset is not None and not asset.fractionable:
        yield f"{order.symbol} is not traded in fractions"


def _shortable(proposal: Proposal) -> Iterator[str]:
    order, asset, account = proposal.order, proposal.facts.asset, proposal.facts.account
    if order.side != "sell" or proposal.opens == ZERO:
        return
    if not proposal.limits.allow_short:
        yield "it would open a short position, which risk.allow_short does not allow"
    elif asset is None or not (asset.shortable and asset.easy_to_borrow):
        yield f"{order.symbol} cannot be sold short"
    elif account is None or not account.shorting_enabled:
        yield "the account may not sell short"


def _quantity(proposal: Proposal) -> Iterator[str]:
    most, quantity = proposal.limits.max_quantity, proposal.quantity
    if most is None:
        return
    if quantity is None:
        yield "no price is known to tell its quantity by"
    elif quantity > most:
        yield f"quantity {quantity:f} is more than risk.max_quantity {most:f}"


def _notional(proposal: Proposal) -> Iterator[str]:
    most, worth = proposal.limits.max_notional, proposal.worth
    if most is None:
        return
    if worth is None:
        yield "no price is known to tell its worth by"
    elif worth > most:
        yield f"{worth:f} USD is more than risk.max_notional {most:f}"


def _price_band(proposal: Proposal) -> Iterator[str]:
    band, price, quote = proposal.limits.price_band_percent, proposal.price, proposal.facts.quote
    if band is None:
        return
    middle = (quote.bid + quote.ask) / 2 if quote is not None and quote.bid and quote.ask else None
    reference = proposal.intent.reference_price or middle
    if price is None or reference is None:
        yield "no reference price is known to measure its price by"
    elif abs(price - reference) * _HUNDRED > band * reference:
        yield f"price {price:f} is more than risk.price_band_percent {band:f} % from {reference:f}"


def _orders_per_minute(proposal: Proposal) -> Iterator[str]:
    most, sent = proposal.limits.orders_per_minute, proposal.facts.orders_in_minute
    if sent >= most:
        yield f"{sent} orders were sent within a minute, risk.orders_per_minute is {most}"


def _signal(proposal: Proposal) -> Iterator[str]:
    if proposal.facts.signal is not None and proposal.opens > ZERO:
        yield f"{proposal.facts.signal}: risk.block_entries_on lets nothing be opened"


def _daily_loss(proposal: Proposal) -> Iterator[str]:
    most, account = proposal.limits.max_daily_loss, proposal.facts.account
    if most is None or account is None:
        return
    loss = account.last_equity - account.equity
    if loss > most:
        yield f"{loss:f} USD were lost since the last close, risk.max_daily_loss is {most:f}"


def _duplicate(proposal: Proposal) -> Iterator[str]:
    if proposal.facts.twin is not None:
        yield f"intent {proposal.facts.twin} ordered the same a moment ago"


def _buying_power(proposal: Proposal) -> Iterator[str]:
    account, worth, quantity = proposal.facts.account, proposal.worth, proposal.quantity
    if account is None or proposal.opens == ZERO:
        return
    if worth is None or not quantity:
        yield "no price is known to tell its cost by"
        return
    power = {"crypto": account.non_marginable_buying_power, "us_option": account.options_buying_power}
    has = power.get(proposal.asset_class, account.buying_power)
    cost = worth * proposal.opens / quantity
    if cost > has:
        yield f"it costs {cost:f} USD, the buying power is {has:f}"


_CHECKS: tuple[tuple[str, Callable[[Proposal], Iterator[str]]], ...] = (
    ("account", _account),
    ("asset", _asset),
    ("fractionable", _fractionable),
    ("shortable", _shortable),
    ("quantity", _quantity),
    ("notional", _notional),
    ("price_band", _price_band),
    ("orders_per_minute", _orders_per_minute),
    ("daily_loss", _daily_loss),
    ("signal", _signal),
    ("duplicate", _duplicate),
    ("buying_power", _buying_power),
)
