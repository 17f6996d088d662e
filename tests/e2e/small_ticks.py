"""A small set of tick files with all that real ones have, and a few things that they should not."""

from __future__ import annotations

import gzip
import random
from dataclasses import dataclass
from pathlib import Path

TRADES = "ms_since_midnight_ny,price_x10000,size,exchange,sale_condition_hex,suspicious"
QUOTES = "ms_since_midnight_ny,bid_x10000,bid_size,ask_x10000,ask_size,exchange,quote_condition,suspicious"
OPEN_MS = 34_200_000


@dataclass(frozen=True)
class Expected:
    """What the files hold."""

    trades: int
    quotes: int
    broken: tuple[str, str]
    """file:line of the two broken lines"""
    skipped: str


def write(folder: Path) -> Expected:
    """Two symbols, two days for one of them, both kinds of compression."""
    rng = random.Random(7)
    folder.mkdir(parents=True)
    trades = _trades(rng, 900, 138_200)
    trades[400:400] = ["34260000,thirteen,100,P,0,0"]
    _write(folder / "bac_20131007_trade_tick.csv.gz", TRADES, trades)
    _write(folder / "bac_20131008_trade_tick.csv", TRADES, _trades(rng, 100, 137_900))
    quotes, count = _quotes(rng, 700)
    quotes += ["36000000,138200,500,0,0,Q,1"]  # a column is missing
    _write(folder / "bac_20131007_quote_tick.csv", QUOTES, quotes)
    ibm, ibm_count = _quotes(rng, 300)
    _write(folder / "ibm_20131007_quote_tick.csv.gz", QUOTES, ibm)
    (folder / "notes.txt").write_text("not a tick file\n")
    return Expected(
        trades=1_000,
        quotes=count + ibm_count,
        broken=(
            "bac_20131007_trade_tick.csv.gz:402",
            f"bac_20131007_quote_tick.csv:{len(quotes) + 1}",
        ),
        skipped="notes.txt",
    )


def _trades(rng: random.Random, count: int, price: int) -> list[str]:
    rows: list[str] = []
    ms = OPEN_MS
    for n in range(count):
        if n % 50 == 49:
            rows.append(rows[-1])  # the same print again: another trade
            continue
        ms += rng.choice((0, 0, 1, 7, 250))
        price += rng.choice((-100, -1, 0, 0, 33, 100))
        rows.append(
            f"{ms},{price},{rng.choice((100, 283, 5000))},{rng.choice('PQDZ')},{rng.choice(('0', '2000'))},0"
        )
    return rows


def _quotes(rng: random.Random, count: int) -> tuple[list[str], int]:
    """Rows, and how many quotes they are: pairs, true repeats, and one-sided quotes of both kinds."""
    rows = ["33000000,0,0,140200,500,Q,1,0"]  # an ask alone
    ms, price = OPEN_MS, 138_200
    for n in range(count):
        ms += rng.choice((1, 1, 3, 40))
        price += rng.choice((-100, 0, 0, 100))
        cross = rng.choice((-100, 0, 100, 100))
        pair = [f"{ms},{price},{rng.randrange(1, 90)}00,0,0,P,1,0", f"{ms},0,0,{price + cross},700,Z,1,0"]
        rows += pair * (3 if n % 100 == 99 else 1)
    rows.append(f"{ms + 5},{price},900,0,0,P,1,0")  # a bid alone
    return rows, count + 2 * (count // 100) + 2


def _write(path: Path, header: str, rows: list[str]) -> None:
    text = "\n".join([header, *rows]) + "\n"
    if path.suffix == ".gz":
        with gzip.open(path, "wt", encoding="ascii") as file:
            file.write(text)
    else:
        path.write_text(text, encoding="ascii")
