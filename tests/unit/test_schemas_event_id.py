"""An id that changed between two runs, or that two events share, would lose or double a user's events."""

from __future__ import annotations

from typing import Any

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from schemas import event_id

_SYMBOLS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ.", min_size=1, max_size=6)
_CODES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ@ 0123456789", max_size=1)
_CONDITIONS = st.lists(st.text("@ABCIRT 0123456789", min_size=1, max_size=2), max_size=4)
_TIMES = st.integers(0, 2**63 - 1)
_SIZES = st.integers(0, 2**32 - 1)
_PRICES = st.floats(0, 1e6, allow_nan=False)
_TRADES = st.tuples(_SYMBOLS, _CODES, st.integers(-(2**63), 2**63 - 1), _TIMES)
_QUOTES = st.tuples(
    _SYMBOLS, _TIMES, _CODES, _PRICES, _SIZES, _CODES, _PRICES, _SIZES, _CONDITIONS, _CODES, st.integers(0, 9)
)


def _reference(text: str) -> bytes:
    return xxhash.xxh3_64(text.encode("utf-8")).digest()


def test_ids_are_those_of_yesterday() -> None:
    """Ids are stored in PostgreSQL for ever: another rule would make every replayed event a new one."""
    assert event_id.trade_id("AAPL", "D", 96921, 1614009104208000000).hex() == "15f22921b9724aeb"
    quote = ("AMD", 1614009105335689322, "U", 87.66, 1, "Q", 87.68, 4, ["R"], "C", 0)
    assert event_id.quote_id(*quote).hex() == "afeedb8441860a47"
    assert event_id.bar_id("SPY", "minute", 1614021300000000000, 0).hex() == "f86aebf222cdce20"


@given(_TRADES)
def test_trade_ids_follow_the_written_rule(trade: tuple[str, str, int, int]) -> None:
    """Another language must be able to make the same id from the documented text."""
    symbol, exchange, id, ts = trade
    assert event_id.trade_id(*trade) == _reference(f"t|{symbol}|{exchange}|{id}|{ts}")
    assert len(event_id.trade_id(*trade)) == event_id.SIZE


@given(_QUOTES)
def test_quote_ids_follow_the_written_rule(
    quote: tuple[str, int, str, float, int, str, float, int, list[str], str, int],
) -> None:
    """The same, for quotes, whose id is a hash of everything that they say."""
    symbol, ts, bx, bp, bs, ax, ap, as_, conditions, tape, ordinal = quote
    text = f"q|{symbol}|{ts}|{bx}|{bp!r}|{bs}|{ax}|{ap!r}|{as_}|{','.join(conditions)}|{tape}|{ordinal}"
    assert event_id.quote_id(*quote) == _reference(text)


@given(_SYMBOLS, st.sampled_from(["minute", "day"]), _TIMES, st.integers(0, 1000))
def test_bar_ids_follow_the_written_rule(symbol: str, interval: str, ts: int, revision: int) -> None:
    """The same, for bars."""
    expected = _reference(f"b|{symbol}|{interval}|{ts}|{revision}")
    assert event_id.bar_id(symbol, interval, ts, revision) == expected


@given(_TRADES, _TRADES)
def test_different_trades_have_different_ids(
    a: tuple[str, str, int, int], b: tuple[str, str, int, int]
) -> None:
    """Two trades with one id would be stored as one."""
    assert (event_id.trade_id(*a) == event_id.trade_id(*b)) == (a == b)


@given(_QUOTES, _QUOTES)
def test_different_quotes_have_different_ids(
    a: tuple[str, int, str, float, int, str, float, int, list[str], str, int],
    b: tuple[str, int, str, float, int, str, float, int, list[str], str, int],
) -> None:
    """Two quotes with one id would be stored as one."""
    assert (event_id.quote_id(*a) == event_id.quote_id(*b)) == (repr(a) == repr(b))


@given(_QUOTES, st.data())
def test_a_quote_that_differs_in_one_field_has_another_id(
    quote: tuple[str, int, str, float, int, str, float, int, list[str], str, int], data: st.DataObject
) -> None:
    """Neighbouring quotes differ in one size or one condition only: none of the fields may be left out."""
    place = data.draw(st.integers(0, 10))
    pools = [_SYMBOLS, _TIMES, _CODES, _PRICES, _SIZES, _CODES, _PRICES, _SIZES, _CONDITIONS, _CODES, _SIZES]
    other = data.draw(pools[place].filter(lambda value: repr(value) != repr(quote[place])))
    changed: list[Any] = [*quote]
    changed[place] = other
    assert event_id.quote_id(*quote) != event_id.quote_id(*changed)


def test_whole_prices_count_as_floats() -> None:
    """JSON may give 87 where msgpack gives 87.0: the same quote over either must be one event."""
    whole = event_id.quote_id("AMD", 1, "U", 87, 1, "Q", 88, 4, ["R"], "C", 0)
    assert whole == event_id.quote_id("AMD", 1, "U", 87.0, 1, "Q", 88.0, 4, ["R"], "C", 0)


def test_a_broken_string_does_not_stop_the_frame() -> None:
    """A lone surrogate cannot be encoded as UTF-8; the message must still get an id."""
    assert len(event_id.trade_id("\ud800", "D", 1, 1)) == event_id.SIZE


def test_kinds_never_share_an_id() -> None:
    """A stock trade and a crypto trade of equal numbers are two events."""
    ids = [
        event_id.trade_id("A", "", 1, 2),
        event_id.bar_id("A", "", 1, 2),
        event_id.crypto_bar_id("A", "", 1, 2),
        event_id.crypto_trade_id("A", 1, 2),
        event_id.status_id("A", 1, "", "2"),
        event_id.luld_id("A", 1, 2.0, 3.0, ""),
        event_id.correction_id("A", "", 1, "cancel", None, 2),
        event_id.correction_id("A", "", 1, "correction", 3, 2),
        event_id.imbalance_id("A", 1, 2.0, 0),
        event_id.option_trade_id("A", 1, "", 2.0, 3, "", 0),
        event_id.option_quote_id("A", 1, "", 2.0, 3, "", 4.0, 5, "", 0),
        event_id.crypto_quote_id("A", 1, 2.0, 3.0, 4.0, 5.0, 0),
        event_id.crypto_orderbook_id("A", 1, True, [(1.0, 2.0)], [], 0),
        event_id.crypto_orderbook_id("A", 1, True, [], [(1.0, 2.0)], 0),
        event_id.news_id("A", "1", 2),
        event_id.sentiment_id("A", "1", 2, "", ""),
        event_id.fill_id("A", "1"),
        event_id.order_event_id("A", "1", 2),
        event_id.snapshot_id("A", 1),
        event_id.gap_id("A", "opened", 1),
        event_id.audit_id("A", "trades", 1, 2),
        event_id.lease_id("A", 1),
        event_id.request_id("reconcile", "*", 1),
        event_id.trigger_id("A", "", 1, 2),
        event_id.watch_id("A", "", "", 1, 2, 3),
        event_id.rule_id("A", "", "", 1),
        event_id.exit_event_id("A", "", 1, "", ""),
        event_id.activity_id("A", "1"),
        event_id.corporate_action_id("A", "1", ""),
        event_id.intent_event_id("A", "1"),
        event_id.result_event_id("A", "1", 2, "", ""),
    ]
    assert len(set(ids)) == len(ids)


def test_a_fill_is_named_by_value_not_by_spelling() -> None:
    """The stream says 1790.86, an activity may say 1790.860: counted twice, the position would be double."""
    texts = ["1790.86", "1790.860", "01790.8600", "1.79086E+3"]
    ids = {event_id.fill_id("order", event_id.plain_quantity(text)) for text in texts}
    assert len(ids) == 1
    assert event_id.plain_quantity("100") == "100"
    assert event_id.plain_quantity("0.000000001") == "0.000000001"
    assert event_id.plain_quantity("0.00") == "0"
