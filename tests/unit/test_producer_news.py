"""An article must be in the log once for each of its revisions, whole, however often Alpaca sends it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.entrance import Known
from producers.intake import Intake
from producers.news import NewsEncoder
from producers.normalize import EARLIEST_NS, LATEST_NS
from schemas import event_id
from schemas.codec import load_codec
from tests.unit.producer_memory import Memory, counted, remembered
from tidewire import config
from tidewire.errors import RecordError

CODEC = load_codec(config.load(_env_file=None))
RECEIVED, EPOCH = 1_763_740_801_000_000_000, 1_763_740_000
TS = 1_763_740_800_000_000_000
ARTICLE = {"T": "n", "id": 24918784, "headline": "Corsair Reports Purchase", "summary": "", "content": "<p>",
           "author": "Benzinga Newsdesk", "url": "https://x", "source": "benzinga", "created_at": TS - 5,
           "updated_at": TS, "symbols": ["CRSR", "BTC/USD"]}  # fmt: skip

texts = st.text(max_size=4) | st.none()
whole = st.fixed_dictionaries(
    {"T": st.just("n"), "id": st.integers(0, 3), "headline": st.text(max_size=4),
     "created_at": st.just(TS), "updated_at": st.integers(TS, TS + 2)},
    optional={"summary": texts, "content": texts, "author": texts, "url": texts,
              "source": st.sampled_from(["benzinga", "", "other", None]),
              "symbols": st.lists(st.text(max_size=4), max_size=3) | st.none()},
)  # fmt: skip
odd: st.SearchStrategy[Any] = st.sampled_from(
    [None, 1.5, "x", b"\xff", True, [1], {}, "\udc80", EARLIEST_NS - 1, LATEST_NS, 2**63]
)
spoiled = st.builds(lambda m, k, v: {**m, k: v}, whole, st.sampled_from([*ARTICLE, "images"]), odd)


def _encoder() -> NewsEncoder:
    encoder = NewsEncoder(CODEC, owner_epoch=EPOCH)
    encoder.frame(RECEIVED)
    return encoder


@given(st.lists(whole, min_size=1, max_size=6))
@settings(max_examples=50)
def test_a_revision_is_written_once_and_as_the_codec_writes_it(messages: list[dict[str, Any]]) -> None:
    """Repeats would be scored again by every analyzer; a lost revision would leave a wrong headline."""
    encoder, seen = _encoder(), set()
    for m in messages * 2:
        provider, revision = m.get("source") or "benzinga", m["updated_at"]
        event = event_id.news_id(provider, str(m["id"]), revision)
        content = {
            "id": str(m["id"]), "provider": provider, "ts": revision, "revision": revision,
            "created_ts": m["created_at"], "headline": m["headline"], "symbols": m.get("symbols") or [],
            **{name: m.get(name) or "" for name in ("summary", "content", "author", "url")},
            "extra": None, "received_ts": RECEIVED, "source": "ws", "owner_epoch": EPOCH, "event_id": event,
        }  # fmt: skip
        expected = None if event in seen else (str(m["id"]).encode(), CODEC.encode("news", content))
        seen.add(event)
        assert encoder.news(m) == expected


@given(spoiled)
def test_whatever_is_wrong_with_an_article_is_said(message: dict[str, Any]) -> None:
    """Any other error than a refusal would hide which field was wrong."""
    with suppress(RecordError):
        record = _encoder().news(message)
        assert record is not None
        assert (CODEC.decode(record[1])[1]["extra"] is None) == ("images" not in message)


@pytest.mark.parametrize("name", ["id", "headline", "created_at", "updated_at"])
def test_what_must_be_there_is_missed_by_name(name: str) -> None:
    """The dead letter must tell what to look for."""
    with pytest.raises(RecordError, match=f"{name} is missing"):
        _encoder().news({key: value for key, value in ARTICLE.items() if key != name})


@given(st.lists(whole, max_size=8), st.lists(whole, max_size=4))
@settings(max_examples=50)
def test_a_restart_goes_on_as_if_there_had_been_none(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    """Otherwise each restart sends the day's articles again."""
    log, encoder = _through(_encoder(), before)
    restarted = _encoder()
    remembered(CODEC, restarted, log)
    assert _through(restarted, before + after)[0].records == _through(encoder, before + after)[0].records


def _through(encoder: NewsEncoder, messages: list[dict[str, Any]]) -> tuple[Memory, NewsEncoder]:
    memory = Memory()
    Intake("news:test", encoder, memory, lambda topic: topic).frame(msgpack.packb(messages), RECEIVED)
    return memory, encoder


def test_an_article_comes_once_for_each_symbol_and_all_but_the_first_are_counted() -> None:
    """received = published + duplicate + dead-lettered, or completeness cannot be shown."""
    stamp = msgpack.Timestamp.from_unix_nano(TS)
    article = {**ARTICLE, "updated_at": stamp, "created_at": stamp, "images": [{"size": "large"}]}
    bad = {**article, "headline": None}
    before = counted("received", "news:test"), counted("duplicate", "news:test")
    memory, _ = _through(_encoder(), [article, article, bad, {"T": "t"}, article])
    assert [(topic, key) for topic, key, *_ in memory.records] == [("alpaca.news", b"24918784")]
    assert CODEC.decode(memory.records[0][2])[1]["extra"] == '{"images":[{"size":"large"}]}'
    assert [(letter.topic, letter.value) for letter in memory.letters] == [
        ("alpaca.news", msgpack.packb(bad)), ("alpaca.news.frames", msgpack.packb({"T": "t"})),
    ]  # fmt: skip
    assert counted("received", "news:test") - before[0] == 5
    assert counted("duplicate", "news:test") - before[1] == 2


def test_the_memory_of_articles_is_bounded_and_keeps_the_newest() -> None:
    """Years of articles must not fill the machine."""
    known = Known(limit=3)
    assert [known.repeats(b"%d" % n) for n in (1, 2, 1, 3, 4)] == [False, False, True, False, False]
    assert known.repeats(b"1")
    assert not known.repeats(b"2")
