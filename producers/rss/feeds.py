"""One feed, watched: looks at it again and again, and hands every entry on, or says why not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import ClientSession

from producers.entrance import Known
from producers.normalize import Content
from producers.rss import articles
from producers.rss.desk import Desk
from producers.rss.looks import Document, LookError, look
from producers.rss.reader import Parsed, UnreadableError, parse
from tidewire import log
from tidewire.clock import Clock
from tidewire.errors import RecordError
from tidewire.metrics import RSS_ARTICLES, RSS_LOOKS

_log = log.get("rss")
_REMEMBERED = 5_000

Refuse = Callable[[str, bytes, str], None]
"""Takes the host, the bytes and why they cannot be used."""


class Feed:
    """`refuse_entry` and `refuse_document` get what cannot be an article, each once."""

    def __init__(
        self,
        url: str,
        session: ClientSession,
        desk: Desk,
        clock: Clock,
        refuse_entry: Refuse,
        refuse_document: Refuse,
    ) -> None:
        self._url, self.host = url, articles.host(url)
        self._session, self._desk, self._clock = session, desk, clock
        self._refuse_entry, self._refuse_document = refuse_entry, refuse_document
        self._former: Document | None = None
        self._broken: str | None = None
        self._looked = False
        self._refused = Known(_REMEMBERED)
        self.trouble: str | None = "not yet looked at"
        """Why the last look brought nothing; None: it did."""
        self.seen_ns: int | None = None
        """When the feed was last reached, ns since 1970."""

    async def run(self, seconds: float) -> None:
        """Look every so many seconds until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(seconds)

    async def look(self) -> None:
        """One look."""
        try:
            outcome = await self._look()
            self.trouble, self.seen_ns = self._broken, self._clock()
        except LookError as error:
            outcome = error.outcome
            if self.trouble != str(error):
                _log.warning("a feed brings nothing", host=self.host, reason=str(error))
            self.trouble = str(error)
        RSS_LOOKS.labels(outcome).inc()

    async def _look(self) -> str:
        document = await look(self._session, self._url, self._former)
        if document is None:
            return "unchanged"
        received = self._clock()
        try:
            parsed = await parse(document.body, self._url, document.content_type)
        except UnreadableError as error:
            if not self._refused.repeats(document.digest):
                self._refuse_document(self.host, document.body, str(error))
            self._former, self._broken = document, f"{self.host}: {error}"
            raise LookError("broken", self._broken) from None
        self._hand_on(parsed, received)
        # Only now: had this look been cut short, the next one would bring the same again.
        self._former, self._broken, self._looked = document, None, True
        return "changed"

    def _hand_on(self, parsed: Parsed, received: int) -> None:
        for entry in parsed.entries:
            content = self._content(entry, received)
            if content is None:
                continue
            dated = articles.is_dated(entry)
            outcome = self._desk.offer(content, received, dated=dated, first_look=not self._looked)
            if outcome != "waiting":
                RSS_ARTICLES.labels(outcome).inc()
        if parsed.left_out:
            RSS_ARTICLES.labels("left_out").inc(parsed.left_out)
            _log.warning("a feed is too long", host=self.host, entries_left_out=parsed.left_out)

    def _content(self, entry: dict[str, Any], received: int) -> Content | None:
        try:
            return articles.content(entry, self.host, received)
        except RecordError as error:
            raw = json.dumps(entry, sort_keys=True).encode()
            if not self._refused.repeats(raw):
                self._refuse_entry(self.host, raw, error.reason)
                RSS_ARTICLES.labels("refused").inc()
            return None
