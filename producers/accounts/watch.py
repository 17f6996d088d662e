"""One account, watched: its stream and its rounds over REST, until told to stop or refused for good."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from producers.accounts.link import Link
from producers.accounts.rounds import Rounds
from producers.announce import Announcer
from producers.connection import State
from tidewire import log
from tidewire.accounts import Account
from tidewire.clock import NS_PER_SECOND
from tidewire.errors import RefusedError

_log = log.get("accounts")


class Watch:
    """One account's. Being refused ends it alone; any other error is tidewire's and ends the service."""

    def __init__(self, account: Account, link: Link, rounds: Rounds, announcer: Announcer) -> None:
        self.account, self._link, self._rounds, self._announcer = account, link, rounds, announcer
        self.refused: str | None = None
        """Why nothing more is tried for this account."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set or the account is refused for good."""
        self._announcer.start()
        try:
            if await self._verified(stop):
                await self._work(stop)
        finally:
            await self._announcer.stop(self.refused or "stopped")

    async def _verified(self, stop: asyncio.Event) -> bool:
        verifying = asyncio.create_task(self._rounds.verify())
        stopped = asyncio.create_task(stop.wait())
        await _first_of(verifying, stopped)
        self._judge(verifying)
        return self.refused is None and not stop.is_set()

    async def _work(self, stop: asyncio.Event) -> None:
        own_stop = asyncio.Event()
        stopped = asyncio.create_task(stop.wait())
        link = asyncio.create_task(self._link.run(own_stop))
        rounds = asyncio.create_task(self._rounds.run())
        try:
            await asyncio.wait((stopped, link, rounds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            own_stop.set()
            stopped.cancel()
            rounds.cancel()
            await asyncio.wait((link, rounds, stopped))
        self._judge(link)
        self._judge(rounds)

    def _judge(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        try:
            task.result()
        except RefusedError as error:
            self.refused = str(error)
            _log.error("account refused", account=self.account.name, reason=self.refused)

    @property
    def reason(self) -> str | None:
        """Why not all is well with this account; None: it is."""
        reason = self.refused or self._link.lost or self._rounds.trouble
        return None if reason is None else f"account {self.account.name}: {reason}"

    def details(self) -> dict[str, object]:
        """For /health."""
        return {
            "mode": self.account.mode,
            "websocket_connected": self._link.state is State.CONNECTED,
            "connection_state": str(self._link.state),
            "reconnect_attempts": self._link.reconnects,
            "last_message_time": _moment(self._link.last_message_ns),
            "last_snapshot_time": _moment(self._rounds.snapshot_ts),
            "reason": self.refused or self._link.lost or self._rounds.trouble,
        }


async def _first_of(*tasks: asyncio.Task[Any]) -> None:
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _moment(ns: int | None) -> str | None:
    if ns is None:
        return None
    return datetime.fromtimestamp(ns / NS_PER_SECOND, UTC).isoformat(timespec="milliseconds")
