"""Money and quantities: exact decimals, and the plain text in which Alpaca's JSON carries them. Pure."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from typing import Any

ZERO = Decimal(0)
ONE = Decimal(1)
SMALLEST = Decimal("1E-9")
"""The smallest fraction of a share or coin that an order can have."""
CENT = Decimal("0.01")
_PRECISE = 50
_SHOWN = Decimal("1E-16")
_LARGEST = Decimal("1E12")


def text(value: Decimal) -> str:
    """Plain decimal text without an exponent and without zeros at the end."""
    plain = f"{value:f}"
    return (plain.rstrip("0").rstrip(".") if "." in plain else plain) or "0"


def optional(value: Decimal | None) -> str | None:
    """As `text`; None stays None."""
    return None if value is None else text(value)


def read(value: Any) -> Decimal:
    """A number of a request: text or a JSON number (as its shortest decimal).

    Raises:
        ValueError: it is no finite number, or is beyond 10**12.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("not a number")
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not number.is_finite() or abs(number) > _LARGEST:
        raise ValueError("not a number")
    return number + ZERO


def divide(value: Decimal, by: Decimal) -> Decimal:
    """A quotient with up to 50 digits, so that an average price times its quantity is the cost again."""
    with localcontext() as context:
        context.prec = _PRECISE
        return value / by


def shown(value: Decimal) -> Decimal:
    """A quotient as it is shown: rounded to 16 decimals."""
    with localcontext() as context:
        context.prec = _PRECISE
        return value.quantize(_SHOWN, ROUND_HALF_EVEN)


def down(value: Decimal) -> Decimal:
    """A quantity cut to nine decimals."""
    return value.quantize(SMALLEST, ROUND_DOWN)


def whole(value: Decimal) -> bool:
    """Whether it is an integer."""
    return value == value.to_integral_value()


def decimals(value: Decimal) -> int:
    """How many digits after the point it needs."""
    return len(text(value).partition(".")[2])
