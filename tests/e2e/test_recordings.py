"""Eleven recorded minutes of BTC and ETH and 7,516 headlines through the whole line: nothing lost or changed.

What is due is read from the files here, without the pipeline's code, and compared row by row.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.demo_process import MARKET_ONLY, database_url, environment, run
from tidewire.config import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(480)]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CRYPTO, NEWS = DATA / "crypto", DATA / "news"
PAIRS = {"BTCUSDT": "BTC/USD", "ETHUSDT": "ETH/USD"}
TS = "(extract(epoch FROM ts) * 1000000)::int8 * 1000 + ts_nanos"
Rows = Counter[tuple[Any, ...]]

needs_recordings = pytest.mark.skipif(
    not (CRYPTO.is_dir() and NEWS.is_dir()),
    reason="the recordings (../shared/data/crypto and ../shared/data/news) are not here",
)


@needs_recordings
def test_recorded_crypto_and_headlines_arrive_whole(settings: Settings, tmp_path: Path) -> None:
    """Otherwise real messages, with their skewed clocks and odd characters, cost the user some of them."""
    trades, quotes, first, last = recorded_crypto()
    books = recorded_books()
    articles = headlines()
    assert last - first >= timedelta(minutes=10) / timedelta(microseconds=1) * 1_000
    assert len(articles) >= 1_000
    arguments = ["demo", "--ticks", str(CRYPTO), str(NEWS), "--rate", "max", *MARKET_ONLY, "--json"]
    done = run(arguments, environment(settings), tmp_path, 390)
    body = done.json
    assert body["complete"], (body["problems"], body["channels"])
    assert done.code == 0
    assert body["rejected_lines"] == []
    for name, due in (
        ("crypto_trades", trades),
        ("crypto_quotes", quotes),
        ("crypto_orderbooks", books),
        ("news", articles),
    ):
        channel = body["channels"][name]
        assert [channel[k] for k in ("sent", "topic", "postgres")] == [sum(due.values())] * 3, (name, channel)
        assert (channel["duplicates"], channel["extra"], channel["missing"]) == (0, 0, 0)
    with psycopg.connect(database_url(settings)) as connection:
        assert (
            stored(connection, f"symbol, {TS}, trade_id, price, size, taker_side FROM crypto_trades")
            == trades
        )
        columns = f"symbol, {TS}, bid_price, bid_size, ask_price, ask_size"
        assert stored(connection, f"{columns} FROM crypto_quotes") == quotes
        sides = ", ".join(
            f"array_to_string({s}_{n}, ' ')" for s in ("bid", "ask") for n in ("prices", "sizes")
        )
        assert stored(connection, f"symbol, {TS}, reset, {sides} FROM crypto_orderbooks") == books
        assert stored(connection, "headline FROM news") == articles
        due = stored(connection, "DISTINCT id, unnest(symbols) FROM news")
        assert len(due) > 1_000
        assert stored(connection, "article_id, symbol FROM news_sentiment") == due


def stored(connection: psycopg.Connection[Any], columns_and_table: str) -> Rows:
    return Counter(connection.execute(f"SELECT {columns_and_table}".encode()).fetchall())


def recorded_crypto() -> tuple[Rows, Rows, int, int]:
    """Trades, quotes, and the first and last receipt stamp (ns), as the recordings have them."""
    trades: Rows = Counter()
    quotes: Rows = Counter()
    stamps: list[int] = []
    for receipt, message in recorded_lines():
        stamps.append(receipt)
        data = message.get("data", {})
        kind = data.get("e", "quote" if "B" in data else "")
        if kind == "trade":
            taker = "S" if data["m"] else "B"
            numbers = (float(data["p"]), float(data["q"]))
            trades[PAIRS[data["s"]], data["T"] * 1_000_000, data["t"], *numbers, taker] += 1
        elif kind == "quote":
            quotes[PAIRS[data["s"]], receipt, *(float(data[k]) for k in ("b", "B", "a", "A"))] += 1
    return trades, quotes, min(stamps), max(stamps)


def recorded_books() -> Rows:
    """Every whole book and change, with the numbers of each list as PostgreSQL prints them."""
    books: Rows = Counter()
    for path in sorted(CRYPTO.glob("*.gz")):
        symbol, waiting = "", list[dict[str, Any]]()
        for receipt, message in lines_of(path):
            data = message.get("data", {})
            symbol = data.get("s", symbol)
            if data.get("e") == "depthUpdate":
                waiting.append(data)
                books[book_row(symbol, data["E"] * 1_000_000, False, data["b"], data["a"])] += 1
            elif "lastUpdateId" in message:
                newer = [c for c in waiting if c["u"] > message["lastUpdateId"]]
                sides = []
                for name, key, sign in (("bids", "b", -1), ("asks", "a", 1)):
                    levels = dict(message[name]) | {p: s for change in newer for p, s in change[key]}
                    left = [(p, s) for p, s in levels.items() if float(s)]
                    sides.append(sorted(left, key=lambda level: sign * float(level[0])))
                books[book_row(symbol, receipt, True, *sides)] += 1
    return books


def book_row(symbol: str, ts: int, reset: bool, *sides: Iterable[Sequence[str]]) -> tuple[Any, ...]:
    numbers = [" ".join(shown(level[n]) for level in side) for side in sides for n in (0, 1)]
    return (PAIRS[symbol], ts, reset, *numbers)


def shown(number: str) -> str:
    """A recorded decimal as PostgreSQL prints the double."""
    return f"{float(number):g}" if float(number) < 1e-4 else number.rstrip("0").rstrip(".") or "0"


def recorded_lines() -> Iterator[tuple[int, dict[str, Any]]]:
    for path in sorted(CRYPTO.glob("*.gz")):
        yield from lines_of(path)


def lines_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            stamp, _, text = line.partition(" ")
            yield int(stamp), json.loads(text)


def headlines() -> Rows:
    with (NEWS / "sentfin_headlines.csv").open(encoding="utf-8-sig", newline="") as file:
        return Counter((row["headline"].strip(),) for row in csv.DictReader(file))
