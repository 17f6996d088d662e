"""Who gets which feed. If it failed, a feed would have two owners, which Alpaca refuses, or none, and a user
would miss its data without a word.
"""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.lease_share import Assignor, Given, Member, share

FEEDS = ("stocks:iex", "crypto:us", "news", "options:opra")
MEMBERS = st.dictionaries(
    st.sampled_from("abcd"),
    st.builds(
        Member,
        st.lists(st.sampled_from(FEEDS), unique=True).map(tuple),
        st.dictionaries(st.sampled_from(FEEDS), st.integers(1, 3)),
    ),
    max_size=4,
)


@given(MEMBERS)
@settings(max_examples=60)
def test_every_wanted_feed_has_exactly_one_owner_that_wants_it(members: dict[str, Member]) -> None:
    """Whatever the members say they hold, stale owners included."""
    shares = share(members)
    given_out = [feed for one in shares.values() for feed in one.feeds]
    assert sorted(given_out) == sorted({feed for member in members.values() for feed in member.wants})
    for id, one in shares.items():
        assert one.feeds <= set(members[id].wants)
        others = {feed for other, member in members.items() if other != id for feed in member.wants}
        assert one.alone == (not others & set(members[id].wants))


@given(MEMBERS)
@settings(max_examples=60)
def test_a_feed_stays_with_its_newest_owner(members: dict[str, Member]) -> None:
    """A process that comes or goes must not interrupt the feeds of the others."""
    shares = share(members)
    for feed in FEEDS:
        holders = {id: m.holds[feed] for id, m in members.items() if feed in m.holds and feed in m.wants}
        if holders:
            (owner,) = [id for id, one in shares.items() if feed in one.feeds]
            assert holders[owner] == max(holders.values())


def test_feeds_without_an_owner_go_to_whoever_has_the_fewest() -> None:
    """One process must not carry all of a dead one's feeds while another idles."""
    members = {"a": Member(FEEDS, {"news": 1}), "b": Member(FEEDS), "c": Member(("news",))}
    shares = share(members)
    assert {id: len(one.feeds) for id, one in shares.items()} == {"a": 2, "b": 2, "c": 0}


def test_the_group_passes_on_what_its_leader_decided() -> None:
    """What members say and are told goes through Kafka as bytes; a member of another kind gets nothing."""
    told: list[Given] = []
    one = Assignor(lambda: Member(("news", "crypto:us"), {"news": 7}), told.append)
    other = Assignor(lambda: Member(("news",)), told.append)
    strange: Any = one.metadata(["control.leases"])
    strange.user_data = b""
    members = {"1": one.metadata(["t"]), "2": other.metadata(["t"]), "3": strange}
    for assignment in one.assign(None, members).values():
        assert assignment.partitions() == []
        one.on_assignment(assignment)
    assert told == [
        Given(frozenset({"news", "crypto:us"}), False), Given(frozenset(), False), Given(frozenset(), True),
    ]  # fmt: skip
    assert orjson.loads(members["1"].user_data)["holds"] == {"news": 7}
