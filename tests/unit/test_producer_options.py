"""Option trades and quotes have no ids: what comes must be in the log as often as it came, restart or not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.intake import Intake
from producers.options import OptionEncoder, quote_event, trade_event
from producers.plans import plans
from producers.subscriptions import OPTION_CHANNELS, Subscriptions
from schemas import event_id
from schemas.codec import load_codec
from tests.unit.producer_memory import Memory, counted, remembered
from tidewire import config

CODEC = load_codec(config.load(_env_file=None))
RECEIVED, TS = 1_763_740_801_000_000_000, 1_763_740_800_123_456_789
AAPL, SPX = "AAPL240315C00172500", "SPXW240327P04925000"
TRADE = {"T": "t", "S": AAPL, "t": TS, "p": 2.84, "s": 1, "x": "N", "c": "S"}
QUOTE = {
    "T": "q",
    "S": SPX,
    "t": TS,
    "bx": "C",
    "bp": 9.46,
    "bs": 53,
    "ax": "C",
    "ap": 9.66,
    "as": 38,
    "c": "A",
}

contracts = st.sampled_from([AAPL, SPX])
times = st.sampled_from([TS, TS + 1, TS + 40 * 10**9])
amounts = st.sampled_from([0, 1, 9_000, 2**63 - 1])
dollars = st.sampled_from([0.0, 2.84, 3])
letters = st.sampled_from(["", "S", "C"])
trades = st.fixed_dictionaries(
    {"T": st.just("t"), "S": contracts, "t": times, "p": dollars, "s": amounts, "x": letters, "c": letters}
)
quotes = st.fixed_dictionaries(
    {"T": st.just("q"), "S": contracts, "t": times, "bx": letters, "bp": dollars, "bs": amounts,
     "ax": letters, "ap": dollars, "as": amounts, "c": letters}
)  # fmt: skip


def _encoder(source: str = "ws") -> OptionEncoder:
    return OptionEncoder(CODEC, owner_epoch=7, source=source)


def _intake(encoder: OptionEncoder | None = None) -> tuple[Memory, Intake]:
    memory = Memory()
    return memory, Intake("options:test", encoder or _encoder(), memory, lambda topic: topic)


def _wire(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "t": msgpack.Timestamp.from_unix_nano(message["t"])}


def _frame(*messages: dict[str, Any]) -> bytes:
    return bytes(msgpack.packb([_wire(m) for m in messages]))


def _expected(m: dict[str, Any], ordinal: int) -> tuple[str, bytes, bytes]:
    """The record of a message, read anew here."""
    common = {"symbol": m["S"], "ts": m["t"], "condition": m["c"], "extra": None, "received_ts": RECEIVED,
              "source": "ws", "owner_epoch": 7}  # fmt: skip
    if m["T"] == "t":
        event = event_id.option_trade_id(m["S"], m["t"], m["x"], m["p"], m["s"], m["c"], ordinal)
        own = {"exchange": m["x"], "price": float(m["p"]), "size": m["s"], "event_id": event}
        return "alpaca.options.trades", m["S"].encode(), CODEC.encode("option_trade", {**common, **own})
    bid, ask = (m["bx"], m["bp"], m["bs"]), (m["ax"], m["ap"], m["as"])
    event = event_id.option_quote_id(m["S"], m["t"], *bid, *ask, m["c"], ordinal)
    own = {"bid_exchange": m["bx"], "bid_price": float(m["bp"]), "bid_size": m["bs"], "ask_exchange": m["ax"],
           "ask_price": float(m["ap"]), "ask_size": m["as"], "event_id": event}  # fmt: skip
    return "alpaca.options.quotes", m["S"].encode(), CODEC.encode("option_quote", {**common, **own})


@given(st.lists(trades | quotes, min_size=1, max_size=8), st.integers(0, 8))
@settings(max_examples=25, deadline=None)
def test_every_event_is_written_under_its_ordinal_also_over_a_restart(
    messages: list[dict[str, Any]], restart: int
) -> None:
    """Lost otherwise: the second of two equal trades, or every trade after a restart that looks like one."""
    memory, intake = _intake()
    counts: Counter[str] = Counter()
    duplicates = counted("duplicate", "options:test")
    for index, m in enumerate(messages * 2):
        if index == restart:
            encoder = _encoder()
            remembered(CODEC, encoder, memory)
            log, intake = _intake(encoder)
            log.records, memory.records = memory.records, []
            memory = log
        intake.frame(_frame(m), RECEIVED)
        name = repr(sorted({**m, **{k: float(v) for k, v in m.items() if k in ("p", "bp", "ap")}}.items()))
        assert memory.records[-1][:3] == _expected(m, counts[name])
        counts[name] += 1
    assert len(memory.records) == 2 * len(messages)
    assert counted("duplicate", "options:test") == duplicates


def test_no_condition_no_side_and_unknown_fields_are_kept_and_bad_messages_keep_their_bytes() -> None:
    """One bad message must cost itself alone, and none of its bytes."""
    memory, intake = _intake()
    bare = {k: v for k, v in QUOTE.items() if k not in ("c", "bx")} | {"bp": 0, "bs": 0, "ax": None, "new": 1}
    bad = [{**TRADE, "s": 1.5}, {**TRADE, "c": ["S"]}, {**QUOTE, "bp": "9"}, {**TRADE, "T": "b"}]
    count, control = intake.frame(_frame(bare, {**TRADE, "c": None}, *bad), RECEIVED)
    assert (count, control) == (6, [])
    quote, trade = (CODEC.decode(value)[1] for _, _, value, _ in memory.records)
    assert (quote["condition"], quote["bid_exchange"], quote["ask_exchange"]) == ("", "", "")
    assert (quote["extra"], trade["condition"]) == ('{"new":1}', "")
    assert [(letter.topic, letter.value) for letter in memory.letters] == [
        (topic, msgpack.packb(_wire(m)))
        for topic, m in zip(
            ["alpaca.options.trades"] * 2 + ["alpaca.options.quotes", "alpaca.options.frames"],
            bad,
            strict=True,
        )
    ]


def test_events_from_rest_get_the_same_ids() -> None:
    """Otherwise a backfill would write every trade of the gap's edges a second time."""
    encoder = _encoder("rest")
    record = CODEC.decode(encoder.trade(TRADE)[1])[1]
    assert (record["source"], record["event_id"]) == ("rest", trade_event(record, 0))
    record = CODEC.decode(encoder.quote(QUOTE)[1])[1]
    assert record["event_id"] == quote_event(record, 0) != quote_event(record, 1)


def test_the_stream_is_opened_when_contracts_are_named() -> None:
    """A user who names contracts and gets no stream would wait for ever."""
    settings_ = config.load(_env_file=None, tidewire_option_symbols=AAPL, tidewire_option_feed="opra")
    (plan,) = [p for p in plans(settings_) if p.open_as == "options"]
    assert (plan.name, plan.symbols, plan.channels) == ("options:opra", (AAPL,), ("trades", "quotes"))
    assert plan.url.endswith("/v1beta1/opra")
    assert "options" not in [p.open_as for p in plans(config.load(_env_file=None))]


def test_a_star_is_for_trades_and_quotes_are_asked_for_by_name() -> None:
    """Alpaca refuses a star for option quotes (413): the named contracts and clients' wishes still come."""
    subscriptions = Subscriptions(("*", AAPL), OPTION_CHANNELS, ())
    for _ in range(2):  # the same on the next connection
        subscriptions.restart()
        held: dict[str, list[str]] = {"trades": [], "quotes": []}
        subscriptions.want({"quotes": [SPX, AAPL], "trades": [SPX]})
        while (piece := subscriptions.next()) is not None:
            if "quotes" in piece.channels and "*" in piece.symbols:
                subscriptions.rejected()
                continue
            for channel in piece.channels:
                held[channel] += piece.symbols
            subscriptions.acknowledged({"T": "subscription", **held})
        assert (held["trades"], sorted(held["quotes"])) == (["*"], [AAPL, SPX])
        assert subscriptions.refused == {"quotes": ("*",)}
        assert subscriptions.settled
