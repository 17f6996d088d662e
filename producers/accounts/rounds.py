"""Rounds over REST for one account: look up what the stream did not tell, then publish a snapshot.

A round begins when the stream listens (again), two seconds after a fill, when the stream told something that
cannot be all, when somebody asks, and at the latest every `tidewire_snapshot_seconds`. What REST finds and
the log lacks goes into the log before the snapshot does: so the cursor of the last snapshot says up to where
the log is complete, and a restarted producer goes on from there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from producers.accounts import reading, snapshots
from producers.accounts.activity_rounds import ActivityRounds
from producers.accounts.comparison import Comparison, Found
from producers.accounts.journal import Journal
from producers.accounts.reading import MARGIN_NS, Reading, cursor_ts, fill_ts
from producers.accounts.rest import RestError, TradingApi
from producers.accounts.truth import Truth
from producers.accounts.turns import Turns
from producers.accounts.updates import Content
from producers.connection import backoff
from schemas import trading_values as values
from schemas.trading_values import Json
from tidewire import log
from tidewire.clock import Clock
from tidewire.errors import RecordError, RefusedError
from tidewire.metrics import ACCOUNT_SNAPSHOTS
from tidewire.redaction import Redactor

FILL_SECONDS = 2.0
"""So long after a fill positions and cash are looked up: one look for all fills of a burst."""
SPACING_SECONDS = 20.0
"""Between rounds that fills ask for: seven requests each, of 200 a minute that the executor needs as well."""
LISTENING_SECONDS = 5.0
"""The first round waits so long for the stream: what happens after it must come by the stream."""
POLL_SECONDS = 5.0
"""Between rounds where there is no stream: seven requests each, of 200 a minute."""
OPENING_LOOKS = 5

Mode = Literal["stream", "hybrid", "poll"]

_log = log.get("accounts")


@dataclass(frozen=True, slots=True)
class Last:
    """The last snapshot in the log. `broker` is Alpaca's id of the account, `ts` in ns. `activities`: those
    that are no fills were looked for as well.
    """

    ts: int
    broker: str | None
    cursor: str | None
    activities: bool = True


class Rounds:
    """One account's. It is the Listener of the account's link. `settle` waits for Kafka."""

    def __init__(
        self,
        api: TradingApi,
        journal: Journal,
        last: Last | None,
        redactor: Redactor,
        settle: Callable[[], Awaitable[None]],
        clock: Clock,
        truth: Truth,
        *,
        mode: Mode = "hybrid",
        every_seconds: float,
        turns: Turns | None = None,
    ) -> None:
        self._api, self._journal, self._redactor = api, journal, redactor
        self._settle, self._clock, self._truth = settle, clock, truth
        self._mode, self._every = mode, every_seconds
        self._turns = Turns() if turns is None else turns
        self._comparison = Comparison(api, journal, clock)
        since = None if last is None or last.activities else last.ts
        self._activities = ActivityRounds(api, journal, clock, since)
        self._broker = None if last is None else last.broker
        self._opened = last is not None
        self._bound = _bound_of(last)
        self._looked_ts = clock() if last is None else last.ts
        self._unfinished: Found | None = None
        self._wake = asyncio.Event()
        self._go = asyncio.Event()  # somebody waits for the round
        self._due = self._started = 0.0
        self._failures = 0
        self.snapshot_ts: int | None = None
        """When the last snapshot of this process was asked for, ns."""
        self.trouble: str | None = "no snapshot yet"
        """Why REST tells nothing at the moment; None: it does."""

    # -- who asks for a round

    def connected(self) -> None:
        """The stream listens: look up what was before."""
        self._truth.connected()
        self.ask()

    def lost(self, reason: str) -> None:
        """The stream is gone: a gap begins."""
        self._truth.lost(reason)

    def filled(self) -> None:
        """Look at positions and cash shortly; where only the stream is to be believed, not at all."""
        if self._mode != "stream":
            self._plan(max(FILL_SECONDS, self._started + SPACING_SECONDS - self._now()))

    def doubtful(self, why: str, update: Content | None) -> None:
        """The stream told something that cannot be all."""
        _log.info("the stream has left something out", account=self._journal.account, why=why)
        if self._opened:
            self._truth.doubtful(why, update)
        self.ask(FILL_SECONDS)

    def requested(self) -> None:
        """Somebody wants to know: a round at once, with an audit."""
        self._truth.asked()
        self.ask()

    def ask(self, within_seconds: float = 0.0) -> None:
        """Have a round after so many seconds, or earlier if one is due earlier; it waits for no other's."""
        self._go.set()
        self._plan(within_seconds)

    def _plan(self, within_seconds: float) -> None:
        due = self._now() + within_seconds
        if due < self._due:
            self._due = due
            self._wake.set()

    # -- the loop

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            RefusedError: the account's name belongs to another brokerage account.
        """
        self._truth.started(self._mode, history=self._opened)
        self._due = self._now() + (0.0 if self._mode == "poll" else LISTENING_SECONDS)
        while True:
            await self._until_due()
            if self._mode == "poll" or not (self._opened and self._truth.listening):
                self._go.set()  # nobody else tells of fills
            async with self._turns.turn(self._go):
                await self._one()

    async def _one(self) -> None:
        self._started, self._due = self._now(), self._now() + self._pause
        try:
            await self.round()
        except (RestError, RecordError, TimeoutError) as error:
            self._failed(error)
        else:
            self._failures, self.trouble = 0, None

    @property
    def _pause(self) -> float:
        """Seconds until the next round when nobody asks for one."""
        if self._mode == "poll":
            return min(POLL_SECONDS, self._every)
        # With the stream gone REST is all there is, whatever the mode.
        return self._every if self._mode == "hybrid" or not self._truth.listening else float("inf")

    async def verify(self) -> None:
        """Return once the brokerage account is known to be the one of the history, if there is one.

        Only then may the stream be listened to: its updates do not say whose they are. Refused keys are left
        to the stream, which says so for good.

        Raises:
            RefusedError: the account's name belongs to another brokerage account.
        """
        failures = 0
        while self._broker is not None:
            try:
                self._check_broker(await self._api.account())
                return
            except (RestError, RecordError) as error:
                if isinstance(error, RestError) and error.status in (401, 403) and self._mode != "poll":
                    return
                failures += 1
                self.trouble = self._redactor.text(str(error))
                _log.warning(
                    "brokerage account not known", account=self._journal.account, reason=self.trouble
                )
                await asyncio.sleep(backoff(failures, random.random))

    async def round(self) -> None:
        """One round.

        Raises:
            RestError, RecordError: nothing was published that is not whole; try again.
            TimeoutError: Kafka does not take it.
            RefusedError: this is another brokerage account.
        """
        opening = not self._opened
        begun = self._truth.begin(self._api)
        found = await self._read(opening)
        self._check_broker(found.account)
        if opening:
            compared = await self._comparison.opening(found)
        else:
            compared = await self._comparison.look(found, self._looked_ts, patient=begun.patient)
        if self._unfinished is not None:
            compared = compared.after(self._unfinished)
        self._unfinished = compared
        await self._settle()
        self._publish(found)
        self._opened = True
        self._bound = reading.since_when(found.fills)
        self._looked_ts = found.asked
        if compared.told and not opening:
            told = len(compared.told)
            _log.info("looked up what the stream did not tell", account=self._journal.account, events=told)
        again = await self._truth.conclude(compared, begun, found.asked, opening=opening)
        self._unfinished = None
        if again:
            self.ask(FILL_SECONDS)  # to say that it is all there now

    async def _read(self, opening: bool) -> Reading:
        """Activities that are no fills go into the log first: what a snapshot shows of them is explained."""
        await self._activities.look()
        for _ in range(OPENING_LOOKS):
            found = await reading.read(self._api, self._clock, self._bound, opening=opening)
            # An opening balance must say which activities it contains: none may have come meanwhile.
            if not opening or not await self._activities.look():
                return found
        raise RestError("/account/activities", 0, "activities came while the opening balance was read")

    async def _until_due(self) -> None:
        while (left := self._due - self._now()) > 0:
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), None if left == float("inf") else left)
            except TimeoutError:
                return

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._due = self._now() + backoff(self._failures, random.random)
        self.trouble = self._redactor.text(str(error) or "Kafka does not take what REST told")
        ACCOUNT_SNAPSHOTS.labels("failed").inc()
        _log.warning(
            "no snapshot", account=self._journal.account, reason=self.trouble,
            again_in=round(self._due - self._now(), 1),
        )  # fmt: skip

    def _check_broker(self, account: Json) -> None:
        broker = values.identity(account, "id", "account.")
        if self._broker not in (None, broker):
            raise RefusedError(
                f"account {self._journal.account}: its keys belong to another brokerage account than its "
                "history in Kafka. Give this one a name of its own in accounts.toml."
            )
        self._broker = broker

    def _publish(self, found: Reading) -> None:
        since = reading.since_when(found.fills)
        listed = [a for a in found.fills if since is None or fill_ts(a) > since]
        content = snapshots.content(
            self._journal.account, found.account, found.positions, found.orders,
            ts=found.asked, cursor=found.cursor, contained=self._comparison.names(listed),
            activities=self._activities.told,
        )  # fmt: skip
        self._journal.snapshot(content, self._clock())
        self._activities.named()
        self.snapshot_ts = found.asked
        ACCOUNT_SNAPSHOTS.labels("published").inc()
        _log.debug("snapshot", account=self._journal.account, fills=len(listed))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _bound_of(last: Last | None) -> int | None:
    """From when on the log may lack fills, ns; None: from the account's first."""
    if last is None or last.cursor is None:
        return None
    named = cursor_ts(last.cursor)
    return (last.ts if named is None else min(named, last.ts)) - MARGIN_NS
