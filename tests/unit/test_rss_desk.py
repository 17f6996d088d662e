"""One article, one record: copies would be scored twice, and an article taken for a copy is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from producers.rss.desk import HOLD_NS, OLDEST_NS, Desk
from producers.rss.quality import Quality
from producers.rss.similar import WINDOW_NS

SECOND = 10**9
T0 = 1_763_740_800 * SECOND
TITLES = [
    "Apple lifts its forecast after strong phone sales",
    "Fed holds rates steady for the third meeting",
    "Oil falls as supply grows beyond demand",
]


def article(provider: str, id: str, title: int, revision: int, **other: Any) -> dict[str, Any]:
    return {
        "id": id, "provider": provider, "ts": revision, "revision": revision, "created_ts": revision,
        "headline": TITLES[title], "summary": "", "content": "", "author": "", "url": "", "symbols": [],
        "extra": None, **other,
    }  # fmt: skip


def alpaca(id: str, title: int, received: int) -> dict[str, Any]:
    return {**article("benzinga", id, title, received), "source": "ws", "received_ts": received}


class Newsroom(RuleBasedStateMachine):
    """Two feeds and Alpaca, in any order, with restarts; against a plain list of what was published."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.desk, self.log = T0, Desk(Quality()), list[dict[str, Any]]()
        self.offered: dict[tuple[str, str], int] = {}
        self.alpaca: dict[int, int] = {}
        self.published: dict[tuple[str, str], list[int]] = {}

    @rule(host=st.sampled_from(["a.com", "b.com"]), title=st.sampled_from([0, 1, 2]))
    def a_feed_lists(self, host: str, title: int) -> None:
        """The same entry at every look, with the time of its first."""
        revision = self.offered.setdefault((host, str(title)), self.now)
        self.desk.offer(article(host, str(title), title, revision), self.now)

    @rule(title=st.sampled_from([0, 1, 2]))
    def alpaca_sends(self, title: int) -> None:
        if title not in self.alpaca:
            self.alpaca[title] = self.now
            self._append(alpaca(str(title), title, self.now))

    @rule(seconds=st.sampled_from([1, 30, 60, 600]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND
        self._publish(self.desk.due(self.now))

    @rule()
    def the_service_restarts(self) -> None:
        self._publish(self.desk.due())
        self.desk = Desk(Quality())
        for record in self.log:
            self.desk.heard(record, live=False)

    def _publish(self, due: list[Any]) -> None:
        for waiting in due:
            self._append({**waiting.content, "source": "rss", "received_ts": waiting.article.received_ts})

    def _append(self, record: dict[str, Any]) -> None:
        self.log.append(record)
        self.desk.heard(record)
        if record["source"] == "rss":
            key = record["provider"], record["id"]
            self.published.setdefault(key, []).append(record["revision"])

    @invariant()
    def no_article_is_published_twice(self) -> None:
        assert all(len(set(found)) == len(found) for found in self.published.values())
        for title in range(len(TITLES)):
            assert sum((h, str(title)) in self.published for h in ("a.com", "b.com")) <= 1, (
                "two feeds, one article"
            )

    @invariant()
    def no_article_is_lost(self) -> None:
        """What a feed offered is published, waits, or is Alpaca's article or the other feed's."""
        for (_, title), at in self.offered.items():
            twins = [k for k in self.published if k[1] == title]
            fresh = self.now - at < HOLD_NS
            assert twins or int(title) in self.alpaca or fresh or self.desk.waiting


Newsroom.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestNewsroom = Newsroom.TestCase


def test_alpacas_article_in_time_takes_the_place_of_the_copy_and_who_was_first_is_counted() -> None:
    """The user wants to know whether RSS is worth having: how often it is first, and by how much."""
    quality = Quality()
    desk = Desk(quality)
    assert desk.offer(article("a.com", "1", 0, T0), T0) == "waiting"
    assert desk.heard(alpaca("9", 0, T0 + 20 * SECOND)) == [("a.com", "1")]
    assert desk.due() == []
    assert desk.offer(article("a.com", "1", 0, T0), T0 + 60 * SECOND) == "duplicate"
    assert desk.offer(article("a.com", "1", 0, T0 + SECOND), T0 + 60 * SECOND) == "copy", (
        "a new revision of it"
    )
    desk.heard(alpaca("8", 1, T0))
    assert desk.offer(article("a.com", "2", 1, T0, author="Ann"), T0 + 5 * SECOND) == "copy"
    found = quality.details()["a.com"]
    assert isinstance(found, dict)
    assert found["articles_in_common"] == 2
    assert found["first"] == {"rss": 1, "other": 1}
    assert found["mean_lead_seconds"] == {"rss": 20.0, "other": 5.0}
    assert found["fields_present"]["author"] == [1, 0]


def test_an_old_entry_a_first_look_and_the_same_headline_of_another_day() -> None:
    """A feed lists months; a start must neither publish those nor claim that it was late for them."""
    quality = Quality()
    desk = Desk(quality)
    assert desk.offer(article("a.com", "old", 0, T0 - OLDEST_NS - 1), T0) == "old"
    desk.heard(alpaca("1", 1, T0 - 3600 * SECOND), live=False)
    assert desk.offer(article("a.com", "1", 1, T0 - 3600 * SECOND), T0, first_look=True) == "copy"
    assert quality.details()["a.com"]["first"] == {"rss": 0, "other": 0}  # type: ignore[index]
    desk.heard(alpaca("2", 2, T0 - WINDOW_NS - 2), live=False)
    assert desk.offer(article("a.com", "2", 2, T0), T0) == "waiting"


def test_a_new_revision_is_published_and_an_entry_without_a_time_only_once() -> None:
    """A correction must reach the user; an undated entry must not be news at every look."""
    desk = Desk(Quality())
    desk.offer(article("a.com", "1", 0, T0), T0)
    assert len(desk.due(T0 + HOLD_NS)) == 1
    assert desk.offer(article("a.com", "1", 0, T0 + SECOND), T0 + HOLD_NS) == "waiting"
    assert [w.content["revision"] for w in desk.due(T0 + HOLD_NS)] == [T0 + SECOND]
    assert desk.offer(article("a.com", "2", 1, T0), T0, dated=False) == "waiting"
    assert desk.offer(article("a.com", "2", 1, T0 + 9), T0 + 9, dated=False) == "duplicate"
