"""What outlasts a rebalance: a write, a question to the group, a commit that waited for a slow Kafka.

If these fail, prices that were folded after the rebalance are dropped from the table and never read again:
volumes and counts are too low for good, though PostgreSQL has every row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from processors.columns import committing
from processors.columns.changelog_writer import DeposedError
from processors.columns.committing import CommittingConsumer
from processors.columns.table import ColumnTable
from tidewire.errors import TidewireError

INPUT = TP("trades", 0)


class Part:
    """A part with one changed row."""

    def __init__(self) -> None:
        self.expected: dict[str, int] = {}

    def __len__(self) -> int:
        return 1

    def take_changed(self) -> Mapping[bytes, bytes | None]:
        return {b"AAA": b"row"}


class Changelog:
    """Stands for a `ChangelogWriter` whose writes fail, after `meanwhile`; error None: they do not."""

    def __init__(self, meanwhile: Callable[[], object], error: BaseException | None) -> None:
        self.term, self._meanwhile, self._error = 0, meanwhile, error
        self.asked: list[tuple[dict[int, Any], int]] = []

    def new_term(self) -> None:
        self.term += 1

    async def write(self, changed: Mapping[int, Any], term: int, alone: bool = False) -> None:
        self.asked.append((dict(changed), term))
        self._meanwhile()
        if self._error is not None:
            raise self._error


class Table(ColumnTable):
    """Of one served partition, without an app."""

    changelog_topic_name = "table-changelog"

    def __init__(self, meanwhile: Callable[[Table], object], error: BaseException | None) -> None:
        self._parts: Any = {0: Part()}
        # Kafka holds what another process wrote behind us, up to offset 9.
        held = SimpleNamespace(persisted_offset=lambda tp: 4, whole=lambda p: {b"AAA": b"row"})
        self._data: Any = held
        self.end = 10
        self.voided: list[str] = []
        consumer = SimpleNamespace(highwaters=self._highwaters, void=self._voided)
        self.app: Any = SimpleNamespace(consumer=consumer)
        self.while_asked: list[Callable[[], object]] = []
        self._flushing, self.before_write = asyncio.Lock(), []
        self.__dict__["_changelog"] = Changelog(lambda: meanwhile(self), error)

    def served(self) -> set[int]:
        return {0}

    async def _highwaters(self, *tps: TP) -> dict[TP, int]:
        for event in self.while_asked:
            event()
        return dict.fromkeys(tps, self.end)

    def _voided(self, why: str) -> None:
        self.voided.append(why)
        self.forget_parts()

    @property
    def asked(self) -> list[tuple[dict[int, Any], int]]:
        """What the changelog was given to write: rows, and the term that they were taken in."""
        found: list[tuple[dict[int, Any], int]] = self.__dict__["_changelog"].asked
        return found

    def rebalanced(self) -> None:
        """A rebalance, and the first batch of the new term is folded."""
        self.forget_parts()
        self._parts[0] = Part()


ERRORS = [DeposedError(), asyncio.CancelledError(), OSError("gone")]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_a_write_that_outlasts_a_rebalance_leaves_what_was_folded_since(error: BaseException) -> None:
    table = Table(Table.rebalanced, error)
    with pytest.raises(type(error)):
        await table.flush()
    assert 0 in table.parts


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_a_write_that_fails_voids_what_was_folded(error: BaseException) -> None:
    table = Table(lambda _: None, error)
    with pytest.raises(type(error)):
        await table.flush()
    assert not table.parts
    assert len(table.voided) == 1


async def test_a_look_behind_that_is_cancelled_while_nothing_is_behind_touches_nothing() -> None:
    """As it happened: a worker that was told to stop cancelled it, and then committed what it had folded."""
    table = Table(lambda _: None, asyncio.CancelledError())
    table.end = 5
    await table.look_behind()
    assert not table.asked
    assert not table.voided
    assert 0 in table.parts


async def test_rows_are_written_as_of_the_term_that_they_were_taken_in() -> None:
    """A changelog that is asked to write rows of a former term refuses (`test_columns_ownership`)."""
    table = Table(lambda _: None, DeposedError())

    async def settle() -> None:
        table.rebalanced()

    table.before_write.append(settle)
    with pytest.raises(DeposedError):
        await table.flush()
    assert [term for _, term in table.asked] == [0]
    assert 0 in table.parts


async def test_rows_to_be_written_through_wait_for_a_flush_and_keep_their_term() -> None:
    table = Table(lambda _: None, DeposedError())
    async with table._flushing:
        waiting = asyncio.create_task(table.write_through({0: {b"AAA": b"row"}}))
        await asyncio.sleep(0)
        table.rebalanced()
    with pytest.raises(DeposedError):
        await waiting
    assert table.asked == [({0: {b"AAA": b"row"}}, 0)]
    assert 0 in table.parts


async def test_what_stands_behind_after_a_rebalance_is_the_next_owners() -> None:
    """Rows of a partition that was given away, written behind its owner's, could take their place."""
    table = Table(lambda _: None, OSError())
    table.while_asked.append(table.rebalanced)
    await table.look_behind()
    assert not table.asked


async def test_what_another_process_wrote_behind_us_is_written_over_or_the_worker_ends() -> None:
    table = Table(lambda _: None, OSError("gone"))
    with pytest.raises(TidewireError, match="did not reach table-changelog"):
        await table.look_behind()
    assert table.asked == [({0: {b"AAA": b"row"}}, 0)]


class Committing(CommittingConsumer):
    """A consumer with one table; no sockets, no threads. `asked`, `sending`: what happens meanwhile."""

    should_stop = False

    def __init__(self, error: BaseException | None = None) -> None:
        self.term, self._void, self._void_since = 0, None, 0.0
        self.crashes: list[BaseException] = []
        self.member, self.asked, self.sending = True, _nothing, _nothing
        self.table = Table(lambda _: None, error)
        self.table.app.consumer.void = self.void
        self.app = SimpleNamespace(
            column_tables=[self.table],
            before_commit=[self._send],
            output=SimpleNamespace(settle=self._settle),
        )
        self.log = SimpleNamespace(warning=lambda *_: None)

    async def is_member(self) -> bool:
        self.asked()
        return self.member

    async def crash(self, reason: BaseException) -> None:
        self.crashes.append(reason)

    async def _send(self) -> None:
        self.sending()

    async def _settle(self) -> None:
        """Kafka has everything."""

    def rebalanced(self) -> None:
        self.term += 1
        self.table.rebalanced()


def _nothing() -> None:
    """Happens."""


def _cancel() -> None:
    raise asyncio.CancelledError


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The offsets that Faust was given to commit."""
    found: list[Any] = []

    async def commit(_: Any, offsets: Any, start: bool = True) -> bool:
        found.append(offsets)
        return True

    monkeypatch.setattr(driver.Consumer, "_commit_offsets", commit)
    return found


async def test_a_group_that_answers_late_takes_nothing_from_the_next_term(committed: list[Any]) -> None:
    consumer = Committing()
    consumer.member, consumer.asked = False, consumer.rebalanced
    assert not await consumer._commit_offsets({INPUT: 5})
    assert 0 in consumer.table.parts
    assert not committed


async def test_offsets_of_before_a_rebalance_are_not_committed(committed: list[Any]) -> None:
    consumer = Committing()
    consumer.asked = consumer.rebalanced
    assert not await consumer._commit_offsets({INPUT: 5})
    assert not committed
    assert not consumer.table.asked


async def test_a_rebalance_during_the_write_voids_the_offsets(committed: list[Any]) -> None:
    consumer = Committing()
    consumer.sending = consumer.rebalanced
    assert not await consumer._commit_offsets({INPUT: 5})
    assert not committed
    assert 0 in consumer.table.parts


async def test_a_worker_that_is_not_a_member_commits_nothing_until_it_is_anew(committed: list[Any]) -> None:
    consumer = Committing()
    assert await consumer._commit_offsets({INPUT: 5})
    consumer.member = False
    assert not await consumer._commit_offsets({INPUT: 6})
    assert not consumer.table.parts
    consumer.member = True  # whatever it is told now: what it folded of those offsets is gone
    assert not await consumer._commit_offsets({INPUT: 7})
    consumer.rebalanced()
    assert await consumer._commit_offsets({INPUT: 6})
    assert committed == [{INPUT: 5}, {INPUT: 6}]


async def test_a_write_that_is_cancelled_as_the_worker_stops_ends_all_commits(committed: list[Any]) -> None:
    """Rows that were taken are in no changelog: were their offsets committed by the last commit, nobody would
    read them again."""
    consumer = Committing(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await consumer.table.look_behind()
    assert not await consumer._commit_offsets({INPUT: 5})
    assert not committed


async def test_a_commit_that_is_cancelled_as_the_worker_stops_is_not_made_up_for(
    committed: list[Any],
) -> None:
    """What it took to send may be lost."""
    consumer = Committing()
    consumer.sending = _cancel
    with pytest.raises(asyncio.CancelledError):
        await consumer._commit_offsets({INPUT: 5})
    consumer.sending = _nothing
    assert not await consumer._commit_offsets({INPUT: 6})
    assert not committed


async def test_a_worker_that_would_never_commit_again_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lag would only show at the next restart, which reads everything since then again."""
    consumer = Committing()
    consumer.void("broken off")
    assert not await consumer._commit_offsets({INPUT: 5})
    assert not consumer.crashes
    monkeypatch.setattr(committing, "_VOID_SECONDS", -1.0)
    assert not await consumer._commit_offsets({INPUT: 6})
    assert len(consumer.crashes) == 1
