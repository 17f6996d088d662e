"""Which cookies are signed in: PostgreSQL's sessions behind a short memory.

A session is looked up at most twice a second; `watch` looks at all remembered ones together, so a session
that ended elsewhere (sign-out at another gateway, `tidewire users remove`) closes its sockets within
a second. While PostgreSQL is away nothing can be revoked in it either: sessions that were confirmed within
GRACE_SECONDS go on, until their own end; unknown ones cannot be judged, and are told so.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sinks.gateway import store, tokens
from sinks.gateway.database import Database
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.errors import UnreachableError

LOOK_SECONDS = 0.5
GRACE_SECONDS = 300
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in cookie. `id` is its token's hash; times in ns."""

    id: bytes
    user: str
    expires_ns: int
    confirmed_ns: int


class Sessions:
    """`ended` is called with the id of every session that is over, whether or not it has sockets."""

    def __init__(self, database: Database, hours: float, now: Clock, ended: Callable[[bytes], None]) -> None:
        self._database, self._hours, self._now, self._ended = database, hours, now, ended
        self._known: OrderedDict[bytes, Session] = OrderedDict()

    async def find(self, token: str | None) -> Session | None:
        """The session of a cookie; None: there is none, it is over or was revoked.

        Raises:
            UnreachableError: it is not known here and PostgreSQL cannot be asked.
        """
        if not token or not tokens.well_formed(token):
            return None
        id = tokens.digest(token)
        known, now = self._valid(id), self._now()
        if known is not None and now - known.confirmed_ns < LOOK_SECONDS * NS_PER_SECOND:
            return known
        try:
            await self._look((id,))
        except UnreachableError:
            if known is None or now - known.confirmed_ns > GRACE_SECONDS * NS_PER_SECOND:
                raise
        return self._valid(id)

    async def begin(self, user: str) -> tuple[str, Session] | None:
        """A new session's token; None: no such user (any more).

        Raises:
            UnreachableError: PostgreSQL does not answer.
        """
        token = tokens.new()
        id = tokens.digest(token)
        if not await self._database.run(lambda db: store.add_session(db, user, id, self._hours)):
            return None
        now = self._now()
        session = Session(id, user, now + int(self._hours * 3600 * NS_PER_SECOND), now)
        self._remember(session)
        return token, session

    async def end(self, token: str) -> None:
        """Sign out. The sockets here are closed even when PostgreSQL does not answer.

        Raises:
            UnreachableError: PostgreSQL does not answer; the session is not over there.
        """
        id = tokens.digest(token)
        self._forget(id)
        await self._database.run(lambda db: store.end_session(db, id))

    async def watch(self, in_use: Callable[[], Iterable[bytes]]) -> None:
        """Look at all remembered sessions, and those that sockets use, twice a second, for ever.

        The latter, because a session may end while its socket is still being opened.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for id in [id for id in self._known if self._valid(id) is None]:
                self._forget(id)
            ids = tuple(dict.fromkeys([*self._known, *in_use()]))
            if ids:
                try:
                    await self._look(ids)
                except UnreachableError:
                    self._forget_unconfirmed()

    async def _look(self, ids: tuple[bytes, ...]) -> None:
        asked = self._now()
        rows = await self._database.run(lambda db: store.sessions(db, ids))
        found = {id: (user, end) for id, user, end in rows}
        for id in ids:
            if id in found:
                user, end = found[id]
                self._remember(Session(id, user, int(end.timestamp() * NS_PER_SECOND), asked))
            elif id not in self._known or self._known[id].confirmed_ns <= asked:
                self._forget(id)

    def _forget_unconfirmed(self) -> None:
        oldest = self._now() - GRACE_SECONDS * NS_PER_SECOND
        for id in [id for id, session in self._known.items() if session.confirmed_ns < oldest]:
            self._forget(id)

    def _valid(self, id: bytes) -> Session | None:
        session = self._known.get(id)
        return session if session is not None and session.expires_ns > self._now() else None

    def _remember(self, session: Session) -> None:
        self._known.pop(session.id, None)
        self._known[session.id] = session
        while len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)

    def _forget(self, id: bytes) -> None:
        self._known.pop(id, None)
        self._ended(id)
