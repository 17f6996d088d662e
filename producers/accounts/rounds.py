"""Rounds over REST for one account: look up what the stream did not tell, then publish a snapshot.

A round begins when the stream listens (again), two seconds after a fill, when the stream told something that
cannot be all, and at the latest every `tidewire_snapshot_seconds`. What REST finds and the log lacks goes
into the log before the snapshot does: so the cursor of the last snapshot says up to where the log is
complete, and a restarted producer goes on from there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

from producers.accounts import reading, recovered, snapshots, values
from producers.accounts.journal import Journal
from producers.accounts.reading import MARGIN_NS, Reading, by_id, cursor_ts, fill_ts
from producers.accounts.redaction import Redactor
from producers.accounts.rest import RestError, TradingApi
from producers.accounts.updates import Content
from producers.accounts.values import Json
from producers.connection import backoff
from tidewire import log
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.errors import RecordError, RefusedError
from tidewire.metrics import ACCOUNT_SNAPSHOTS

FILL_SECONDS = 2.0
"""So long after a fill positions and cash are looked up: one look for all fills of a burst."""
SPACING_SECONDS = 5.0
"""Between rounds that fills ask for: six requests each, of 200 a minute that the executor needs as well."""
LISTENING_SECONDS = 5.0
"""The first round waits so long for the stream: what happens after it must come by the stream."""
GRACE_NS = 2 * NS_PER_SECOND
"""What is younger may be on its way by the stream, which tells more of it than REST."""
MOST_REFUSED = 1_000
"""Answers of REST that could not be records and are remembered, so that each is one dead letter."""
ORDERS_BACK_NS = 300 * NS_PER_SECOND
"""Orders submitted so long before the last round are looked at again."""

_log = log.get("accounts")


@dataclass(frozen=True, slots=True)
class Last:
    """The last snapshot in the log. `broker` is Alpaca's id of the account, `ts` in ns."""

    ts: int
    broker: str | None
    cursor: str | None


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
        every_seconds: float,
    ) -> None:
        self._api, self._journal, self._redactor = api, journal, redactor
        self._settle, self._clock, self._every = settle, clock, every_seconds
        self._broker = None if last is None else last.broker
        self._opened = last is not None
        self._bound = _bound_of(last)
        self._looked_ts = clock() if last is None else last.ts
        self._contained: set[tuple[str, str]] = set()
        self._refused: set[str] = set()
        self._wake = asyncio.Event()
        self._due = self._started = 0.0
        self._failures = 0
        self.snapshot_ts: int | None = None
        """When the last snapshot of this process was asked for, ns."""
        self.trouble: str | None = "no snapshot yet"
        """Why REST tells nothing at the moment; None: it does."""

    # -- who asks for a round

    def connected(self) -> None:
        """The stream listens: look up what was before."""
        self.ask()

    def filled(self) -> None:
        """Look at positions and cash shortly."""
        self.ask(max(FILL_SECONDS, self._started + SPACING_SECONDS - self._now()))

    def doubtful(self) -> None:
        """The stream told something that cannot be all."""
        self.ask(FILL_SECONDS)

    def ask(self, within_seconds: float = 0.0) -> None:
        """Have a round after so many seconds, or earlier if one is due earlier."""
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
        self._due = self._now() + LISTENING_SECONDS
        while True:
            await self._until_due()
            self._started, self._due = self._now(), self._now() + self._every
            try:
                await self.round()
            except (RestError, RecordError, TimeoutError) as error:
                self._failed(error)
            else:
                self._failures, self.trouble = 0, None

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
                if isinstance(error, RestError) and error.status in (401, 403):
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
        found = await reading.read(self._api, self._clock, self._bound, opening=opening)
        self._check_broker(found.account)
        if opening:
            self._contained = set(self._names(found.fills))
        await self._recover(found, opening)
        await self._settle()
        self._publish(found)
        self._opened = True
        self._bound = reading.since_when(found.fills)
        self._looked_ts = found.asked

    async def _until_due(self) -> None:
        while (left := self._due - self._now()) > 0:
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), left)
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

    # -- what a round finds

    def _check_broker(self, account: Json) -> None:
        broker = values.identity(account, "id", "account.")
        if self._broker not in (None, broker):
            raise RefusedError(
                f"account {self._journal.account}: its keys belong to another brokerage account than its "
                "history in Kafka. Give this one a name of its own in accounts.toml."
            )
        self._broker = broker

    async def _recover(self, found: Reading, opening: bool) -> None:
        memory = self._journal.memory
        orders = by_id(found.orders)
        fills = [] if opening else [a for a in found.fills if self._lacks(a)]
        if not opening:
            orders = by_id(await reading.orders_after(self._api, self._orders_since)) | orders
            asked = {order_id for order_id, _ in self._names(fills)} | set(memory.open_orders)
            orders |= await self._looked_up(asked - orders.keys())
        lacking = [c for c in self._contents(fills, orders, opening) if not memory.holds(c)]
        if any(c["ts"] > found.asked - GRACE_NS for c in lacking):
            await asyncio.sleep(GRACE_NS / NS_PER_SECOND)
        now = self._clock()
        told = sum(self._tell(content, now) for content in sorted(lacking, key=_time))
        if told and not opening:
            _log.info("looked up what the stream did not tell", account=self._journal.account, events=told)

    def _tell(self, content: Content, now: int) -> bool:
        known = self._journal.memory.knows(content["order_id"])
        if content["event"] == recovered.BEGINNING and known:  # the stream told of it meanwhile
            return False
        return self._journal.event(content, "rest", now)

    @property
    def _orders_since(self) -> int:
        # By the broker's clock: ours may be ahead, and a simulated market's is years behind.
        newest = self._journal.memory.newest_submitted_ts
        return (self._looked_ts if newest is None else min(newest, self._looked_ts)) - ORDERS_BACK_NS

    async def _looked_up(self, order_ids: set[str]) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for order_id in sorted(order_ids):
            try:
                found |= by_id([await self._api.order(order_id)])
            except RestError as error:
                if error.status != 404:
                    raise
                _log.warning(
                    "the broker does not know an order", account=self._journal.account, order=order_id
                )
                self._journal.memory.forget(order_id)
        return found

    def _contents(self, fills: list[Json], orders: dict[str, Json], opening: bool) -> Iterator[Content]:
        account, memory = self._journal.account, self._journal.memory
        for activity in fills:
            order = orders.get(str(activity.get("order_id")), {"id": activity.get("order_id")})
            yield from self._made(activity, partial(recovered.fill, account, activity, order))
        for order_id, order in orders.items():
            if not opening:
                yield from self._made(order, partial(recovered.ending, account, order))
            if not memory.knows(order_id):
                yield from self._made(order, partial(recovered.beginning, account, order))

    def _made(self, source: Json, make: Callable[[], Content | None]) -> Iterator[Content]:
        try:
            content = make()
        except RecordError as error:
            self._refuse(source, error)
        else:
            if content is not None:
                yield content

    def _lacks(self, activity: Json) -> bool:
        try:
            name = recovered.fill_name(activity)
        except RecordError as error:
            self._refuse(activity, error)
            return False
        return name not in self._contained and not self._journal.memory.holds_fill(*name)

    def _names(self, fills: list[Json]) -> Iterator[tuple[str, str]]:
        for activity in fills:
            try:
                yield recovered.fill_name(activity)
            except RecordError as error:
                self._refuse(activity, error)

    def _refuse(self, source: Json, error: RecordError) -> None:
        text = str(values.leftovers(source))
        if text not in self._refused:  # it will be found again in every round of a minute
            if len(self._refused) >= MOST_REFUSED:
                self._refused.clear()
            self._refused.add(text)
            self._journal.refuse(text, error, self._clock())

    def _publish(self, found: Reading) -> None:
        since = reading.since_when(found.fills)
        listed = [a for a in found.fills if since is None or fill_ts(a) > since]
        content = snapshots.content(
            self._journal.account, found.account, found.positions, found.orders,
            ts=found.asked, cursor=found.cursor, contained=self._names(listed),
        )  # fmt: skip
        self._journal.snapshot(content, self._clock())
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


def _time(content: Content) -> int:
    ts: int = content["ts"]
    return ts
