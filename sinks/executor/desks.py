"""The accounts of this process: claimed when the group gives them to it, given up when it takes them away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from aiohttp import ClientSession

from sinks.executor import results
from sinks.executor.actions import Actions
from sinks.executor.broker import of_account
from sinks.executor.broker_types import LastCheck
from sinks.executor.failpoints import Failpoint
from sinks.executor.intents import Intent
from sinks.executor.kill_switch import KillSwitch
from sinks.executor.last_look import LastLook
from sinks.executor.ledger import Claim, FencedError
from sinks.executor.look import Looker
from sinks.executor.moves import Result, State
from sinks.executor.rulebook import rules_of
from sinks.executor.signals import Signals
from sinks.executor.worker import Ground, Held, Worker
from tidewire import log
from tidewire.accounts import Account
from tidewire.config import Settings
from tidewire.metrics import EXECUTOR_CLAIMS
from tidewire.placing import partition_of

_log = log.get("executor")


class Desks:
    """One worker an account of ours.

    Raises:
        ConfigError: keys are missing, or would cross a network in the clear.
    """

    def __init__(
        self,
        settings: Settings,
        accounts: Iterable[Account],
        ground: Ground,
        session: ClientSession,
        switch: KillSwitch,
        signals: Signals | None = None,
    ) -> None:
        self._settings, self._ground, self._signals = settings, ground, signals
        self._accounts = {account.name: account for account in accounts}
        self._brokers = {
            name: of_account(session, settings, each, _last(switch.before_orders(name), ground.failpoint))
            for name, each in self._accounts.items()
        }
        self._workers: dict[str, Worker] = {}
        self._settled = False
        self.on_fenced: Callable[[], None] = lambda: None
        """Called when another executor has an account that we thought ours."""

    @property
    def ours(self) -> list[str]:
        """The accounts that are ours."""
        return [name for name, worker in self._workers.items() if not worker.fenced.is_set()]

    @property
    def working(self) -> int:
        """Intents that have not ended."""
        return sum(worker.working for worker in self._workers.values())

    @property
    def trouble(self) -> str | None:
        """Why not all is well; None: it is."""
        if not self._settled:
            return "accounts are being claimed"
        fenced = sorted(name for name, worker in self._workers.items() if worker.fenced.is_set())
        if fenced:
            return f"another executor has {', '.join(fenced)}"
        broken = sum(len(worker.broken) for worker in self._workers.values())
        return f"{broken} intents have stopped by an error: see the log" if broken else None

    def details(self) -> Mapping[str, object]:
        """For /health."""
        return {
            name: {"fence": worker.claim.fence, "working": worker.working, "fenced": worker.fenced.is_set()}
            for name, worker in sorted(self._workers.items())
        }

    def belongs(self, account: str, partition: int, partitions: int) -> bool:
        """Whether it is an account that we have keys of, and of this partition."""
        return account in self._accounts and partition_of(account.encode(), partitions) == partition

    async def settle(self, partitions: Mapping[int, int]) -> None:
        """These partitions, each of so many, are ours: claim their accounts, give up all others."""
        self._settled = False
        mine = {
            name
            for name in self._accounts
            if any(self.belongs(name, partition, total) for partition, total in partitions.items())
        }
        for name in list(self._workers):
            if name not in mine or self._workers[name].fenced.is_set():
                await self._workers.pop(name).stop()
        for name in sorted(mine - self._workers.keys()):
            await self._claim(name)
        self._settled = True

    async def take(self, account: str, taken: list[tuple[Intent, bytes]]) -> Held:
        """Make intents durable and begin with them; returns those that were held already.

        Raises:
            FencedError: the account is another's.
        """
        worker = self._workers.get(account)
        if worker is None:
            raise FencedError(account)
        try:
            return await worker.take(taken)
        except FencedError:
            worker.fenced.set()
            raise

    async def replayed(self, intent: Intent) -> None:
        """Say that a replay's intent is not executed, under a name of its own: the live intent that it
        repeats has the same id, and must not seem to have ended. Raises FencedError."""
        worker = self._workers.get(intent.account)
        if worker is None:
            raise FencedError(intent.account)
        _log.error("an intent of a replay has come to the live topic: refused", run=intent.run_id)
        result = Result("replay", f"a record of replay {intent.run_id} is never executed", final=True)
        record = results.record(intent, State(), 0, result, self._ground.now())
        record |= {
            "intent_id": f"{intent.run_id}/{intent.intent_id}",
            "trigger_id": None,
            "position_epoch": None,
        }
        await self._ground.ledger.refuse(
            worker.claim, [(bytes(record["event_id"]), self._ground.encode(record))]
        )
        self._ground.told()

    def nudge(self, order_id: str) -> None:
        """There is news of an order of any account."""
        for worker in self._workers.values():
            worker.nudge(order_id)

    async def stop(self) -> None:
        """Leave everything to the next start."""
        await asyncio.gather(*(worker.stop() for worker in self._workers.values()))

    async def _claim(self, name: str) -> None:
        ground, account = self._ground, self._accounts[name]
        claim: Claim = await ground.ledger.claim(name)
        EXECUTOR_CLAIMS.labels("claimed").inc()
        limits = account.risk
        rules = rules_of(limits)
        broker = self._brokers[name]
        looker = Looker(broker, ground.ledger, limits, ground.now, self._signals)
        last_look = LastLook(lambda: ground.ledger.confirm(claim), ground.now, ground.timer)
        actions = Actions(broker, looker, rules, limits, ground.now, ground.failpoint, last_look)
        worker = Worker(claim, ground, rules, actions, self._fenced)
        await worker.start()
        self._workers[name] = worker
        _log.info("account claimed", fence=claim.fence, unfinished=worker.working)

    def _fenced(self) -> None:
        EXECUTOR_CLAIMS.labels("fenced").inc()
        self.on_fenced()


def _last(switch: LastCheck, failpoint: Failpoint) -> LastCheck:
    """What comes right before a POST."""

    async def check() -> None:
        await switch()
        failpoint("post.checked")

    return check
