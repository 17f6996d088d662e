"""Prices compared exactly: Alpaca's float64 stands for the decimal that prints shortest, which is what was
sent.

That reading is strictly monotone, so a float compares with a decimal as the decimal of the float does:
`at_most` and `at_least` turn a threshold into a float once, and a tick is then compared as it came. Pure.
"""

from __future__ import annotations

from decimal import Decimal
from math import inf, nextafter

from processors.portfolio.exact import exact, quotient, rounded

__all__ = ["at_least", "at_most", "dec", "exact", "plain", "quotient", "rounded"]


def dec(price: float) -> Decimal:
    """The decimal that Alpaca wrote."""
    return Decimal(repr(float(price)))


def at_most(threshold: Decimal) -> float:
    """The largest float that is not above: `dec(x) <= threshold` exactly where `x <= at_most(threshold)`."""
    near = float(threshold)
    return near if dec(near) <= threshold else nextafter(near, -inf)


def at_least(threshold: Decimal) -> float:
    """The smallest float not below: `dec(x) >= threshold` exactly where `x >= at_least(threshold)`."""
    near = float(threshold)
    return near if dec(near) >= threshold else nextafter(near, inf)


def plain(amount: Decimal) -> str:
    """A number as text, the same for the same value."""
    text = f"{amount:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
