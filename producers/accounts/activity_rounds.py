"""The looks at an account's activities that are no fills: what REST shows and the log lacks goes into the
log.

Alpaca books fees and dividends hours or a day after the day that their ids begin with, so the newest id says
nothing about what is still to come. It filters by the time of booking, however: each look asks for what was
booked since a day before the newest that the log has. Most looks end at the first page without news; every
ten minutes, and when the process begins, one reads the whole day again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from producers.accounts import activities
from producers.accounts.journal import Journal
from producers.accounts.rest import PAGE_ACTIVITIES, TradingApi
from producers.accounts.updates import Content
from schemas import trading_values as values
from schemas.activities import EXECUTIONS, booked, effect_of
from schemas.trading_values import Json
from tidewire import log
from tidewire.clock import NS_PER_DAY, NS_PER_SECOND, Clock
from tidewire.errors import RecordError

MARGIN_NS = NS_PER_DAY
WHOLE_EVERY_NS = 600 * NS_PER_SECOND
MOST_REFUSED = 1_000
"""Activities that could not be records and are remembered, so that each is one dead letter."""

_log = log.get("accounts")


class ActivityRounds:
    """One account's. `since`: the account's history began without activities, so only those booked after this
    time (ns) are news; None: it did not.
    """

    def __init__(self, api: TradingApi, journal: Journal, clock: Clock, since: int | None) -> None:
        self._api, self._journal, self._clock, self._since = api, journal, clock, since
        self._refused: set[str] = set()
        self._whole_ts: int | None = None
        self.told: list[str] = []
        """Ids that went into the log and that no snapshot has named yet."""

    async def look(self) -> bool:
        """Read, and tell what the log lacks; whether there was any.

        Raises:
            RestError: nothing can be said; try again.
        """
        now = self._clock()
        whole = self._whole_ts is None or now - self._whole_ts >= WHOLE_EVERY_NS
        found = await self._read(whole)
        told = [content for content in sorted(found, key=_order) if self._tell(content, now)]
        if whole:
            self._whole_ts = now
        if told:
            _log.info("activities", account=self._journal.account, told=len(told))
        self.told += [c["activity_id"] for c in told if effect_of(c).kind != "none"]
        return bool(told)

    def named(self) -> None:
        """A snapshot has named what was told."""
        self.told = []

    async def _read(self, whole: bool) -> list[Content]:
        newest = self._journal.memory.newest_activity_ts
        page = await self._api.activities(None if newest is None else newest - MARGIN_NS)
        found = list(self._contents(page))
        if newest is None and found:
            newest = max(map(booked, found))
        after = None if newest is None else newest - MARGIN_NS
        while len(page) >= PAGE_ACTIVITIES and (whole or any(map(self._is_news, self._contents(page)))):
            page = await self._api.activities(after, values.identity(page[-1], "id"))
            found += self._contents(page)
        return found

    def _contents(self, page: Sequence[Json]) -> Iterator[Content]:
        for activity in page:
            if activity.get("activity_type") in EXECUTIONS:
                continue
            try:
                yield activities.content(self._journal.account, activity)
            except RecordError as error:
                self._refuse(activity, error)

    def _is_news(self, content: Content) -> bool:
        if self._since is not None and booked(content) <= self._since:
            return False
        return not self._journal.memory.holds_activity(content)

    def _tell(self, content: Content, now: int) -> bool:
        try:
            return self._is_news(content) and self._journal.activity(content, now)
        except RecordError as error:
            self._refuse({"id": content["activity_id"]}, error)
            return False

    def _refuse(self, source: Json, error: RecordError) -> None:
        text = str(values.leftovers(source))
        if text not in self._refused:  # it will be found again by every look of a day
            if len(self._refused) >= MOST_REFUSED:
                self._refused.clear()
            self._refused.add(text)
            self._journal.refuse(text, error, self._clock())


def _order(content: Content) -> tuple[int, bool]:
    # What takes something away goes before what brings it in another shape.
    return content["ts"], (content["quantity"] or 0) > 0
