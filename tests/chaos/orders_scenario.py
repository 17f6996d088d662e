"""Executors that are killed, stopped and woken, a broker that answers badly, servers that die, the switch.

Each part goes on while positions are opened and exits fire; the verdict is over all of it together.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sinks.executor import failpoints
from tests.chaos import orders_evidence, orders_verdict, orders_whole
from tests.chaos.demo_run import TIDEWIRE
from tests.chaos.orders_line import PATIENCE, Line
from tests.chaos.orders_process import ROOT, Process, environment
from tests.chaos.orders_trader import STRATEGY, Trader
from tests.chaos.orders_verdict import Verdict
from tidewire.config import Settings

LATE = 3.0
"""Seconds; longer than orders_fast.py waits for an answer."""
_MANY = 10**9
_REFUSED = 5
"""Intents that must have been refused while the switch was on."""
_IN_HAND = "SELECT intent_id FROM order_intents_ledger WHERE phase IN ('sending', 'unknown', 'open')"
_OWNERS = "SELECT DISTINCT owner FROM executor_owners"
_WAITING = "SELECT count(*) FROM order_results_outbox WHERE published_at IS NULL"
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Part:
    """How much of what. `restarts`: of Kafka and of PostgreSQL, each; `duplicates`: (copies, positions);
    `exits_kills`: kills of the exits service, with rules and prices of their own; `abreast`: how many
    executors there are to be killed, or stopped, at a time; `forked`: not started by their commands."""

    kills: int = 0
    zombies: int = 0
    submits: int = 0
    duplicates: tuple[int, int] = (0, 0)
    restarts: int = 0
    switches: int = 0
    exits_kills: int = 0
    accounts: int = 6
    symbols: int = 5
    partitions: int = 4
    abreast: int = 1
    forked: bool = False


@dataclass
class Outcome:
    """What a part did and found."""

    ran: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    unexplained: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def numbers(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {**vars(self), "ran": dict(self.ran), "verdict": self.verdict.numbers()}


def play(
    home: Path,
    part: Part,
    seed: int,
    tell: Tell,
    borrowed: Settings | None = None,
    seconds: float = float("inf"),
) -> Outcome:
    """One part, from empty servers to the verdict. Half of `seconds` may go into kills, a quarter into
    zombies; what does not fit is left out."""
    symbols = tuple(f"T{n}" for n in range(part.symbols))
    line = Line(
        home, part.accounts, (*symbols, STRATEGY, *orders_whole.SYMBOLS), borrowed,
        partitions=part.partitions, forked=part.forked,
    )  # fmt: skip
    return asyncio.run(_Run(line, part, seed, tell, seconds).play())


class _Run:
    def __init__(self, line: Line, part: Part, seed: int, tell: Tell, seconds: float) -> None:
        self.line, self.part, self.tell = line, part, tell
        self.rng = random.Random(f"orders-{seed}")
        self.trader = Trader(line, seed)
        self.switched: list[tuple[int, int]] = []
        self.outcome = Outcome()
        self._began = self._working = time.monotonic()
        self._seconds = seconds
        self._survivor: Process | None = None

    async def play(self) -> Outcome:
        part = self.part
        try:
            await self.line.up()
            self._working = time.monotonic()
            await self.trader.start()
            self.trader.quota = _MANY
            await self._kills()
            await self._zombies()
            await self._submits()
            await self._duplicates()
            if part.exits_kills:
                self.outcome.unexplained = await self._whole()
            for _ in range(part.switches):
                await self._switch()
            await self._end()
            evidence = await orders_evidence.collect(self.line, self.switched, self.trader.old)
            self.outcome.verdict = await asyncio.to_thread(orders_verdict.judge, evidence)
        finally:
            await self.trader.stop()
            await self.line.down()
        self.outcome.crashed = self.line.crashed
        self.outcome.ran = self.line.ran + self.trader.counts
        self.outcome.ran["positions closed"] = self.trader.closed
        self.outcome.seconds = round(time.monotonic() - self._began, 1)
        return self.outcome

    def _living(self) -> Process:
        """An executor that nobody kills, with a fast clock for the broker's rate limit."""
        if self._survivor is None:
            self._survivor = self.line.start(fast=True)
        return self._survivor

    def _late(self, share: float) -> bool:
        """Whether so much of the time is up, since the servers are."""
        return time.monotonic() - self._working > share * self._seconds

    # -- kills

    async def _kills(self) -> None:
        line, kills = self.line, self.part.kills
        names = [failpoints.NAMES[n % len(failpoints.NAMES)] for n in range(kills)]
        self.rng.shuffle(names)
        hurt = self._restarts(kills)
        dying: list[Process] = []
        while names or dying:
            if self._late(0.5):
                names.clear()
            while names and len(dying) < self.part.abreast:
                dying.append(line.start(f"{names.pop()}:{self.rng.randint(1, 3)}"))
                for restart in hurt.pop(kills - len(names), ()):
                    await restart()
            await line.until(lambda: any(each.ended() for each in dying), "kill", apart_from=dying)
            for process in [each for each in dying if each.ended()]:
                dying.remove(process)
                self._killed(process)

    def _killed(self, process: Process) -> None:
        line = self.line
        line.died(process)
        name, _, _ = process.failpoint.partition(":")
        line.ran[f"kill at {name}"] += 1
        number = sum(count for what, count in line.ran.items() if what.startswith("kill at "))
        if number % 10 == 0 or number == self.part.kills:
            self.tell(f"{number} of {self.part.kills} kills, {self.trader.closed} positions closed")

    def _restarts(self, kills: int) -> dict[int, list[Callable[[], Any]]]:
        """Number of a kill -> servers that die just before it."""
        found: dict[int, list[Callable[[], Any]]] = {}
        for restart in [self.line.kill_kafka, self.line.restart_postgres] * self.part.restarts:
            found.setdefault(self.rng.randint(1, max(kills, 1)), []).append(restart)
        return found

    # -- zombies

    async def _zombies(self) -> None:
        if not self.part.zombies:
            return
        await self.line.ready(self._living())
        woken, wanted = 0, self.part.zombies
        while woken < wanted and not self._late(0.75):
            together = min(self.part.abreast, wanted - woken)
            await self._stopped_and_woken(together)
            woken += together
            self.tell(f"{woken} of {wanted} zombies woken")

    async def _stopped_and_woken(self, count: int) -> None:
        """So many stop just before a POST, another takes over and ends what they had begun; then they wake.

        With another order of its on the way when it stopped, one was stopped under a deadline, and ends.
        """
        line, trader = self.line, self.trader
        zombies = [line.start(f"post.before:{self.rng.randint(1, 3)}:stop", fast=True) for _ in range(count)]
        await line.until(lambda: all(each.stopped() for each in zombies), "stop before a POST")
        deadline = time.monotonic() + PATIENCE
        survivor = (line.settings.tidewire_home / "run" / "executor-0.slot").read_text()  # the first to come
        while await line.rows(_OWNERS) != [(survivor,)]:
            assert time.monotonic() < deadline, "nobody takes over from a process that was stopped"
            await asyncio.sleep(0.1)
        in_hand = {name for (name,) in await line.rows(_IN_HAND)}
        await line.until(lambda: self.failed() or in_hand <= trader.ended.keys(), "end of what was begun")
        for zombie in zombies:
            await self._wake(zombie, zombies)

    async def _wake(self, zombie: Process, zombies: list[Process]) -> None:
        line = self.line
        turns = zombie.turns()
        zombie.wake()
        await line.until(
            lambda: zombie.turns() > turns or zombie.overdue(), "word of the zombie", apart_from=zombies
        )
        line.ran["zombies ended by their deadline"] += zombie.overdue()
        line.processes.remove(zombie)
        zombie.kill()
        line.ran["zombies"] += 1

    # -- bad answers

    async def _submits(self) -> None:
        """Answers late, lost and false after the order was taken, and refusals before; half of all POSTs."""
        line, due = self.line, self.part.submits
        if not due:
            return
        self._living()
        armed = 0
        while armed < due:
            for _ in range(min(20, due - armed)):
                await line.fault(**self._fault())
                armed += 1
            await line.until(lambda: self.failed() or line.faults_left < 5, "submits")
            if armed % 500 == 0 or armed == due:
                self.tell(f"{armed} of {due} bad answers")
        await line.until(lambda: line.faults_left == 0, "submits")
        line.ran["bad answers"] += armed

    def _fault(self) -> dict[str, Any]:
        if self.rng.random() < 0.25:
            code = self.rng.choice((500, 503, 429))
            extra = {"retry_after": 1} if code == 429 else {}
            self.line.ran[f"answers {code} before"] += 1
            return {"kind": "status_http", "code": code, "path": "/v2/orders", "method": "POST", **extra}
        kind = self.rng.choice(("answer_lost", "answer_http", "answer_late"))
        self.line.ran[kind] += 1
        every = self.rng.choice((1, 2, 3))
        return {"kind": kind, "every": every} | ({"seconds": LATE} if kind == "answer_late" else {})

    def failed(self) -> bool:
        """Raises what has ended the trader."""
        return self.trader.failed()

    # -- duplicates

    async def _duplicates(self) -> None:
        copies, positions = self.part.duplicates
        if not positions:
            return
        line, trader = self.line, self.trader
        self._living()
        await trader.settle()
        trader.extras, trader.copies, trader.quota = False, copies, positions
        wanted = trader.closed + positions
        await line.until(
            lambda: self.failed() or trader.closed >= wanted, "closed positions", PATIENCE + positions
        )
        line.ran["positions with duplicates"] += positions
        line.ran["duplicates each"] = copies
        self.tell(f"{positions} positions closed, each exit published {copies} times")
        trader.extras, trader.copies, trader.quota = True, 1, _MANY

    # -- the exits service

    async def _whole(self) -> list[str]:
        self._living()
        return await orders_whole.play(self.line, self.part.exits_kills, self.rng, self.tell)

    # -- the switch

    async def _switch(self) -> None:
        """On under load, and off again: between its confirmation and that, the broker takes nothing."""
        line, trader = self.line, self.trader
        await line.ready(self._living())
        await self._turn("on")
        confirmed = line.lines()
        trader.tied = True
        before = list(trader.ended.values()).count("refused")
        await line.until(
            lambda: self.failed() or list(trader.ended.values()).count("refused") >= before + _REFUSED,
            "refusals by the switch",
        )
        self.switched.append((confirmed, line.lines()))
        await self._turn("off")
        trader.tied = False
        line.ran["switches"] += 1
        self.tell("the switch was on, under load")

    async def _turn(self, way: str) -> None:
        """`tidewire kill on|off`; exit code 0 says that the broker has confirmed it."""
        command = [str(TIDEWIRE), "kill", way]
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment(self.line.settings), cwd=ROOT,
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    # -- the end

    async def _end(self) -> None:
        """One executor ends what is left, and publishes what it has to tell."""
        process = self._living()
        await self.trader.settle()
        waiting = 1
        while waiting:
            waiting = sum(count for (count,) in await self.line.rows(_WAITING))
            await asyncio.sleep(0.1)
        await self.line.stop(process)
