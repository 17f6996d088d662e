"""Whose rows of a changelog count: if an older owner's did, trades would be missing from tables for good."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from processors.columns.changelog_writer import ChangelogWriter, DeposedError
from processors.columns.output import Sent
from processors.columns.ownership import MARK, Mark, Ownership
from processors.columns.store import StandbyStore
from tidewire.columns import Block

TOPIC = "app-table-changelog"
ZERO = TP(TOPIC, 0)
Change = tuple[bytes, bytes | None]


class Log:
    """One partition of a changelog, by producer, as Kafka keeps it."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.end = 0

    def append(self, producer_id: int, records: Iterable[Change]) -> int:
        builder = DefaultRecordBatchBuilder(
            magic=2, compression_type=0, is_transactional=0, producer_id=producer_id, producer_epoch=0,
            base_sequence=0, batch_size=1 << 20,
        )  # fmt: skip
        count = 0
        for key, value in records:
            builder.append(count, 1, key, value, [])
            count += 1
        raw = self.end.to_bytes(8, "big") + bytes(builder.build())[8:]
        self.blocks.append(Block(self.end, self.end, self.end + count - 1, count, 1, memoryview(raw)))
        first, self.end = self.end, self.end + count
        return first


class Writing:
    """Stands for an `Output`: what it is given is in the log at once."""

    def __init__(self, log: Log, producer_id: int) -> None:
        self._log, self.producer_id = log, producer_id
        self.meanwhile: list[Any] = []
        """Done while a batch is on its way, once each."""

    async def write(self, topic: str, partition: int, records: Iterable[Change]) -> list[Sent]:
        given = list(records)
        while self.meanwhile:
            self.meanwhile.pop(0)()
        if not given:
            return []
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(SimpleNamespace(offset=self._log.append(self.producer_id, given)))
        return [Sent(len(given), answer)]

    async def settle(self) -> None:
        pass


class Worker:
    """One process's store and writer of one table."""

    def __init__(self, log: Log, producer_id: int) -> None:
        recovery = SimpleNamespace(active_tps={ZERO}, standby_tps=set())
        app: Any = SimpleNamespace(tables=SimpleNamespace(recovery=recovery))
        table: Any = SimpleNamespace(name="table", changelog_topic_name=TOPIC)
        self.store = StandbyStore(
            URL("memory://"), app, table, applied=lambda tp, records: None, table_name="table"
        )
        self.output, self._log = Writing(log, producer_id), log
        self.member, self._generation = True, 0
        self.writer = ChangelogWriter("table", TOPIC, self.store, self.output, self)  # type: ignore[arg-type]

    def generation(self) -> int:
        return self._generation

    async def is_member(self) -> bool:
        return self.member

    def joins(self, generation: int) -> None:
        """It is given the partition, and has read the changelog to its end."""
        self._generation, self.member = generation, True
        self.writer.new_term()
        self.reads()

    def reads(self) -> None:
        event: Any = SimpleNamespace(message=SimpleNamespace(tp=ZERO), value=self._log.blocks)
        self.store.apply_changelog_batch([event], lambda key: key, lambda value: value)

    async def writes(self, **rows: bytes | None) -> None:
        await self.writer.write({0: {key.encode(): value for key, value in rows.items()}}, self.writer.term)


def held(log: Log) -> dict[bytes, bytes]:
    """What a fresh worker reads."""
    fresh = Worker(log, 99)
    fresh.reads()
    return fresh.store.rows(0)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), max_size=8))
def test_the_greatest_mark_owns(marks: list[tuple[int, int]]) -> None:
    """Were a smaller one to win, the owner's rows would be the ones that are left out."""
    ownership = Ownership()
    assert ownership.counts(7)
    for producer, mark in enumerate(marks):
        ownership.see(Mark(*mark), producer)
    if marks:
        owner = marks.index(max(marks))
        assert [n for n in range(len(marks)) if ownership.counts(n)] == [owner]
        assert ownership.next(1) > Mark(*max(marks))
        assert Mark.read(bytes(ownership.next(3))) == ownership.next(3)


async def test_rows_of_a_former_owner_behind_the_owners_do_not_count() -> None:
    """It stood still, woke and wrote what it had folded: the trades since then would be gone."""
    log = Log()
    old, new = Worker(log, 1), Worker(log, 2)
    old.joins(1)
    await old.writes(A=b"1", B=b"1")
    new.joins(2)
    await new.writes(A=b"2")
    log.append(1, [(b"A", b"1+"), (b"B", b"1+"), (b"C", b"1+")])
    assert held(log) == {b"A": b"2", b"B": b"1"}


async def test_what_compaction_would_keep_is_written_once_more_by_the_owner() -> None:
    """The newest record of a key survives compaction: it must be the owner's, deletions included."""
    log = Log()
    old, new, last = Worker(log, 1), Worker(log, 2), Worker(log, 3)
    old.joins(1)
    await old.writes(A=b"1", B=b"1", C=b"1")
    new.joins(2)
    await new.writes(A=b"2", C=None)
    log.append(1, [(b"A", b"1+"), (b"B", b"1+"), (b"C", b"1+")])
    last.joins(3)
    await last.writes(A=b"3")
    newest = dict(change for block in log.blocks for change in _records(block))
    assert newest | {MARK: b""} == {MARK: b"", b"A": b"3", b"B": b"1", b"C": None}
    before = log.end
    await last.writes(A=b"4")
    assert log.end == before + 1  # and only once


def _records(block: Block) -> list[Change]:
    return [(record.key, record.value) for record in DefaultRecordBatch(bytes(block.raw))]


async def test_who_was_taken_for_dead_finds_out_and_forgets() -> None:
    """It would otherwise go on from its own older rows when it gets the partition again."""
    log = Log()
    old, new = Worker(log, 1), Worker(log, 2)
    old.joins(1)
    await old.writes(A=b"1", B=b"1")
    new.joins(2)
    await new.writes(A=b"2", B=b"2")
    old.member = False
    with pytest.raises(DeposedError):
        await old.writes(A=b"1+")
    old.joins(3)
    assert old.store.rows(0) == {b"A": b"2", b"B": b"2"}
    await old.writes(B=b"3")
    assert held(log) == {b"A": b"2", b"B": b"3"}


async def test_what_a_rebalance_has_made_void_is_not_held() -> None:
    """Rows on their way while the partition was given away and back: what was read meanwhile is right."""
    log = Log()
    worker = Worker(log, 1)
    worker.joins(1)
    await worker.writes(A=b"1")
    worker.output.meanwhile.append(lambda: worker.joins(2))
    with pytest.raises(DeposedError):
        await worker.writes(A=b"2")
    worker.reads()
    assert worker.store.rows(0) == held(log)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("joins owner former"), st.integers(0, 2)), max_size=20))
def test_whatever_former_owners_write_the_owners_rows_are_held(turns: list[tuple[str, int]]) -> None:
    """Random takeovers and awakenings against the rows as their rightful owners wrote them."""
    asyncio.run(_play([("joins", 0), *turns]))


async def _play(turns: list[tuple[str, int]]) -> None:
    log, truth = Log(), dict[bytes, bytes]()
    workers = [Worker(log, number) for number in range(3)]
    owner = workers[0]
    for generation, (turn, number) in enumerate(turns, 1):
        if turn == "joins":
            owner.member, owner = False, workers[number]
            owner.joins(generation)
        key, value = b"K%d" % number, b"%d" % generation
        if turn == "former" and workers[number] is not owner:
            log.append(number, [(key, value)])
        else:
            await owner.writes(**{key.decode(): value})
            truth[key] = value
    assert held(log) == truth
    owner.reads()
    assert owner.store.rows(0) == truth


async def test_rows_taken_before_a_rebalance_are_not_written_after_it() -> None:
    """Their partition may be another worker's: with a mark of this generation they would count there."""
    log = Log()
    worker = Worker(log, 1)
    worker.joins(1)
    term = worker.writer.term
    worker.joins(2)
    with pytest.raises(DeposedError):
        await worker.writer.write({0: {b"AAA": b"old"}}, term)
    assert held(log) == {}
