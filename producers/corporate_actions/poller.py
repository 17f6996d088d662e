"""Looks for corporate actions every hour, before each session, and at once for symbols that are new.

What the log holds is read first and before each look, so that nothing is published twice, whoever wrote it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from producers.corporate_actions.asking import Answer, by_id, of_symbols
from producers.corporate_actions.board import Board, News
from producers.corporate_actions.reading import Announced
from producers.history.client import History
from producers.history.errors import HistoryError
from producers.history.market_days import NEW_YORK
from producers.log_follow import LogFollower
from schemas.catalogue import CORPORATE_ACTIONS, EXIT_WATCH, Catalogue
from schemas.codec import Codec
from tidewire import dead_letters, kafka, log
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.config import Settings
from tidewire.dead_letters import DeadLetter
from tidewire.errors import RecordError
from tidewire.metrics import CORPORATE_ACTION_LOOKS, CORPORATE_ACTIONS_LOOKED
from tidewire.metrics import CORPORATE_ACTIONS as COUNTED

TOPICS = (CORPORATE_ACTIONS, EXIT_WATCH)
EVERY_NS = 3_600 * NS_PER_SECOND
BEFORE_SESSION_NS = 1_800 * NS_PER_SECOND
"""So long before the opening is the look from which a session's price bases are known."""
AGAIN_NS = 60 * NS_PER_SECOND
"""After a look that failed."""
TURN_SECONDS = 1.0
SHARE = 0.05
"""Of the rate limit of REST: a few requests an hour, which may come in a row."""
BACK_DAYS, AHEAD_DAYS = 14, 90
"""Days of processing that are asked for, around today in New York."""
_SEND_SECONDS = 30.0
AWAY = (KafkaError, OSError, TimeoutError, AssertionError, TypeError)
"""What sending raises while Kafka is away; see session.py for the last two."""

_log = log.get("corporate-actions")

Universe = Callable[[], Collection[str]]
"""The stocks that somebody holds or watches."""


class CorporateActions:
    """One owner's poller. `epoch` goes into the records; `watched` adds the stocks that exit rules watch."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        producer: AIOKafkaProducer,
        history: History,
        universe: Universe,
        clock: Clock,
        epoch: int,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._codec, self._producer, self._history = codec, producer, history
        self._universe, self._clock, self._epoch, self._sleep = universe, clock, epoch, sleep
        name = Catalogue(settings.tidewire_topic_prefix, 1).name
        self._topic, self._watches = name(CORPORATE_ACTIONS), name(EXIT_WATCH)
        self._follower = LogFollower(kafka.client_arguments(settings), (self._topic, self._watches))
        self._board = Board()
        self._watched: dict[bytes, str] = {}
        self._asked: set[str] = set()
        self._due = 0
        self._looked: int | None = None
        self._buried: set[str] = set()
        self.trouble: str | None = "not looked yet"
        """Why the last look failed; None: it did not."""

    def details(self) -> Mapping[str, object]:
        """For /health."""
        since = None if self._looked is None else round((self._clock() - self._looked) / NS_PER_SECOND, 1)
        return {
            "announced": len(self._board),
            "symbols": len(self._asked),
            "seconds_since_look": since,
            "trouble": self.trouble,
        }

    async def run(self) -> None:
        """Look until cancelled; Kafka's and Alpaca's absence is waited out."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follower.run(self._take))
            tasks.create_task(self._forever())

    async def _forever(self) -> None:
        await self._follower.caught_up.wait()
        while True:
            symbols = self._symbols()
            if self._clock() >= self._due:
                await self._look(symbols, whole=True)
            elif fresh := symbols - self._asked:
                await self._look(fresh, whole=False)
            await self._sleep(TURN_SECONDS)

    def _symbols(self) -> set[str]:
        return {*self._universe(), *self._watched.values()}

    async def _look(self, symbols: set[str], *, whole: bool) -> None:
        """One look; a failed one is done again as a whole a minute later."""
        began = self._clock()
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await self._follower.read_to_end()
            answer = await self._ask(symbols)
            await self._publish(*answer)
            if whole:
                self._due = await self._next(began)
        except (HistoryError, *AWAY) as error:
            self.trouble = str(error) or repr(error)
            self._due = began + AGAIN_NS
            self._asked |= symbols  # they are asked for again when it is due, not each second
            CORPORATE_ACTION_LOOKS.labels("failed").inc()
            _log.warning("no look at corporate actions", reason=self.trouble)
            return
        self._asked = symbols if whole else self._asked | symbols
        self._looked, self.trouble = began, None
        CORPORATE_ACTION_LOOKS.labels("good").inc()
        CORPORATE_ACTIONS_LOOKED.set(began / NS_PER_SECOND)

    async def _ask(self, symbols: set[str]) -> tuple[list[News], Answer]:
        """What is to be published, and the answer that says so."""
        if not symbols:
            return [], Answer()
        today = datetime.fromtimestamp(self._clock() / NS_PER_SECOND, UTC).astimezone(NEW_YORK).date()
        start = (today - timedelta(BACK_DAYS)).isoformat()
        end = (today + timedelta(AHEAD_DAYS)).isoformat()
        answer = await of_symbols(self._history, symbols, start, end)
        asked = [one for one in answer.announced if one.symbol in symbols]
        COUNTED.labels("filtered").inc(len(answer.announced) - len(asked))
        missing = self._board.missing(symbols, start, end, answer.announced)
        moved = await self._elsewhere(missing)
        found = {one.key for one in moved}
        gone = [one for one in missing if one.key not in found]
        news = self._board.news([*asked, *moved], gone)
        COUNTED.labels("unchanged").inc(len({one.key for one in asked} - {n.announced.key for n in news}))
        return news, answer

    async def _elsewhere(self, missing: Sequence[Announced]) -> list[Announced]:
        """Those that are only processed on another day than before."""
        ids = {one.action_id for one in missing if not one.action_id.startswith("content-")}
        keys = {one.key for one in missing}
        answer = await by_id(self._history, ids)
        return [one for one in answer.announced if one.key in keys]

    async def _publish(self, news: Sequence[News], answer: Answer) -> None:
        now = self._clock()
        async with asyncio.timeout(_SEND_SECONDS):
            sent = [
                await self._producer.send(
                    self._topic,
                    key=one.announced.symbol.encode(),
                    value=self._codec.encode("corporate_action", one.record(now, self._epoch)),
                )
                for one in news
            ]
            await asyncio.gather(*sent)
            await self._bury(answer)
        for one in news:
            COUNTED.labels(one.what).inc()
            _log.info("corporate action", what=one.what, kind=one.announced.kind, day=one.announced.ex_date)

    async def _bury(self, answer: Answer) -> None:
        """What cannot be read is kept once, not every hour."""
        fresh = [each for each in answer.unreadable if each[1] not in self._buried]
        letters = [
            DeadLetter(self._topic, -1, -1, None, body.encode(), "corporate-actions", "ValueError", why)
            for _, body, why in fresh
        ]
        if letters:
            await dead_letters.publish(self._producer, letters)
            COUNTED.labels("unreadable").inc(len(letters))
            self._buried |= {body for _, body, _ in fresh}

    async def _next(self, began: int) -> int:
        """When the next look at everything is due, ns: in an hour, or before a session that opens sooner."""
        now = self._clock()
        try:
            opens = (await self._history.clock()).next_open - BEFORE_SESSION_NS
        except HistoryError as error:
            _log.warning("when the market opens is not known", reason=str(error))
            return began + EVERY_NS
        return opens if now < opens < began + EVERY_NS else began + EVERY_NS

    # -- the log

    async def _take(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            if record.topic == self._watches:
                self._watch(record.key or b"", record.value)
            else:
                self._told(record)

    def _watch(self, key: bytes, value: bytes | None) -> None:
        """Rules name the symbol whose price they watch in their key; only stocks are asked for."""
        symbol = key.decode("utf-8", "replace").partition(":")[0]
        self._watched.pop(key, None)
        if value is not None and symbol.isascii() and symbol.replace(".", "").isalpha():
            self._watched[key] = symbol

    def _told(self, record: ConsumerRecord) -> None:
        try:
            stem, content = self._codec.decode(record.value)
            if stem != "corporate_action":
                raise RecordError(f"a {stem} record")
            self._board.take(content)
        except (RecordError, ValueError, KeyError, orjson.JSONDecodeError) as error:
            _log.warning("unreadable", topic=record.topic, offset=record.offset, reason=str(error))
