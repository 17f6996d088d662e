"""The part of the consumer that commits: what was folded goes before the offsets of it, in terms.

A term lasts from one rebalance to the next, and from a recovery's seek on. What was begun in one is void in
the next, however late it ends; and a term of which something was lost on its way to a changelog commits
nothing more, so that all of it is read again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from processors.columns.changelog_writer import DeposedError

_ASK_AGAIN_SECONDS = 0.1
_VOID_SECONDS = 120.0


class CommittingConsumer(driver.Consumer):  # type: ignore[misc]  # Faust is untyped
    """Writes outputs and changelogs, then commits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.term = 0
        """Counts rebalances and recoveries."""
        self._void: int | None = None  # the term of which nothing may be committed any more
        self._void_since = 0.0
        self.confirmed_at = float("-inf")
        """When the group was last asked whether we are in it, of the times that it said so (monotonic, s)."""

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        term = self.term
        if self._void == term:
            await self._end_void_in_time()
            return False
        if not await self.is_member() or term != self.term or not await self._write_first():
            self.forget_parts(term)
            return False
        if self._void == term or term != self.term:  # what was folded of these offsets is forgotten
            return False
        return bool(await super()._commit_offsets(offsets, start_new_transaction))

    async def _write_first(self) -> bool:
        """Outputs and changelog, which go before the source offsets; false: they are not ours to write."""
        term = self.term
        try:
            for send in self.app.before_commit:
                await send()
            for table in self.app.column_tables:
                await table.flush()
            await self.app.output.settle()
        except DeposedError:
            return False
        except BaseException as error:  # cancelled as the worker stops, perhaps: then another commit follows
            if term == self.term:
                self.void(f"a commit ended with {error!r}")
            raise
        return True

    def forget_parts(self, term: int) -> None:
        """Go back to what the changelogs hold: the group has given our partitions away.

        `term`: in which it did. Waiting for its answer, or for Kafka, may have outlasted a rebalance.
        """
        if term == self.term:
            self.void("the group took this worker for dead")

    def void(self, why: str) -> None:
        """Go back to what the changelogs hold, and commit nothing more until the next rebalance or start,
        after which everything that was not committed is read again.
        """
        if self._void != self.term:
            self._void, self._void_since = self.term, time.monotonic()
        self.log.warning("%s; what is not committed is void and is done again", why)
        for table in self.app.column_tables:
            table.forget_parts()

    async def _end_void_in_time(self) -> None:
        """Whatever makes a term void ends it as well, by a rebalance or a stop. Should it not: a worker that
        never commits again must not go on as if all were well.
        """
        if time.monotonic() - self._void_since > _VOID_SECONDS:
            await self.crash(RuntimeError(f"no rebalance in {_VOID_SECONDS:.0f} s; starting anew"))

    async def is_member(self) -> bool:
        """Whether the group still counts us in; waits while Kafka is away.

        A process that stood still for longer than the session's timeout has lost its partitions and does not
        know: what it wrote to the changelog would stand behind what their new owner wrote.
        """
        member: bool | None = None
        while member is None:
            asked = time.monotonic()
            member = await self._thread.is_member()
            if member:
                self.confirmed_at = asked
            if member is None:
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
        return member
