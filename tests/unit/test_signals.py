"""Flash crashes and news spikes against plain Python over all trades.

A false one sells what nobody wanted to sell; one that depends on batches is another one in each replay.
"""

from __future__ import annotations

import random
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.signals import flash, news, symbol
from processors.signals.news import Article
from processors.signals.symbol import Symbol
from processors.signals.tape import BUCKET_NS, MICROS, PPM, PRIOR, WINDOW, Trade

BASE = 1_790_000_000 * 10**9 // BUCKET_NS * BUCKET_NS
SECOND = 10**9


def trade(seconds: float, price: float, size: int = 100) -> Trade:
    ts = BASE + round(seconds * SECOND)
    return Trade(ts, round(price * MICROS), size * MICROS, ts + 7, "ws")


def an_article(seconds: float, score: float, name: str = "a") -> Article:
    ts = BASE + round(seconds * SECOND)
    return Article(name, ts, round(score * 1000), ts + 9, "ws")


def calm(minutes: int = 11, price: float = 100.0) -> list[Trade]:
    """A trade every five seconds, between price and 0.1 % above it."""
    return [trade(5 * n + 1, price * (1 + (n % 3) / 2000)) for n in range(12 * minutes)]


def fold(trades: list[Trade], articles: list[tuple[int, Article]], cuts: set[int] = frozenset()) -> list[Any]:  # type: ignore[assignment]
    """Signals of trades, with articles that come before the trade of their number; after the trades whose
    number is in `cuts` a batch ends: the state is written and read again.
    """
    state, found = symbol.empty(), []
    one = Symbol("AAPL", state)
    arriving = sorted(articles, key=lambda each: each[0])
    offset = 0
    for n, each in enumerate([*trades, None]):
        while arriving and (arriving[0][0] <= n or each is None):
            found += one.article("news", offset, arriving.pop(0)[1]).signals
            offset += 1
        if each is not None:
            found += one.trade("stocks", n, each).signals
        if n in cuts:
            one = Symbol("AAPL", orjson.loads(orjson.dumps(one.keep())))
    return found


def naive_range(trades: list[Trade], last: int) -> int | None:
    """Median range of the windows that end with bucket `last`, over all trades."""
    ranges = []
    for k in range(PRIOR):
        end = last - k * WINDOW
        prices = [t.price for t in trades if end - WINDOW < t.ts // BUCKET_NS <= end]
        if prices:
            ranges.append((max(prices) - min(prices)) * PPM // max(prices))
    return sorted(ranges)[(len(ranges) - 1) // 2] if len(ranges) >= 5 else None


def in_time(trades: list[Trade]) -> list[Trade]:
    """Those that are not late."""
    found: list[Trade] = []
    for one in trades:
        if not found or one.ts // BUCKET_NS >= found[-1].ts // BUCKET_NS:
            found.append(one)
    return found


def naive_crashes(trades: list[Trade]) -> list[tuple[int, int, int]]:
    """(ts, drop, threshold) of each flash crash."""
    kept, found, deep, quiet = in_time(trades), [], 0, 0
    for i, one in enumerate(kept):
        n, before = one.ts // BUCKET_NS, kept[: i + 1]
        usual = naive_range(before, n - WINDOW)
        if usual is None:
            deep = 0
            continue
        high = max(t.price for t in before if t.ts // BUCKET_NS > n - WINDOW)
        drop, threshold = (high - one.price) * PPM // high, max(flash.FLOOR_PPM, flash.TIMES * usual)
        deep = deep + 1 if drop >= threshold else 0
        if deep >= 3 and one.ts >= quiet:
            found.append((one.ts, drop, threshold))
            quiet = one.ts + 60 * SECOND
    return found


def naive_spikes(trades: list[Trade], articles: list[Article]) -> list[tuple[int, str, int]]:
    """(ts, article, move) of each news spike, looked for once all is known."""
    kept, found = in_time(trades), []
    newest = kept[-1].ts // BUCKET_NS if kept else -1
    scores: list[tuple[int, str, int]] = []
    for article in articles:
        mean = sum(s for *_, s in scores) // len(scores) if scores else 0
        scores = sorted([*scores, (article.ts, article.name, article.score)])[-news.REMEMBERED :]
        jump, first = article.score - mean, article.ts // BUCKET_NS
        usual = naive_range(kept, first - 1)
        prior = [t for t in kept if first - PRIOR * WINDOW <= t.ts // BUCKET_NS < first]
        if abs(jump) < news.JUMP or usual is None:
            continue
        for n in range(first, min(first + news.REACTION, newest)):
            now = [t for t in kept if t.ts // BUCKET_NS == n]
            since = sum(t.size for t in kept if first <= t.ts // BUCKET_NS <= n)
            if not now:
                continue
            move = (now[-1].price - prior[-1].price) * PPM // prior[-1].price
            length = n - first + 1
            wanted = news.VOLUME_TIMES * sum(t.size for t in prior) * length // (PRIOR * WINDOW)
            by_price = abs(move) >= max(news.FLOOR_PPM, 2 * usual) and (move > 0) == (jump > 0)
            if by_price or (length >= news.VOLUME_BUCKETS and since >= wanted > 0):
                found.append(((n + 1) * BUCKET_NS, article.name, move))
                break
    return found


def market(seed: int, count: int) -> list[Trade]:
    """Trades of some minutes with drops, jumps, bursts, pauses and late prints."""
    chance, found, at, price = random.Random(seed), [], 0.0, 100.0
    for _ in range(count):
        at += chance.choice([1, 3, 5, 6, 9, 40]) if chance.random() < 0.97 else 200
        price *= 1 + chance.choice([0, 0, 0.0005, -0.0005, 0.004, -0.004])
        if chance.random() < 0.02:
            price *= chance.choice([0.95, 0.97, 1.03])
        late = chance.choice([0, 0, 0, 0, -7, -70])
        found.append(trade(max(0.0, at + late), price, chance.choice([1, 10, 100, 2_000])))
    return found


def test_a_drop_far_beyond_the_usual_is_told_once_with_its_numbers() -> None:
    drop = [trade(661 + n, 97.0 - n / 10) for n in range(9)]
    (found,) = fold([*calm(), *drop], [])
    detail = orjson.loads(found["detail"])
    assert (found["kind"], found["symbol"], found["ts"]) == ("flash_crash", "AAPL", drop[2].ts)
    assert detail["price"] == "96.8"
    assert detail["high"] == "100.1"
    assert found["value"] > found["threshold"] == 1.5
    assert found["received_ts"] == drop[2].ts + 7


def test_one_print_out_of_line_an_unknown_symbol_and_a_wild_one_are_no_crash() -> None:
    """Each of them happens daily; an exit on one of them sells at the worst price for nothing."""
    single = [trade(661, 90), trade(662, 100), trade(663, 90), trade(664, 100)]
    assert fold([*calm(), *single], []) == []
    assert fold([trade(1, 100), *[trade(2 + n, 90) for n in range(5)]], []) == []
    wild = [trade(5 * n + 1, 100 + 2 * (n % 3)) for n in range(140)]
    assert fold([*wild, *[trade(701 + n, 97) for n in range(5)]], []) == []


def test_an_article_counts_when_the_price_follows_it() -> None:
    after = [trade(661 + 5 * n, 100 + n / 4) for n in range(30)]
    good, bad = an_article(660, 0.8), an_article(660, -0.8)
    (found,) = fold([*calm(), *after], [(0, good)])
    detail = orjson.loads(found["detail"])
    assert (found["kind"], found["value"], found["threshold"]) == ("news_spike", 0.8, 0.4)
    assert (detail["by"], detail["score"], detail["mean_score"]) == ("price", 0.8, 0.0)
    assert detail["move_ppm"] >= detail["move_threshold_ppm"] > 0
    assert fold([*calm(), *after], [(0, bad)]) == [], "it rose on bad news: not because of them"
    assert fold([*calm(), *after], [(0, an_article(660, 0.3))]) == []
    again = an_article(665, 0.9)
    assert len(fold([*calm(), *after], [(0, good), (1, again)])) == 1, "a revision is no second article"


def test_an_article_counts_when_the_volume_follows_it() -> None:
    after = [trade(661 + 5 * n, 100, 1_000) for n in range(30)]
    (found,) = fold([*calm(), *after], [(150, an_article(660, -0.7))])
    assert orjson.loads(found["detail"])["by"] == "volume"


def test_records_that_are_read_again_give_the_same_signals_again_and_change_nothing() -> None:
    """The send before a crash may have been lost; a second fold would find a second crash."""
    trades = [*calm(), *[trade(661 + n, 97.0) for n in range(9)]]
    one = Symbol("AAPL", symbol.empty())
    first = [s for n, t in enumerate(trades) for s in one.trade("stocks", n, t).signals]
    kept = orjson.dumps(one.keep())
    again = Symbol("AAPL", orjson.loads(kept))
    second = [s for n, t in enumerate(trades) for s in again.trade("stocks", n, t).signals]
    assert first == second
    assert len(first) == 1
    assert orjson.dumps(again.keep()) == kept


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6), st.sets(st.integers(0, 250), max_size=12))
def test_crashes_are_those_of_plain_python_however_batches_end(seed: int, cuts: set[int]) -> None:
    trades = [*calm(6), *(t._replace(ts=t.ts + 361 * SECOND) for t in market(seed, 150))]
    found = fold(trades, [], cuts)
    assert found == fold(trades, [])
    told = [(s["ts"], round(s["value"] * 10_000), round(s["threshold"] * 10_000)) for s in found]
    assert told == naive_crashes(trades)


@settings(max_examples=4, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(
        st.tuples(st.integers(300, 900), st.sampled_from([-0.9, -0.4, 0.1, 0.8]), st.integers(0, 180)),
        max_size=5,
    ),
    st.integers(0, 10**6),
)
def test_spikes_are_those_of_plain_python_wherever_articles_come(
    seed: int, said: list[tuple[int, float, int]], other: int
) -> None:
    """The topics' interleaving is another one in each run; the signals must not be."""
    trades = [*calm(6), *(t._replace(ts=t.ts + 361 * SECOND) for t in market(seed, 110))]
    articles = [an_article(at, score, str(n)) for n, (at, score, _) in enumerate(said)]
    told = []
    for where in ([0] * len(said), sorted(w for *_, w in said), [len(trades)] * len(said)):
        found = fold(trades, list(zip(where, articles, strict=True)), {other % 180})
        spikes = [s for s in found if s["kind"] == "news_spike"]
        told.append(sorted(spikes, key=lambda s: bytes(s["event_id"])))
    assert told[0] == told[1] == told[2]
    moves = [(s["ts"], (d := orjson.loads(s["detail"]))["article"], d["move_ppm"]) for s in told[0]]
    assert sorted(moves) == sorted(naive_spikes(trades, articles))
