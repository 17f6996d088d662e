"""Without these the simulated news would lose articles, or be other ones at each reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.interest import covers
from simulator.news.articles import ticker_of
from simulator.news.headlines import DAY_SECONDS, DAY_START
from simulator.news.synthetic import MANY_SYMBOLS, SyntheticNews
from simulator.rejects import Rejects
from simulator.tape import Inputs
from simulator.venue_kinds import NEWS, news_stream_symbol
from simulator.wire import Message, Streams

START = 1_763_000_000_000_000_000
HEADLINES = Path(__file__).parents[3] / "shared" / "data" / "news"
TEXT = """id,headline,label,n_entities,split
1,"Infosys: Will the strong volume growth sustain?",neutral,1,dev
2,"Gold & silver, up",positive,2,dev
x,no id,neutral,0,dev
4,,neutral,0,dev
2,again,neutral,0,dev
9,Market rests,neutral,0,train
"""
ENTITIES = """headline_id,headline,entity,label,split
1,"Infosys: Will the strong volume growth sustain?",Infosys,neutral,dev
2,"Gold & silver, up",Tata Consultancy Services,positive,dev
2,"Gold & silver, up",Silver,positive,dev
2,"Gold & silver, up",Silver,positive,dev
"""


def read(*paths: Path) -> tuple[list[Message], list[dict[str, Any]], Rejects]:
    rejects = Rejects()
    tape = Inputs(paths, rejects).news()
    messages = [message for block in tape.read(Streams()) for message in block]
    return messages, [msgpack.unpackb(m[3]) for m in messages], rejects


def test_a_file_of_headlines_gives_one_article_a_line_over_a_day(tmp_path: Path) -> None:
    """Headlines would be lost, or come with tickers of other headlines."""
    (tmp_path / "some_headlines.csv").write_text(TEXT)
    (tmp_path / "some_entities.csv").write_text(ENTITIES)
    messages, shown, rejects = read(tmp_path)
    assert [(m["id"] % 1000, m["headline"], m["symbols"]) for m in shown] == [
        (1, "Infosys: Will the strong volume growth sustain?", ["INFO"]),
        (2, "Gold & silver, up", ["TCS", "SILV"]),
        (9, "Market rests", []),
    ]
    assert [(r.line, r.channel) for r in rejects.lines] == [(4, "news"), (5, "news"), (6, "news")]
    thirds = [DAY_START + i * DAY_SECONDS // 3 * 1_000_000_000 for i in range(3)]
    assert [m[0] for m in messages] == [m[1] for m in messages] == thirds
    assert read(tmp_path / "some_headlines.csv")[1] == shown  # the entities beside it are found
    alone = read(tmp_path / "some_entities.csv")[1]
    assert [(m["id"] % 1000, m["symbols"]) for m in alone] == [(1, ["INFO"]), (2, ["TCS", "SILV"])]


@pytest.mark.skipif(not HEADLINES.is_dir(), reason="the headlines are not beside the project")
def test_the_real_headlines_are_whole() -> None:
    """The demo's news would lack headlines that nobody counted."""
    messages, shown, rejects = read(HEADLINES)
    lines = (HEADLINES / "sentfin_headlines.csv").read_bytes().count(b"\n") - 1
    assert len(messages) + rejects.count == lines
    assert len({m["id"] for m in shown}) == len(shown)
    assert all(m["symbols"] for m in shown)


def test_the_same_seed_is_the_same_news_with_the_oddities_of_real_ones() -> None:
    """A failure seen with a seed could not be seen again; and odd articles would never be tried."""

    def news(seed: int) -> list[dict[str, Any]]:
        tape = SyntheticNews(["AAPL", "MSFT", "SPY"], ["BTC/USD"], seed, START, 2.0, 600)
        return [msgpack.unpackb(m[3]) for block in tape.read(Streams()) for m in block]

    first = news(1)
    assert first == news(1) != news(2)
    newest: dict[int, int] = {}
    for article in first:
        created, updated = article["created_at"].to_unix_nano(), article["updated_at"].to_unix_nano()
        assert created <= updated
        assert newest.get(article["id"], 0) < updated
        newest[article["id"]] = updated
    assert 20 < len(first) - len(newest) < 150  # revisions
    assert max(len(a["symbols"]) for a in first) == MANY_SYMBOLS
    assert any(a["symbols"][0] == "BTCUSD" and len(a["symbols"]) > 1 for a in first)
    assert any("&amp;" in a["summary"] for a in first)
    assert {a["source"] for a in first} == {"benzinga"}
    span = newest[first[-1]["id"]] - newest[first[0]["id"]]
    assert 600 < span / 1e9 < 2_400  # one every two seconds


SYMBOLS = st.lists(st.sampled_from(["A", "AA", "AAPL", "BTCUSD", "B"]), max_size=4, unique=True)


@given(SYMBOLS, st.sets(st.sampled_from(["*", "A", "AA", "AAPL", "BTCUSD", "B"])))
def test_an_article_reaches_who_subscribed_to_one_of_its_symbols(
    symbols: list[str], wanted: set[str]
) -> None:
    """A client would miss articles that name its ticker beside others, or get those of others."""
    stream = news_stream_symbol(symbols)
    expected = "*" in wanted or bool(set(symbols) & wanted)
    assert covers({"news": frozenset(wanted)}, "news", stream) == expected


@given(st.text(max_size=40))
def test_a_name_is_always_the_same_ticker_that_can_be_subscribed(name: str) -> None:
    """An article about any company at all could stop the tape."""
    ticker = ticker_of(name)
    assert ticker == ticker_of(name)
    assert ticker == "" or (ticker.isascii() and ticker.isalnum() and len(ticker) <= 5)


def test_a_published_article_is_found_again_by_its_symbols_and_update() -> None:
    """A restarted simulator would not know what it had published."""
    [block] = SyntheticNews(["AAPL"], [], 1, START, 2.0, 1).read(Streams())
    [message] = block
    assert NEWS.locate(msgpack.unpackb(message[3])) == ("AAPL", message[1])
