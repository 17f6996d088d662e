"""One account, watched: its stream and its rounds over REST, until cancelled or refused for good."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from producers.accounts.link import Link
from producers.accounts.polling import Polling
from producers.accounts.rounds import Rounds
from producers.accounts.savings import Savings
from producers.announce import Announcer
from producers.connection import State
from tidewire import log
from tidewire.accounts import Account
from tidewire.clock import NS_PER_SECOND
from tidewire.errors import RefusedError

_log = log.get("accounts")


class Watch:
    """One account's. Being refused ends it alone; any other error is tidewire's and ends the service."""

    def __init__(
        self, account: Account, link: Link | Polling, rounds: Rounds, announcer: Announcer, savings: Savings
    ) -> None:
        self.account, self._link, self._rounds, self._announcer = account, link, rounds, announcer
        self._savings = savings
        self.refused: str | None = None
        """Why nothing more is tried for this account."""

    async def run(self) -> None:
        """Work until cancelled, or until the account is refused for good."""
        self._announcer.start()
        try:
            await self._work()
        except RefusedError as error:
            self.refused = str(error)
            _log.error("account refused", account=self.account.name, reason=self.refused)
        finally:
            await self._announcer.stop(self.refused or "stopped")

    async def _work(self) -> None:
        await self._rounds.verify()
        stop = asyncio.Event()
        link = asyncio.create_task(self._link.run(stop))
        rounds = asyncio.create_task(self._rounds.run())
        try:
            await asyncio.wait((link, rounds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            rounds.cancel()
            await asyncio.wait((link, rounds))
        for task in (link, rounds):
            if not task.cancelled():
                task.result()

    def reconcile(self) -> None:
        """Somebody wants to know: a round at once."""
        self._rounds.requested()

    def count(self) -> None:
        """Bring the metrics up to date."""
        self._savings.count()

    @property
    def reason(self) -> str | None:
        """Why not all is well with this account; None: it is."""
        reason = self.refused or self._link.lost or self._rounds.trouble
        return None if reason is None else f"account {self.account.name}: {reason}"

    def details(self) -> dict[str, object]:
        """For /health."""
        saved = self._savings.saved
        return {
            "mode": self.account.mode,
            "websocket_connected": self._link.state == State.CONNECTED,
            "connection_state": str(self._link.state),
            "reconnect_attempts": self._link.reconnects,
            "last_message_time": _moment(self._link.last_message_ns),
            "last_snapshot_time": _moment(self._rounds.snapshot_ts),
            "rest_requests": self._savings.made,
            "rest_requests_if_polled_each_second": self._savings.polling,
            "rest_requests_saved": None if saved is None else round(saved, 4),
            "reason": self.refused or self._link.lost or self._rounds.trouble,
        }


def _moment(ns: int | None) -> str | None:
    if ns is None:
        return None
    return datetime.fromtimestamp(ns / NS_PER_SECOND, UTC).isoformat(timespec="milliseconds")
