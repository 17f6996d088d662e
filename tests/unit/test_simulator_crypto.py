"""Without these the simulated crypto market would teach the pipeline other numbers than Alpaca's."""

from __future__ import annotations

import gzip
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.bar_book import BarBook
from simulator.bars import MINUTE
from simulator.crypto.bars import UNITS, bar_fold, day_start, part_of
from simulator.crypto.books import Books
from simulator.crypto.recording import pair_of
from simulator.crypto.synthetic import PAIRS, SyntheticCrypto
from simulator.latest import LatestPrices, Quote, Trade, VenuePrices
from simulator.rejects import Rejects
from simulator.tape import Inputs
from simulator.wire import Message, Streams, pack, timestamp

START = 1_723_179_600_000_000_000  # 2024-08-09 05:00 UTC: midnight in Chicago
RECORDING = Path(__file__).parents[3] / "shared" / "data" / "crypto"

TRADE = st.tuples(st.just("t"), st.integers(1, 500), st.integers(1, 10**12))
QUOTE = st.tuples(st.just("q"), st.integers(0, 500), st.integers(0, 500))
ROW = st.tuples(
    st.integers(0, 20_000),  # ms since the message before
    st.sampled_from(["BTC/USD", "ETH/USD"]),
    TRADE | QUOTE,
    st.sampled_from([0, 0, 0, 5_000, 70_000]),  # ms by which it comes late
)


def messages_of(rows: list[tuple[Any, ...]]) -> list[Message]:
    streams, clock, made = Streams(), START, []
    for gap, pair, (kind, a, b), late in rows:
        clock += gap * 1_000_000
        event = max(START, clock - late * 1_000_000)
        fields = (
            {"p": a / 4, "s": b / UNITS} if kind == "t" else {"bp": a / 4, "bs": 1.0, "ap": b / 4, "as": 1.0}
        )
        message = {"T": kind, "S": pair, **fields}
        stream = streams.get("trades" if kind == "t" else "quotes", pair)
        made.append((clock, event, stream, pack(message), part_of(message)))
    return made


def run(messages: list[Message]) -> list[dict[str, Any]]:
    fold = bar_fold()
    fold.start(START)
    left: list[dict[str, Any]] = []
    for message in messages:
        while message[0] >= fold.mark:
            left += [bar for _, bar in fold.pass_mark()]
        fold.add([message])
    return left + [bar for _, bar in fold.finish()]


def naive(messages: list[Message], *, day: bool) -> dict[tuple[str, int], tuple[Any, ...]]:
    """Alpaca's rule in the plainest words: midpoints are prices, only trades have volume."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for _, event, stream, packed, _ in messages:
        start = day_start(event) if day else event // MINUTE * MINUTE
        groups.setdefault((stream.symbol, start), []).append(msgpack.unpackb(packed))
    bars = {}
    for key, group in groups.items():
        prices = []
        for m in group:
            if m["T"] == "t":
                prices.append(m["p"])
            elif m["bp"] > 0 and m["ap"] > 0:
                prices.append((m["bp"] + m["ap"]) / 2)
        trades = [(Fraction(m["p"]), Fraction(round(m["s"] * UNITS))) for m in group if m["T"] == "t"]
        if prices:
            volume = sum((s for _, s in trades), Fraction(0))
            vwap = float(sum(p * s for p, s in trades) / volume) if volume else 0.0
            bars[key] = (
                *(prices[0], max(prices), min(prices), prices[-1], float(volume / UNITS), len(trades)),
                pytest.approx(vwap, abs=1e-6),
            )
    return bars


@given(st.lists(ROW, min_size=1, max_size=60))
def test_bars_are_those_of_a_naive_reading_of_the_rules(rows: list[tuple[Any, ...]]) -> None:
    """A user's crypto charts would be wrong, most of all in the minutes in which nothing traded."""
    messages = messages_of(rows)
    final: dict[bool, dict[tuple[str, int], tuple[Any, ...]]] = {True: {}, False: {}}
    for bar in run(messages):
        shown = tuple(bar[name] for name in ("o", "h", "l", "c", "v", "n", "vw"))
        final[bar["T"] == "d"][bar["S"], bar["t"].to_unix_nano()] = shown
    assert final[False] == naive(messages, day=False)
    assert final[True] == naive(messages, day=True)


def test_a_minute_of_quotes_alone_is_a_bar_without_volume() -> None:
    [bar] = [b for b in run(messages_of([(1, "BTC/USD", ("q", 40, 44), 0)])) if b["T"] == "b"]
    assert {k: bar[k] for k in "ohlc"} == dict.fromkeys("ohlc", 10.5)
    assert (bar["v"], bar["n"], bar["vw"]) == (0.0, 0, 0.0)
    assert type(bar["v"]) is float


def test_longer_bars_of_nothing_traded_can_be_asked_for() -> None:
    """REST would fail with a division by zero for a quiet pair."""
    book = BarBook(day_start)
    for bar in run(messages_of([(40_000, "BTC/USD", ("q", 40, 44), 0)] * 5)):
        book.add(bar["t"].to_unix_nano(), bar)
    [(start, joined)] = book.bars("BTC/USD", 15)
    assert (start, joined["v"], joined["vw"], joined["o"]) == (START, 0.0, 0.0, 10.5)


def test_the_same_seed_is_the_same_crypto_market_with_a_book_that_fits_its_quotes() -> None:
    """A failure seen with a seed could not be seen again; and a book could contradict the quote."""

    def market(seed: int) -> list[Message]:
        tape = SyntheticCrypto(list(PAIRS), seed, START, 40.0, 3_000)
        return [message for block in tape.read(Streams()) for message in block]

    first = market(1)
    assert [m[3] for m in first] == [m[3] for m in market(1)]
    assert [m[3] for m in first] != [m[3] for m in market(2)]
    assert [m[0] for m in first] == sorted(m[0] for m in first)
    books, ids = Books(), []
    for message in first:
        books.observe([message])
        fields = msgpack.unpackb(message[3])
        if fields["T"] == "q":
            assert fields["bp"] < fields["ap"]
            shown = books.shown(fields["S"])
            assert shown is not None
            assert (shown["b"][0], shown["a"][0]) == (
                {"p": fields["bp"], "s": fields["bs"]},
                {"p": fields["ap"], "s": fields["as"]},
            )
        elif fields["T"] == "t":
            ids.append((fields["S"], fields["i"]))
            assert fields["tks"] in ("B", "S")
            assert fields["s"] > 0
    assert len(set(ids)) == len(ids) > 100
    assert {m[2].symbol for m in first} == set(PAIRS)


LINES = [
    b'100 {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":2,"s":"BTCUSDT","U":1,"u":4,'
    b'"b":[["9.5","1.0"]],"a":[]}}',
    b'200 {"stream":"btcusdt@bookTicker","data":{"u":5,"s":"BTCUSDT",'
    b'"b":"10.00","B":"3.5","a":"10.02","A":"1"}}',
    b'200 {"stream":"btcusdt@trade","data":{"e":"trade","E":1,"s":"BTCUSDT","t":77,"p":"10.02","q":"0.02",'
    b'"T":9,"m":true,"M":true}}',
    b'150 {"lastUpdateId":6,"bids":[["10.00","3.5"],["9.00","2"]],"asks":[["10.02","1"]]}',
    b'300 {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":3,"s":"BTCUSDT","U":5,"u":6,'
    b'"b":[["9.5","7.0"]],"a":[]}}',
    b'400 {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":4,"s":"BTCUSDT","U":7,"u":8,'
    b'"b":[["9.00","0.0"]],"a":[["10.03","4"]]}}',
    b"500 not json",
    b'600 {"stream":"x","data":{"e":"kline","s":"BTCUSDT"}}',
    b'700 {"stream":"x","data":{"e":"trade","s":"ETHBTC"}}',
    b'800 {"stream":"x","data":{"e":"trade","s":"ETHUSDT","t":1}}',
    b"words",
]
STAMPED = [b"1723161254000000" + line if line[:1].isdigit() else line for line in LINES]


def recorded(path: Path) -> tuple[list[Message], Rejects]:
    rejects = Rejects()
    tape = Inputs([path], rejects).crypto()
    return [message for block in tape.read(Streams()) for message in block], rejects


def test_a_recording_becomes_alpacas_messages_in_the_order_of_its_stamps(tmp_path: Path) -> None:
    """The crypto recording of a demo would be another market than the one that was recorded."""
    path = tmp_path / "btcusdt_20240808.gz"
    path.write_bytes(gzip.compress(b"\n".join(STAMPED) + b"\n"))
    messages, rejects = recorded(path)
    shown = [msgpack.unpackb(m[3]) for m in messages]
    assert [m["T"] for m in shown] == ["o", "q", "t", "o", "o"]
    assert shown[1] == {
        "T": "q", "S": "BTC/USD", "bp": 10.0, "bs": 3.5, "ap": 10.02, "as": 1.0,
        "t": timestamp(1723161254_000000200),
    }  # fmt: skip
    assert shown[2] == {
        "T": "t", "S": "BTC/USD", "p": 10.02, "s": 0.02, "t": timestamp(9_000_000), "i": 77, "tks": "S",
    }  # fmt: skip
    assert shown[3]["r"] is True
    assert "r" not in shown[4]
    arrivals = [m[0] for m in messages]
    assert arrivals == sorted(arrivals)
    reasons = {r.line: r.reason.split(":")[0] for r in rejects.lines}
    assert reasons == {
        5: "a change of the order book from before its snapshot",
        7: "not JSON",
        8: "unknown event",
        9: "not a pair with the dollar",
        10: "not a trade, bookTicker or depth of Binance",
        11: "no receipt stamp in ns",
    }
    books = Books()
    books.observe(messages)
    shown_book = books.shown("BTC/USD")
    assert shown_book is not None
    assert shown_book["b"] == [{"p": 10.0, "s": 3.5}]
    assert shown_book["a"] == [{"p": 10.02, "s": 1.0}, {"p": 10.03, "s": 4.0}]


def test_a_change_newer_than_the_snapshot_that_it_came_before_still_holds(tmp_path: Path) -> None:
    """Else a level that was taken away stays in the recorded book, which is then crossed for ever."""
    change = (
        b'100 {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":2,"s":"BTCUSDT","U":%d,"u":%d,'
        b'"b":[["%s","%s"]],"a":[]}}'
    )
    snapshot = b'150 {"lastUpdateId":6,"bids":[["10.01","3"],["10.00","3.5"]],"asks":[["10.02","1"]]}'
    lines = [change % (1, 4, b"10.00", b"9"), change % (5, 7, b"10.01", b"0"), snapshot]
    path = tmp_path / "btcusdt.gz"
    path.write_bytes(gzip.compress(b"\n".join(b"1723161254000000" + line for line in lines) + b"\n"))
    messages, rejects = recorded(path)
    whole = msgpack.unpackb(messages[-1][3])
    assert (len(messages), rejects.count, whole["r"]) == (3, 0, True)
    assert (whole["b"], whole["a"]) == ([{"p": 10.0, "s": 3.5}], [{"p": 10.02, "s": 1.0}])


def test_pairs_are_named_as_at_alpaca() -> None:
    assert [pair_of(s) for s in ("BTCUSDT", "ETHUSD", "DOGEUSDC", "ETHBTC", "USDT")] == [
        "BTC/USD", "ETH/USD", "DOGE/USD", None, None,
    ]  # fmt: skip


@pytest.mark.skipif(not RECORDING.is_dir(), reason="the crypto recording is not beside the project")
def test_the_real_recording_begins_whole() -> None:
    """The demo's ten minutes of crypto would lack messages that nobody counted."""
    rejects = Rejects()
    tape = Inputs([RECORDING / "ethusdt_20240808.gz"], rejects).crypto()
    first = next(tape.read(Streams()))
    assert {m[2].symbol for m in first} == {"ETH/USD"}
    assert {m[2].channel for m in first} == {"trades", "quotes", "orderbooks"}
    assert rejects.count == 0


def test_the_latest_prices_are_decoded_when_asked_for_and_told_to_watchers() -> None:
    """The simulated broker would fill orders at prices of another symbol, or never."""
    streams = Streams()
    crypto, stocks = VenuePrices(streams), VenuePrices(Streams())
    prices = LatestPrices(stocks, crypto)
    told: list[Quote | Trade] = []
    prices.watch(["ETH/USD", "AAPL"], told.append)
    tape = SyntheticCrypto(["BTC/USD", "ETH/USD"], 1, START, 40.0, 500)
    messages = [message for block in tape.read(streams) for message in block]
    crypto.recall(messages[:250])
    crypto.observe(messages[250:])
    wanted = [m for m in messages[250:] if m[2].symbol == "ETH/USD" and m[2].channel in ("quotes", "trades")]
    assert [(t.symbol, t.ns) for t in told] == [("ETH/USD", m[1]) for m in wanted]
    last = msgpack.unpackb(
        [m for m in messages if (m[2].channel, m[2].symbol) == ("quotes", "BTC/USD")][-1][3]
    )
    quote = prices.quote("BTC/USD")
    assert quote is not None
    assert [float(value) for value in quote[2:]] == [last["bp"], last["bs"], last["ap"], last["as"]]
    trade = prices.trade("BTC/USD")
    assert trade is not None
    assert trade.price > 0
    assert (prices.quote("AAPL"), prices.trade("NO/USD")) == (None, None)
