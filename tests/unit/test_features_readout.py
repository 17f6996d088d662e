"""Mid and spread of a quote: if these fail, a spread of a cent shows as 0.009999999999990905 USD."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st

from processors.features.vector import mid_and_spread

WHOLE = st.builds(lambda units, digits: units / 10**digits, st.integers(1, 10**16), st.integers(0, 8))
PRICES = WHOLE | st.floats(min_value=1e-9, max_value=1e12, allow_subnormal=False)


@given(PRICES, PRICES)
@example(0.01, 0.02)
@example(101.23, 101.24)
@example(0.1 + 0.2, 0.3)
@example(1e9, 999_999_999.999999)
@example(5e-7, 1.5e-6)
def test_they_are_those_of_the_decimals_that_were_written(bid: float, ask: float) -> None:
    least, most = Decimal(repr(bid)), Decimal(repr(ask))
    assert mid_and_spread(bid, ask) == (float((least + most) / 2), float(most - least))
