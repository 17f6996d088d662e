"""Who gets which feed: the group's leader decides with `share`. Pure, apart from aiokafka's types.

A feed stays with the member that runs it: a change of owner is an interruption, and uneven load is not worth
one. A feed that nobody runs goes to the member that has the fewest. Feeds are shared out and not partitions,
because two feeds may stand in one partition, and members may offer different feeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

_VERSION = 0


@dataclass(frozen=True, slots=True)
class Member:
    """The feeds that a process can run, and the epochs of those that it runs now."""

    wants: tuple[str, ...]
    holds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Given:
    """The feeds that are ours now, and whether other processes could run any of them."""

    feeds: frozenset[str]
    alone: bool


def share(members: Mapping[str, Member]) -> dict[str, Given]:
    """Each wanted feed to exactly one of the members that want it."""
    owners: dict[str, str] = {}
    wanted = sorted({feed for member in members.values() for feed in member.wants})
    for feed in wanted:
        holders = [(-m.holds[feed], id) for id, m in members.items() if feed in m.holds and feed in m.wants]
        if holders:  # two: one of them is a stale owner that does not know it yet
            owners[feed] = min(holders)[1]
    counts = dict.fromkeys(members, 0)
    for id in owners.values():
        counts[id] += 1
    for feed in wanted:
        if feed not in owners:
            owners[feed] = min((counts[id], id) for id, m in members.items() if feed in m.wants)[1]
            counts[owners[feed]] += 1
    return {
        id: Given(
            frozenset(feed for feed, owner in owners.items() if owner == id),
            not any(set(member.wants) & set(m.wants) for other, m in members.items() if other != id),
        )
        for id, member in members.items()
    }


class Assignor:
    """`share` as aiokafka asks for it: an assignor whose assignments are feeds. No partition is assigned.

    `me` says what this process wants and holds when the group is formed; `given` is told what it gets.
    """

    name = "tidewire-leases"

    def __init__(self, me: Callable[[], Member], given: Callable[[Given], None]) -> None:
        self._me, self._given = me, given

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What the leader is told of this process."""
        me = self._me()
        data = orjson.dumps({"wants": me.wants, "holds": dict(me.holds)})
        return ConsumerProtocolMemberMetadata(_VERSION, list(topics), data)

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """What the leader tells every member."""
        shares = share({id: _member(metadata.user_data) for id, metadata in members.items()})
        return {
            id: ConsumerProtocolMemberAssignment(
                _VERSION, [], orjson.dumps({"feeds": sorted(given.feeds), "alone": given.alone})
            )
            for id, given in shares.items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """What this process was told."""
        told = orjson.loads(assignment.user_data or b"{}")
        self._given(Given(frozenset(told.get("feeds", ())), bool(told.get("alone", False))))


def _member(user_data: bytes) -> Member:
    told = orjson.loads(user_data or b"{}")
    return Member(tuple(told.get("wants", ())), told.get("holds", {}))
