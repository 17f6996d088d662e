"""What may be claimed of an account's order events: its gaps, its audits, when the stream is disbelieved.

Every round over REST ends here. What it found closes the gaps that are over, or names a loss inside a healthy
connection; each that compared says so in an audit. A stream that has told nothing newer than what REST had to
tell is taken for mute, and connected again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from producers.accounts.comparison import Found, name_of
from producers.accounts.interruptions import CHANNEL, Interruptions, Repair
from producers.accounts.memory import UNTOLD_BEGINNING, Memory
from producers.accounts.rest import RestError, TradingApi
from producers.accounts.savings import Savings
from producers.accounts.updates import Content
from schemas.event_id import audit_id
from schemas.gaps import AUDIT, EVERY, REQUEST, RESTART, STALL
from tidewire import log
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.metrics import ACCOUNT_ROUNDS

MINUTE_NS = 60 * NS_PER_SECOND
POLLING = "without a trading stream (TIDEWIRE_ACCOUNT_MODE=poll) passing states of orders are not told"

_log = log.get("accounts")

Audit = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Begun:
    """A round that has begun. `patient`: what is missing may still come by the stream of this connection."""

    connection: int
    patient: bool
    ending: asyncio.Task[None] | None
    ended: Callable[[], frozenset[str]]

    async def wait(self) -> frozenset[str]:
        """Names of the gaps that this round may close."""
        if self.ending is not None:
            await self.ending
        return self.ended()


class Truth:
    """One account's. `write_audit` takes the content of an audit record; `break_off` ends a mute stream."""

    def __init__(
        self,
        feed: str,
        epoch: int,
        interruptions: Interruptions,
        memory: Memory,
        streamed_ts: Callable[[], int | None],
        write_audit: Callable[[Audit], None],
        savings: Savings,
        clock: Clock,
        every_seconds: float,
    ) -> None:
        self._feed, self._epoch, self._interruptions = feed, epoch, interruptions
        self._memory, self._streamed_ts = memory, streamed_ts
        self._write_audit, self.savings = write_audit, savings
        self._clock, self._every_ns = clock, int(every_seconds * NS_PER_SECOND)
        self._connections = 0
        self._compared = 0
        self._polled = False
        self._audited_ts = 0
        self._asked = False
        self._skew: int | None = None
        self._doubts: list[tuple[str, Content | None]] = []
        self.listening = False
        """Whether the stream tells what happens."""
        self.break_off: Callable[[], None] = lambda: None
        """Ends a connection that is mute; set by whoever has one."""

    # -- what happens to the stream

    def started(self, mode: str, *, history: bool) -> None:
        """The work begins. With a history in the log, what was since is a gap."""
        self._polled = mode == "poll"
        if self._polled:
            self._interruptions.begin(REQUEST, self._complete_ts(), self._clock(), without=POLLING)
        elif history:
            self._interruptions.begin(RESTART, self._complete_ts(), self._clock())

    def connected(self) -> None:
        """The stream listens."""
        self.listening = True
        self._connections += 1

    def lost(self, reason: str) -> None:
        """The stream tells nothing any more."""
        self.listening = False
        self._interruptions.begin(reason, self._complete_ts(), self._clock())

    def doubtful(self, why: str, update: Content | None) -> None:
        """Something was lost inside a healthy connection; the next round says what."""
        self._doubts.append((why, update))

    def asked(self) -> None:
        """Somebody wants to know: the next round has an audit in any case."""
        self._asked = True

    # -- rounds

    def begin(self, api: TradingApi) -> Begun:
        """A round begins: gaps are over where the stream listens by now."""
        ended, connection = self._interruptions.ended, self._connections
        if not self.listening:
            return Begun(0, False, None, lambda: ended)
        # What was before this connection cannot come by it: its first round waits for nothing.
        patient = self._compared == connection
        ending = asyncio.create_task(self._end(api)) if self._interruptions.lasting else None

        def names() -> frozenset[str]:
            same = self.listening and connection == self._connections
            return self._interruptions.ended if same else ended

        return Begun(connection, patient, ending, names)

    async def _end(self, api: TradingApi) -> None:
        connection = self._connections
        try:
            until_ts = await api.clock()
            self._skew = until_ts - self._clock()
        except RestError as error:
            _log.info("the broker's clock is not known", reason=str(error))
            until_ts = max(self._clock(), self._memory.newest_ts or 0)
        if self.listening and connection == self._connections:
            self._interruptions.over(until_ts, self._clock())

    async def conclude(self, found: Found, begun: Begun, asked: int, *, opening: bool) -> bool:
        """A round is over; whether another should confirm soon what it repaired."""
        ended = await begun.wait()
        doubts, self._doubts = self._doubts, []
        self._compared = begun.connection
        repair = Repair(found.known, found.names, found.moving)
        if self._interruptions.lasting or ended:
            self._interruptions.repaired(repair, ended, self._clock())
            lost = False
        else:
            lost = not opening and self._lost_in_silence(found, doubts)
        self._audit(found, asked, opening)
        self.savings.count()
        return lost

    def _lost_in_silence(self, found: Found, doubts: list[tuple[str, Content | None]]) -> bool:
        now = self._clock()
        if found.lost:
            first, last = found.since, max(c["ts"] for c in found.lost)
            streamed = self._streamed_ts()
            if self.listening and all(c["ts"] > (streamed or 0) for c in found.lost):
                # Nothing newer came by the stream: it may tell nothing at all.
                _log.warning("the stream is silent while REST has news: connecting again", feed=self._feed)
                self._interruptions.begin(STALL, first, now)
                self._interruptions.repaired(Repair(found.known, found.names), frozenset(), now)
                self.break_off()
                return False
            repair = Repair(_only(found), found.names, found.unsaid + _unsaid(doubts))
            self._interruptions.silent(AUDIT, first, last, repair, now)
            return True
        for why, update in doubts:
            if why == UNTOLD_BEGINNING and update is not None:
                first = update["ts"] if update["submitted_ts"] is None else update["submitted_ts"]
                self._interruptions.silent(
                    AUDIT, min(first, update["ts"]), update["ts"], Repair(moving=1), now
                )
        return False

    # -- audits

    def _audit(self, found: Found, asked: int, opening: bool) -> None:
        now = self._clock()
        if self._polled and not self._asked and now - self._audited_ts < self._every_ns:
            return  # nothing was compared but REST with itself; so often is enough to say what is held
        self._asked = False
        self._audited_ts = now
        differing = sorted({*found.differing, *_symbols(found)})
        held = len(found.known) - len(found.names & found.known.keys())
        ACCOUNT_ROUNDS.labels("differing" if differing else "equal").inc()
        if found.differing:
            _log.warning("positions are not what their fills leave", feed=self._feed, symbols=found.differing)
        ts = self._broker_now(asked)
        minute = ts - ts % MINUTE_NS
        self._write_audit(
            {
                "feed": self._feed,
                "channel": CHANNEL,
                "ts": minute,
                "symbols": [EVERY],
                "differing": differing,
                "expected": len(found.known),
                "held": held,
                "sampled": False,
                "audited_ts": now,
                "detail": self._detail(found, opening),
                "received_ts": asked,
                "source": "rest",
                "owner_epoch": self._epoch,
                "event_id": audit_id(self._feed, CHANNEL, minute, now),
            }
        )

    def _detail(self, found: Found, opening: bool) -> str:
        fills = sum(isinstance(n, tuple) and len(n) == 2 for n in found.known)
        what = (
            f"{fills} fills, {len(found.known) - fills} ends and beginnings of orders, "
            f"{found.open_orders} open orders, {found.positions} positions"
        )
        how = "taken as the opening balance" if opening else "compared with the log"
        if self._polled and not opening:
            how = "looked up, since there is no stream"
        return f"{what} {how}; {len(found.told)} events were looked up; {self.savings}"

    def _broker_now(self, asked: int) -> int:
        """The broker's clock: a simulated market's may be years behind ours."""
        newest = self._memory.newest_ts
        if self._skew is not None and newest is not None and abs(self._skew) > 24 * 60 * MINUTE_NS:
            return newest
        return asked + (self._skew or 0)

    def _complete_ts(self) -> int:
        """Up to when the log is complete, by the broker's clock: its newest event."""
        newest = self._memory.newest_ts
        return self._broker_now(self._clock()) if newest is None else newest


def _only(found: Found) -> dict[Hashable, int]:
    lost = {name_of(c) for c in found.lost}
    return {name: ts for name, ts in found.known.items() if name in lost}


def _unsaid(doubts: list[tuple[str, Content | None]]) -> int:
    return sum(why == UNTOLD_BEGINNING for why, _ in doubts)


def _symbols(found: Found) -> set[str]:
    """Symbols of what was lost; a multi-leg order has several."""
    legs = {leg["symbol"] for c in found.lost for leg in c["legs"]}
    return {c["symbol"] for c in found.lost if c["symbol"]} | legs
