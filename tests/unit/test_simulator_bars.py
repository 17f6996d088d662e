"""Without these a user's bars would differ from the trades that made them."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from simulator.bar_book import BarBook, parse_timeframe
from simulator.bars import MINUTE, BarFold, new_york_midnight
from simulator.conditions import ALWAYS, NEVER, update_rule
from simulator.wire import Message, Stream, timestamp

START = 1_381_152_600_000_000_000  # 2013-10-07 09:30 in New York, a full minute
CONDITIONS = [(), ("@",), ("@", "I"), ("@", "T"), ("Z",), ("M",), ("P",), ("F", "T")]
TRADE = st.tuples(
    st.integers(0, 20_000),  # ms since the trade before
    st.sampled_from(["AAPL", "MSFT"]),
    st.integers(1, 50),
    st.integers(1, 500),
    st.sampled_from(CONDITIONS),
    st.sampled_from([0, 0, 0, 5_000, 70_000]),  # ms by which it prints late
)


def messages_of(trades: list[tuple[Any, ...]]) -> list[Message]:
    clock = START
    result: list[Message] = []
    streams = {s: Stream("trades", s) for s in ("AAPL", "MSFT")}
    for gap, symbol, price, size, letters, late in trades:
        clock += gap * 1_000_000
        event = max(START, clock - late * 1_000_000)
        result.append((clock, event, streams[symbol], b"", (float(price), size, update_rule(letters, "C"))))
    return result


def run(messages: list[Message]) -> list[dict[str, Any]]:
    fold = BarFold()
    fold.start(START)
    left: list[dict[str, Any]] = []
    for message in messages:
        while message[0] >= fold.mark:
            left += [bar for _, bar in fold.pass_mark()]
        fold.add([message])
    return left + [bar for _, bar in fold.finish()]


def naive(messages: list[Message], day: bool) -> dict[tuple[str, int], tuple[float, ...]]:
    groups: dict[tuple[str, int], list[Any]] = {}
    for _, event, stream, _, part in messages:
        start = new_york_midnight(event) if day else event // MINUTE * MINUTE
        groups.setdefault((stream.symbol, start), []).append(part)
    bars: dict[tuple[str, int], tuple[float, ...]] = {}
    for key, parts in groups.items():
        rows = [(p, s, rule.day if day else rule.minute) for p, s, rule in parts]
        setters = [i for i, (_, _, u) in enumerate(rows) if u.last != NEVER]
        always = [i for i, (_, _, u) in enumerate(rows) if u.last == ALWAYS]
        ranged = [p for p, _, u in rows if u.high_low]
        volume = sum(s for _, s, u in rows if u.volume)
        if not setters or not ranged or not volume:
            continue
        close = rows[always[-1] if always else setters[0]][0]
        count = sum(u.volume for _, _, u in rows)
        bars[key] = (rows[setters[0]][0], max(ranged), min(ranged), close, volume, count)
    return bars


def values(bar: dict[str, Any]) -> tuple[float, ...]:
    return tuple(bar[name] for name in ("o", "h", "l", "c", "v", "n"))


@given(st.lists(TRADE, max_size=60))
def test_the_last_word_on_each_bar_is_a_naive_fold_of_its_trades(trades: list[tuple[Any, ...]]) -> None:
    messages = messages_of(trades)
    final = {(b["S"], b["t"].to_unix_nano(), b["T"] == "d"): values(b) for b in run(messages)}
    expected = {(*key, False): bar for key, bar in naive(messages, day=False).items()}
    expected |= {(*key, True): bar for key, bar in naive(messages, day=True).items()}
    assert final == expected


@given(st.lists(TRADE, max_size=60))
@example([(0, "AAPL", 1, 1, (), 0), (60_000, "AAPL", 1, 1, (), 0), (0, "AAPL", 1, 1, ("M",), 60_500)])
def test_a_minute_leaves_once_as_b_and_then_only_as_changed_u(trades: list[tuple[Any, ...]]) -> None:
    seen: dict[tuple[str, int], tuple[float, ...]] = {}
    for bar in run(messages_of(trades)):
        key = (bar["S"], bar["t"].to_unix_nano())
        if bar["T"] == "b":
            assert key not in seen
        elif bar["T"] == "u":
            assert seen.get(key) != values(bar)
        else:
            continue
        seen[key] = values(bar)


def test_a_bar_leaves_when_the_minute_is_over_and_a_late_trade_makes_a_correction() -> None:
    bars = run(
        messages_of(
            [(0, "AAPL", 10, 100, (), 0), (61_000, "AAPL", 12, 50, (), 5_000), (60_000, "MSFT", 1, 1, (), 0)]
        )
    )
    assert [(b["T"], b["S"], b["v"]) for b in bars] == [
        ("b", "AAPL", 100),
        ("d", "AAPL", 100),
        ("u", "AAPL", 150),
        ("d", "AAPL", 150),
        ("b", "MSFT", 1),
        ("d", "MSFT", 1),
    ]
    assert bars[2]["vw"] == round((10 * 100 + 12 * 50) / 150, 6)


def test_longer_bars_are_made_of_minute_bars() -> None:
    book = BarBook()
    for i, (price, volume) in enumerate([(10.0, 100), (12.0, 300), (9.0, 100)]):
        bar = {
            "T": "b",
            "S": "A",
            "o": price,
            "h": price + 1,
            "l": price - 1,
            "c": price,
            "v": volume,
            "n": 1,
        }
        book.add(START + i * MINUTE, {**bar, "vw": price, "t": timestamp(START + i * MINUTE)})
    [(start, bar)] = book.bars("A", parse_timeframe("5Min"))
    assert (start, values(bar), bar["vw"]) == (START, (10.0, 13.0, 8.0, 9.0, 500, 3), 11.0)
    assert len(book.bars("A", 1)) == 3
