"""Exact decimals: sums and products are never rounded, quotients to 18 decimals by one rule. Pure.

The rule: half to even, at 18 decimals. It is used where a quotient is needed (the cost that a part of a
position takes with it, an average) and where a figure of more decimals goes into a record.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, localcontext

_DIGITS = 150  # 20 before the point, 18 behind, four factors of those: nothing that fits a record rounds
_EXACT = Context(prec=_DIGITS, traps=[Inexact, InvalidOperation, DivisionByZero])
_ROUNDED = Context(prec=_DIGITS, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero])
_UNIT = Decimal("1e-18")

ZERO = Decimal(0)

LARGEST = Decimal(10) ** 15
"""Beyond it, quantities, prices in USD and values in USD of one record are refused."""


def exact() -> AbstractContextManager[Context]:
    """Arithmetic inside this context is exact, or raises decimal.Inexact."""
    return localcontext(_EXACT)


def quotient(dividend: Decimal, divisor: Decimal) -> Decimal:
    """`dividend / divisor`, rounded half to even at 18 decimals."""
    return _ROUNDED.quantize(_ROUNDED.divide(dividend, divisor), _UNIT)


def rounded(value: Decimal) -> Decimal:
    """A value as it goes into a record: unchanged if 18 decimals hold it, else rounded half to even."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), "neither infinite nor NaN"
    return value if exponent >= -18 else _ROUNDED.quantize(value, _UNIT)
