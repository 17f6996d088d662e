"""What one round over REST finds that the log lacks, and its telling: fills, ends of orders, open orders.

Fills are named by FILL activities; how an order ended is asked for when the log has it open and the broker
does not; open orders of which nothing was told begin as `new`. The events get the stream's own ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial

from producers.accounts import reading, recovered
from producers.accounts.journal import Journal
from producers.accounts.reading import Reading, by_id, fill_ts
from producers.accounts.rest import RestError, TradingApi
from producers.accounts.updates import Content
from schemas import trading_values as values
from schemas.event_id import plain_quantity
from schemas.fills import FILL_EVENTS
from schemas.trading_values import Json
from tidewire import log
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.errors import RecordError

GRACE_NS = 2 * NS_PER_SECOND
"""What is younger may be on its way by the stream, which tells more of it than REST."""
MOST_REFUSED = 1_000
"""Answers of REST that could not be records and are remembered, so that each is one dead letter."""
ORDERS_BACK_NS = 300 * NS_PER_SECOND
"""Orders submitted so long before the last round are looked at again."""
_STREAMED = ("new", "partially_filled")
"""States of open orders that the stream surely has told of; a bracket's held leg has no event of its own."""

_log = log.get("accounts")


@dataclass(frozen=True, slots=True)
class Found:
    """What a round compared, and what of it was told because the log lacked it.

    `known` maps every event compared to its time (ns, the broker's clock). `lost` are events among those told
    that the stream must have told, had it told everything; `since` is when the first of their orders was last
    heard of. `moving`: orders that were open at some time of the round's span; `unsaid`: those among the lost
    ones' that may have passed through states.
    """

    known: Mapping[Hashable, int] = field(default_factory=dict)
    told: tuple[Content, ...] = ()
    lost: tuple[Content, ...] = ()
    since: int = 0
    moving: int = 0
    unsaid: int = 0
    open_orders: int = 0
    positions: int = 0
    differing: tuple[str, ...] = ()
    """Symbols whose position is not what their fills leave."""

    @property
    def names(self) -> frozenset[Hashable]:
        """Of what was told."""
        return frozenset(map(name_of, self.told))

    def after(self, unfinished: Found) -> Found:
        """With what a round before it found, which Kafka did not take in time: told, and never concluded.

        This round no longer finds it, since the memory has what was told.
        """
        since = [found.since for found in (unfinished, self) if found.lost]
        return replace(
            self,
            known={**unfinished.known, **self.known},
            told=unfinished.told + self.told,
            lost=unfinished.lost + self.lost,
            since=min(since, default=0),
            moving=unfinished.moving + self.moving,
            unsaid=unfinished.unsaid + self.unsaid,
        )


class Comparison:
    """One account's rounds, compared with its journal's memory of the log."""

    def __init__(self, api: TradingApi, journal: Journal, clock: Clock) -> None:
        self._api, self._journal, self._clock = api, journal, clock
        self._contained: set[tuple[str, str]] = set()
        self._refused: set[str] = set()

    async def opening(self, found: Reading) -> Found:
        """The first look at an account: its fills are in its balance, only its open orders begin.

        Raises:
            RecordError: REST tells what cannot be a record.
        """
        self._contained = set(self.names(found.fills))
        orders = by_id(found.orders)
        memory = self._journal.memory
        begun = [c for c in self._beginnings(orders) if not memory.holds(c)]
        told = self._tell(await self._settled(begun, found.asked, patient=False))
        return Found({}, told, open_orders=len(orders), positions=len(found.positions))

    async def look(self, found: Reading, looked_ts: int, *, patient: bool) -> Found:
        """Compare, and tell what the log lacks. `looked_ts`: of the last round, ns.

        `patient`: the stream listens, so what the log lacks gets some time to come by it.

        Raises:
            RestError, RecordError: nothing can be said; try again.
        """
        memory = self._journal.memory
        open_before = set(memory.open_orders)
        orders, fills = await self._material(found, looked_ts, open_before)
        unknown = {order_id for order_id in orders if not memory.knows(order_id)}
        contents = [*self._contents(fills, orders)]
        lacking = [c for c in contents if not memory.holds(c)]
        lacking = await self._settled(lacking, found.asked, patient)
        heard = {c["order_id"]: memory.last_ts(c["order_id"]) for c in lacking}
        told = self._tell(lacking)
        lost = tuple(c for c in told if _surely_streamed(c))
        return Found(
            known=self._known(found, contents),
            told=told,
            lost=lost,
            since=min((_since(c, heard[c["order_id"]]) for c in lost), default=0),
            moving=len(open_before | unknown),
            unsaid=sum(_may_have_passed(c, unknown) for c in lost),
            open_orders=len(found.orders),
            positions=len(found.positions),
            differing=self._differing(found),
        )

    async def _material(
        self, found: Reading, looked_ts: int, open_before: set[str]
    ) -> tuple[dict[str, Json], list[Json]]:
        fills = [a for a in found.fills if self._lacks(a)]
        orders = by_id(found.orders)
        orders = by_id(await reading.orders_after(self._api, self._orders_since(looked_ts))) | orders
        asked = {order_id for order_id, _ in self.names(fills)} | open_before
        return orders | await self._looked_up(asked - orders.keys()), fills

    async def _settled(self, lacking: list[Content], asked: int, patient: bool) -> list[Content]:
        """What is still lacking after the stream had its time; the oldest first."""
        young = any(c["ts"] > asked - GRACE_NS for c in lacking)
        if lacking and (patient or young):
            await asyncio.sleep(GRACE_NS / NS_PER_SECOND)
        return sorted(lacking, key=_time)

    def _tell(self, lacking: Iterable[Content]) -> tuple[Content, ...]:
        now = self._clock()
        return tuple(content for content in lacking if self._told(content, now))

    def _told(self, content: Content, now: int) -> bool:
        known = self._journal.memory.knows(content["order_id"])
        if content["event"] == recovered.BEGINNING and known:  # the stream told of it meanwhile
            return False
        return self._journal.event(content, "rest", now)

    def _orders_since(self, looked_ts: int) -> int:
        # By the broker's clock: ours may be ahead, and a simulated market's is years behind.
        newest = self._journal.memory.newest_submitted_ts
        return (looked_ts if newest is None else min(newest, looked_ts)) - ORDERS_BACK_NS

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

    def _contents(self, fills: list[Json], orders: dict[str, Json]) -> Iterator[Content]:
        account = self._journal.account
        for activity in fills:
            order = orders.get(str(activity.get("order_id")), {"id": activity.get("order_id")})
            yield from self._made(activity, partial(recovered.fill, account, activity, order))
        for order in orders.values():
            yield from self._made(order, partial(recovered.ending, account, order))
        yield from self._beginnings(orders)

    def _beginnings(self, orders: dict[str, Json]) -> Iterator[Content]:
        for order_id, order in orders.items():
            if not self._journal.memory.knows(order_id):
                yield from self._made(order, partial(recovered.beginning, self._journal.account, order))

    def _made(self, source: Json, make: Callable[[], Content | None]) -> Iterator[Content]:
        try:
            content = make()
        except RecordError as error:
            self._refuse(source, error)
        else:
            if content is not None:
                yield content

    def _known(self, found: Reading, contents: list[Content]) -> dict[Hashable, int]:
        known: dict[Hashable, int] = {name_of(c): c["ts"] for c in contents}
        for activity in found.fills:
            try:
                known.setdefault(recovered.fill_name(activity), fill_ts(activity))
            except RecordError:  # refused already
                continue
        return known

    def _differing(self, found: Reading) -> tuple[str, ...]:
        """Only where the reading is not older than what the stream has said: it would be no difference."""
        if not found.fills:
            return ()
        theirs = {values.symbol(p): _quantity(p) for p in found.positions}
        newest = max(map(fill_ts, found.fills))
        ours = self._journal.memory.positions
        return tuple(
            sorted(
                symbol
                for symbol, held in ours.items()
                if held.ts <= newest and held.quantity != theirs.get(symbol, Decimal(0))
            )
        )

    def _lacks(self, activity: Json) -> bool:
        try:
            name = recovered.fill_name(activity)
        except RecordError as error:
            self._refuse(activity, error)
            return False
        return name not in self._contained and not self._journal.memory.holds_fill(*name)

    def names(self, fills: list[Json]) -> Iterator[tuple[str, str]]:
        """Order id and plain cumulative quantity of these FILL activities."""
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


def name_of(content: Content) -> Hashable:
    """What names an event: a fill as its FILL activity does, another by its order."""
    if content["event"] in FILL_EVENTS:
        return content["order_id"], plain_quantity(content["cumulative_quantity"])
    return content["order_id"], content["event"], ""


def _surely_streamed(content: Content) -> bool:
    if content["event"] != recovered.BEGINNING:
        return True
    return content["status"] in _STREAMED and content["replaces"] is None


def _may_have_passed(content: Content, unknown: set[str]) -> bool:
    # A fill of an order that is known says all; its beginning or its end may have had states around it.
    return content["event"] not in FILL_EVENTS or content["order_id"] in unknown


def _since(content: Content, heard: int | None) -> int:
    known: int = content["ts"] if content["submitted_ts"] is None else content["submitted_ts"]
    ts: int = content["ts"]
    return min(ts, known if heard is None else heard)


def _quantity(position: Json) -> Decimal:
    quantity = values.needed(position, "qty", "position ")
    return -abs(quantity) if position.get("side") == "short" else quantity


def _time(content: Content) -> int:
    ts: int = content["ts"]
    return ts
