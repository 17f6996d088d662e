"""One venue: a tape with its market, ledger, sockets and clock; and how it goes on after a kill."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.data_socket import DataSocket
from simulator.driver import Driver
from simulator.history import History, Place
from simulator.hub import Hub
from simulator.interest import Interest
from simulator.latest import VenuePrices
from simulator.ledger import Ledger
from simulator.market import ASIDE, Market, bar_parts, pass_over, restore
from simulator.options import GIB, Rate, SimulatorOptions
from simulator.position import PositionFile, resume_point
from simulator.skips import Skips
from simulator.venue_kinds import VenueKind
from simulator.wire import Message, Streams
from tidewire.errors import TidewireError
from tidewire.log import get

log = get("simulator")

_BARS = ("bars", "updatedBars", "dailyBars")


@dataclass(frozen=True)
class Tape:
    """What a venue plays."""

    identity: str
    """Changes when the tape would be another one."""
    read: Callable[[Streams, int], Iterator[list[Message]]]
    """The messages; a tape that cannot be replayed goes on behind so many messages."""
    replayable: bool
    """Read again, it gives the same messages."""
    finite: bool
    pace: Rate
    empty: bool = False


class Venue:
    """One venue of a simulator."""

    def __init__(self, kind: VenueKind, options: SimulatorOptions, folder: Path, tape: Tape) -> None:
        """Open the ledger in `folder` and find out how far the tape has got.

        Raises:
            TidewireError: the folder cannot be written.
        """
        self.kind = kind
        self.tape = tape
        self.streams = Streams()
        self.ledger = Ledger(folder / "ledger", options.ledger_file_bytes, options.ledger_bytes)
        aside_bytes = min(options.ledger_bytes, GIB)
        self._aside = Ledger(folder / "unpublished", options.ledger_file_bytes, aside_bytes)
        self.history = History(options.history_messages)
        self.prices = VenuePrices(self.streams)
        self._position = PositionFile(folder)
        self.market = Market(
            self.streams,
            self.ledger,
            self.history,
            self._position,
            options.frame_messages,
            kind,
            self._aside,
        )
        self.market.observers.append(self.prices)
        retained, self._passed, finished = self._recover(folder, options.fresh)
        interest = Interest(retained)
        skips = Skips(kind.name, set(kind.channels.values()))
        self.hub = Hub(options, self.streams, interest, self._remember_interest, time.monotonic, skips)
        if not options.wait_for_subscriber:
            self.hub.subscribed.set()
        self.driver = Driver(self.market, self.hub, self._blocks, tape.pace)
        self._finished = finished or tape.empty
        if self._finished:
            self.driver.already_finished()
        self.socket = DataSocket(self.hub, options)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None] | None:
        """Run the tape once somebody subscribes; None when it is at its end already."""
        if not self._finished:
            self._task = asyncio.create_task(self.driver.run())
        return self._task

    async def stop(self) -> None:
        """Stop the tape and say goodbye to the sockets."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for client in self.hub.clients:
            client.finish(1001)

    def close(self) -> None:
        """Close the files."""
        self.ledger.close()
        self._aside.close()
        self._position.close()

    def read(self, place: Place) -> dict[str, Any] | None:
        """A message that has passed, published or not; None when its file has been dropped."""
        if place.file < ASIDE:
            return self.ledger.read(place)
        return self._aside.read(place._replace(file=place.file - ASIDE))

    def published(self) -> dict[str, int]:
        """Messages published, by kind; `bars` are b, u and d together."""
        counts = dict(self.ledger.counts)
        if set(self.kind.channels) == {"n"}:
            return {"news": counts.get("news", 0)}
        bars = sum(counts.pop(channel, 0) for channel in _BARS)
        return {"trades": counts.pop("trades", 0), "quotes": counts.pop("quotes", 0), "bars": bars, **counts}

    def status(self) -> dict[str, Any]:
        """The state of this venue's run."""
        return {
            "state": self.driver.state,
            "published": self.published(),
            "elapsed_seconds": round(self.driver.elapsed, 3),
            "clients": sum(client.session.authenticated for client in self.hub.clients),
            "tape_messages": self.market.tape,
            "tape_time_ns": self.market.clock,
            "subscriptions": self.hub.interest.all(),
        }

    def _recover(self, folder: Path, fresh: bool) -> tuple[dict[str, frozenset[str]], int, bool]:
        """(subscriptions still in force, tape messages to pass over, tape finished)."""
        folder.mkdir(parents=True, exist_ok=True)
        known, subscriptions = self._position.load_run()
        anew = fresh or known != self.tape.identity
        if anew and known and not fresh:
            log.warning("another tape than last time: the ledger starts anew", venue=self.kind.name)
        try:
            self.ledger.open(fresh=anew)
            self._aside.open(fresh=anew)
            intent = None if anew else self._position.load()
            self._position.open(fresh=anew)
            self._position.save_run(self.tape.identity, {} if anew else subscriptions)
        except OSError as error:
            raise TidewireError(f"cannot write the ledger in {folder}: {error.strerror}") from error
        passed, cut = resume_point(intent, self.ledger.end)
        if cut is not None:
            self.ledger.cut(self.ledger.end[0], cut)
        recovered = restore(self.ledger, self._aside, self.history, self.kind)
        if self.tape.replayable:
            deque(recovered, maxlen=0)  # the bars are known again once the tape has passed
        else:
            self.market.pass_over(list(bar_parts(recovered, self.streams, self.kind)))
        self.market.tape = passed
        finished = intent is not None and intent.finished and cut is None
        retained = {} if anew else {c: frozenset(s) for c, s in subscriptions.items()}
        return retained, passed if self.tape.replayable else 0, finished

    def _blocks(self) -> Iterator[list[Message]]:
        blocks = self.tape.read(self.streams, self.market.tape)
        if not self._passed:
            return blocks
        self.market.tape = 0
        return pass_over(self.market, blocks, self._passed)

    def _remember_interest(self, interest: Interest) -> None:
        self._position.save_run(self.tape.identity, interest.all())
