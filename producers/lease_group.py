"""Membership in the consumer group that shares out the feeds, and since when it is not confirmed.

aiokafka says neither when its last heartbeat was answered nor that a group took us for dead; both are looked
up in its coordinator, of the one version that this project pins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from producers.lease_share import Assignor, Given, Member
from tidewire import kafka, log
from tidewire.config import Settings

SESSION_SECONDS = 6.0
"""After so long without a heartbeat the group takes a member for dead; Kafka allows no less by default."""
HEARTBEAT_SECONDS = 1.5
_REQUEST_SECONDS = 10.0
_PAUSE_SECONDS = 1.0
_LEAVE_SECONDS = 3.0

_log = log.get("lease-group")

NOTHING = Given(frozenset(), alone=False)


class Group:
    """`me` says what this process wants and holds; `changed` is called whenever `given` may be another.

    `uptime` gives seconds that go on while the process is stopped. `instance` is the process's lasting name
    in the group: started again after a kill it need not wait until the group takes it for dead.
    """

    def __init__(
        self,
        settings: Settings,
        group: str,
        topic: str,
        me: Callable[[], Member],
        changed: Callable[[], None],
        uptime: Callable[[], float],
        instance: str | None,
    ) -> None:
        self._settings, self._group, self._topic = settings, group, topic
        self._changed, self._uptime, self._instance = changed, uptime, instance
        self._assignor = Assignor(me, self._assigned)
        self._consumer: AIOKafkaConsumer | None = None
        self._joined = False
        self.given = NOTHING
        """What is ours as far as the group has said."""
        self.confirmed_at: float | None = None
        """When the last heartbeat that was answered was sent, by `uptime`; None: no member."""

    async def run(self) -> None:
        """Be a member until cancelled, then leave, so that another takes over at once."""
        while True:
            try:
                await self._member()
            except KafkaError as error:
                _log.warning("not in the group of leases", group=self._group, error=repr(error))
            finally:
                await self._leave()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _member(self) -> None:
        consumer = self._consumer = AIOKafkaConsumer(
            **kafka.client_arguments(self._settings),
            group_id=self._group,
            group_instance_id=self._instance,
            enable_auto_commit=False,
            session_timeout_ms=int(SESSION_SECONDS * 1000),
            heartbeat_interval_ms=int(HEARTBEAT_SECONDS * 1000),
            rebalance_timeout_ms=int(SESSION_SECONDS * 1000),
            request_timeout_ms=int(_REQUEST_SECONDS * 1000),
            partition_assignment_strategy=(self._assignor,),
        )
        self._joined = False
        consumer.subscribe([self._topic])
        await kafka.start(consumer)
        while True:  # there is nothing to fetch: this is where errors come out
            await consumer.getmany(timeout_ms=1000)

    async def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._lost()
        if consumer is not None:
            if self._joined:  # with a lasting name aiokafka does not leave; others would wait for us
                consumer._coordinator._group_instance_id = None
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(consumer.stop(), _LEAVE_SECONDS)

    def _assigned(self, given: Given) -> None:
        if self._consumer is None:
            return  # leaving
        if not self._joined:
            self._joined = True
            coordinator = self._consumer._coordinator
            coordinator._do_heartbeat = partial(self._heartbeat, coordinator, coordinator._do_heartbeat)
        self.given, self.confirmed_at = given, self._uptime()
        self._changed()

    async def _heartbeat(self, coordinator: Any, beat: Callable[[], Any]) -> bool:
        sent = self._uptime()  # not when it was answered: a process may be stopped in between
        confirmed: bool = await beat()
        if confirmed:
            self.confirmed_at = sent
            self._changed()
        elif not coordinator.member_id:
            self._lost()
        return confirmed

    def _lost(self) -> None:
        self.given, self.confirmed_at = NOTHING, None
        self._changed()
