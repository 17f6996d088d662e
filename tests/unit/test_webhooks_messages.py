"""Bodies of webhooks become the stream's messages: a wrong kind would write stock prices under crypto."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.webhooks.messages import account, market_data, news
from tidewire.errors import RecordError


def test_messages_get_their_kind_by_symbol_and_their_times_in_nanoseconds() -> None:
    """Whoever sends what Alpaca sends must find it in the same topics, to the nanosecond."""
    body = orjson.dumps(
        [
            {"T": "t", "S": "AAPL", "t": "2025-11-21T16:00:00.123456789Z"},
            {"T": "q", "S": "BTC/USD", "t": 5},
            {"T": "t", "S": "AAPL240315C00172500", "t": "nonsense"},
        ]
    )
    stock, crypto, option = market_data(body)
    assert stock == ("stocks", {"T": "t", "S": "AAPL", "t": 1_763_740_800_123_456_789})
    assert (crypto[0], option[0]) == ("crypto", "options")
    assert option[1]["t"] == "nonsense", "the encoder refuses it, with its reason"


def test_an_article_without_a_source_is_not_taken_for_benzingas() -> None:
    """It could otherwise replace an article of Alpaca's with the same number."""
    (found,) = news(b'{"id": 1, "headline": "H", "updated_at": "2025-11-21T16:00:00Z"}')
    assert found == ("news", {"T": "n", "id": 1, "headline": "H", "source": "webhook",
                              "updated_at": 1_763_740_800 * 10**9})  # fmt: skip


@pytest.mark.parametrize(
    ("body", "target"),
    [(b"{}", "*"), (b'{"account":"main","event":"fill","qty":"5"}', "main"), (b'{"account":5}', "*"),
     (b'{"account":"a\\nb"}', "*")],
)  # fmt: skip
def test_a_trade_update_says_whose_orders_to_look_at_and_nothing_else(body: bytes, target: str) -> None:
    """A forged fill must not change a position: only the name of an account is read."""
    assert account(body) == target


@settings(max_examples=60)
@given(st.binary(max_size=80) | st.sampled_from([b"[1]", b"null", b'"x"', b"[[]]", b"{", b"[" * 2000]))
def test_any_body_is_messages_or_refused(body: bytes) -> None:
    """A body that ends the service would stop all senders."""
    for read in (market_data, news, account):
        try:
            read(body)
        except RecordError as error:
            assert error.reason  # noqa: PT017
