"""What an account's orders may be at most: [accounts.NAME.risk] of accounts.toml. Pure.

::

    [accounts.paper-1.risk]
    max_quantity = 10000          # shares, coins or contracts an order
    max_notional = 25000          # USD an order
    price_band_percent = 10       # how far a limit price may lie from what whoever wants the order saw
    orders_per_minute = 60        # that are no exits
    max_daily_loss = 1000         # USD since the last close; beyond it nothing but exits
    allow_short = false           # whether an order may open or enlarge a short position
    duplicate_seconds = 5         # an equal order of another intent within this is refused
    max_age_seconds = 10          # an intent whose newest input was received longer ago is stale
    limit_offset_percent = 0.5    # how far through the quote an exit's limit order goes
    limit_order_seconds = 30      # an exit's limit order that has not filled by then is ended and priced anew
    block_entries_on = ["flash_crash"]   # signals after which nothing is opened or enlarged in their symbol
    block_entries_seconds = 300   # for so long
    dry_run = false               # true: say what would have been ordered, and order nothing

What bounds a size may be "none". Numbers may be written as text, to be exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

SIGNALS = frozenset({"flash_crash", "news_spike"})
LONGEST_BLOCK = Decimal(3_600)
"""Seconds."""

_HUNDRED = Decimal(100)
_MOST = Decimal(10) ** 15


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """One account's limits, safe unless told otherwise. At a limit is allowed, beyond not; None: no limit."""

    max_quantity: Decimal | None = Decimal(10_000)
    """Shares, coins or contracts an order."""
    max_notional: Decimal | None = Decimal(25_000)
    """USD an order; an option contract counts a hundredfold."""
    price_band_percent: Decimal | None = Decimal(10)
    """How far a limit price may lie from the reference price of the intent."""
    orders_per_minute: int = 60
    """Orders that are no exits. Alpaca allows 200 requests a minute in all."""
    max_daily_loss: Decimal | None = Decimal(1_000)
    """USD of equity lost since the last close; then exits only."""
    allow_short: bool = False
    """Whether an order may open or enlarge a short position."""
    duplicate_seconds: Decimal = Decimal(5)
    """An order like one of another intent within this time is refused; 0: none is."""
    max_age_seconds: Decimal = Decimal(10)
    """An intent whose newest input was received longer ago is stale."""
    limit_offset_percent: Decimal = Decimal("0.5")
    """How far through the other side's quote an exit's limit order goes where a market order may not."""
    limit_order_seconds: Decimal = Decimal(30)
    """So long an exit's limit order may work without a fill, then the next one is priced anew."""
    block_entries_on: tuple[str, ...] = ()
    """Kinds of signals after which no order may open or enlarge a position in their symbol."""
    block_entries_seconds: Decimal = Decimal(300)
    """For so long after such a signal was received."""
    dry_run: bool = False
    """Nothing is ordered; results say what would have been."""


SAFE = RiskLimits()
"""Of an account whose file says nothing."""


def read(where: str, table: object, problems: list[str]) -> RiskLimits:
    """The limits of a table of accounts.toml. Every mistake goes to `problems`; `where` begins its text."""
    if not isinstance(table, Mapping):
        problems.append(f"{where} is not a table")
        return SAFE
    given: dict[str, Any] = {}
    for name, value in table.items():
        check = _CHECKS.get(name)
        if check is None:
            problems.append(f"{where}: unknown key {name}; known are {', '.join(sorted(_CHECKS))}")
            continue
        try:
            given[name] = check(value)
        except ValueError as error:
            problems.append(f"{where}.{name} must be {error}")
    return RiskLimits(**given)


def _number(most: Decimal, *, zero: bool, unit: str) -> Callable[[object], Decimal]:
    least = "0" if zero else "more than 0"

    def check(value: object) -> Decimal:
        try:
            # A float by its shortest text: 0.1 is meant as 0.1.
            found = Decimal(str(value)) if type(value) in (int, float, str) else None
        except InvalidOperation:
            found = None
        fits = found is not None and found.is_finite() and found <= most
        if found is None or not fits or found < 0 or (found == 0 and not zero):
            raise ValueError(f"a number of {unit} from {least} to {most:f}")
        return found

    return check


def _or_none(check: Callable[[object], Decimal]) -> Callable[[object], Decimal | None]:
    def checked(value: object) -> Decimal | None:
        if value == "none":
            return None
        try:
            return check(value)
        except ValueError as error:
            raise ValueError(f'{error}, or "none"') from None

    return checked


def _signals(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not set(map(str, value)) <= SIGNALS:
        raise ValueError(f"a list of {', '.join(sorted(SIGNALS))}")
    return tuple(sorted(set(value)))


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _orders(value: object) -> int:
    if type(value) is not int or not 0 <= value <= 200:
        raise ValueError("a whole number from 0 to 200, Alpaca's own limit")
    return value


_SECONDS = _number(Decimal(86_400), zero=True, unit="seconds")
_CHECKS: Mapping[str, Callable[[object], Any]] = {
    "max_quantity": _or_none(_number(_MOST, zero=False, unit="shares, coins or contracts")),
    "max_notional": _or_none(_number(_MOST, zero=False, unit="USD")),
    "price_band_percent": _or_none(_number(_HUNDRED, zero=False, unit="percent")),
    "orders_per_minute": _orders,
    "max_daily_loss": _or_none(_number(_MOST, zero=True, unit="USD")),
    "allow_short": _flag,
    "duplicate_seconds": _SECONDS,
    "max_age_seconds": _number(Decimal(3_600), zero=False, unit="seconds"),
    "limit_offset_percent": _number(Decimal(20), zero=True, unit="percent"),
    "limit_order_seconds": _number(Decimal(3_600), zero=False, unit="seconds"),
    "block_entries_on": _signals,
    "block_entries_seconds": _number(LONGEST_BLOCK, zero=False, unit="seconds"),
    "dry_run": _flag,
}
