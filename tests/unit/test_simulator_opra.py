"""Without these the simulated options would be other contracts, or worth other sums, than their names say."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from decimal import Decimal
from itertools import islice
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.broker.quotes import contract
from simulator.opra.listing import OPTIONS, alive, expiry, listed, listing, occ
from simulator.opra.synthetic import SyntheticOptions
from simulator.session import Rules, Session
from simulator.wire import Streams

NOW = 1_772_463_600_000_000_000  # Monday, 2026-03-02 10:00 in New York
DAY = 86_400 * 10**9


def made(
    count: int, wanted: Collection[str] = (), seed: int = 1, spot: float = 230.0
) -> list[tuple[int, dict[str, Any]]]:
    market = SyntheticOptions(["AAPL", "IBM"], seed, NOW, 20.0, lambda _: spot, lambda: wanted)
    blocks = islice(market.read(Streams()), count)
    return [(m[0], msgpack.unpackb(m[3])) for block in blocks for m in block]


@settings(max_examples=60)
@given(st.integers(NOW - 3_000 * DAY, NOW + 3_000 * DAY), st.floats(0.5, 3_000))
def test_listed_contracts_are_around_the_money_and_expire_on_a_third_friday(now: int, price: float) -> None:
    """A demo would show options that nobody has."""
    day = expiry(now)
    assert day.weekday() == 4
    assert 15 <= day.day <= 21
    symbols = listed("AAPL", price, now)
    assert len(set(symbols)) == 6
    for symbol in symbols:
        terms = contract(symbol)
        assert terms is not None
        assert terms.strike > 0
        assert 14 * DAY <= terms.expires - now + DAY <= 52 * DAY
        assert alive(symbol, frozenset({"AAPL"}), now)
        assert not alive(symbol, frozenset({"IBM"}), now)
        assert not alive(symbol, frozenset({"AAPL"}), terms.expires)
    strikes = [float(terms.strike) for s in symbols if (terms := contract(s)) is not None]
    if price > 5:
        assert min(strikes) <= price <= max(strikes)


def test_symbols_are_occs() -> None:
    """A symbol that only the simulator understands could not be subscribed at Alpaca."""
    assert occ("AAPL", date(2024, 3, 15), call=True, strike=Decimal("172.5")) == "AAPL240315C00172500"
    assert occ("F", date(2026, 1, 2), call=False, strike=Decimal(9)) == "F260102P00009000"


def test_the_same_seed_is_the_same_market_and_arrivals_never_go_back() -> None:
    """A failure could not be played again."""
    assert made(300) == made(300)
    assert made(300) != made(300, seed=2)
    arrivals = [at for at, _ in made(300)]
    assert arrivals == sorted(arrivals)


def test_prices_follow_the_underlying_by_the_stated_formula() -> None:
    """A contract in the money that costs next to nothing would teach nonsense."""
    found = made(2_000)
    assert {m["S"] for _, m in found} == set(listing(["AAPL", "IBM"], NOW))
    for _, message in found:
        assert next(iter(message)) == "T"
        assert isinstance(message["c"], str)
        price = message["p"] if message["T"] == "t" else message["bp"]
        terms = contract(message["S"])
        assert terms is not None
        intrinsic = max(0.0, 230.0 - float(terms.strike) if terms.call else float(terms.strike) - 230.0)
        assert intrinsic - 0.02 <= price <= intrinsic + 0.4 * 230 * 0.3
        if message["T"] == "q":
            assert round(message["ap"] - message["bp"], 2) == 0.02
    assert 0.1 < sum(m["T"] == "t" for _, m in found) / len(found) < 0.3


def test_a_contract_exists_once_somebody_asks_for_it() -> None:
    """A user's own contract would stay silent for ever."""
    asked = "AAPL270115C00300000"
    wanted = {asked, "TSLA270115C00300000", "AAPL200117C00300000", "AAPL"}
    symbols = [m["S"] for _, m in made(400, wanted)]
    assert symbols.count(asked) > 200
    assert {s for s in symbols if s != asked} <= set(listing(["AAPL", "IBM"], NOW))


def test_every_trade_counts_in_bars() -> None:
    """REST's option bars would be empty."""
    trade = next(m for _, m in made(200) if m["T"] == "t")
    part = OPTIONS.part(trade)
    assert part is not None
    assert part[:2] == (trade["p"], trade["s"])


@pytest.mark.parametrize(
    ("packed", "command", "code"),
    [
        (False, {"trades": ["*"]}, 412),
        (True, {"quotes": ["*"]}, 413),
        (True, {"trades": ["*"]}, None),
        (True, {"bars": ["*"]}, 410),
        (True, {"trades": ["AAPL"]}, 400),
        (True, {"quotes": [f"AAPL270115C00{n}0000" for n in (30, 31, 32)]}, 405),
        (True, {"trades": [f"AAPL270115C00{n}0000" for n in (30, 31, 32)]}, None),
    ],
)
def test_what_an_option_feed_refuses(packed: bool, command: dict[str, Any], code: int | None) -> None:
    """A producer would learn Alpaca's refusals from Alpaca."""
    session = Session(Rules("opra", lambda key, secret: None, 2), msgpack_frames=packed)
    session.open({"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "s"})
    [reply] = session.receive(msgpack.packb({"action": "subscribe", **command}))
    assert reply.get("code") == code
