"""Processors that join, leave and are killed, a sink and a broker that are killed, while records come.

Each step lets another part of the plan go. Nothing waits for a time, except for the moment of a fault.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.catalogue import STOCK_TRADES
from schemas.codec import load_codec
from tests.chaos import processing_plan, processing_poison, processing_verdict
from tests.chaos.processing_feed import Feed
from tests.chaos.processing_line import Ends, Line, reached
from tests.chaos.processing_plan import Lane, Plan
from tests.chaos.processing_service import Service
from tests.chaos.processing_verdict import Verdict
from tidewire import config

FLOOD = 300
_TAIL = 0.95
"""The share that is sent while things are broken; the rest is counted record by record."""
_MOST_WORKERS = 4
_COUNT_SECONDS = 20.0
_POISON_EXIT = 7

Tell = Callable[[str], None]
Handled = Counter[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Step:
    """`kind` is workers, kill, sink or kafka. A step of workers: so many leave and join, `hasty`: and nobody
    waits until those that joined are ready.
    """

    kind: str
    joins: int = 0
    leaves: int = 0
    hasty: bool = False


@dataclass
class Outcome:
    """What a run did and found. `recovery`: kind of kill -> the longest time, in seconds, until all that came
    meanwhile had been handled.
    """

    ran: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, float] = field(default_factory=dict)
    crashed: list[str] = field(default_factory=list)
    flood: list[str] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    seconds: float = 0.0

    def numbers(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        verdict = {**vars(self.verdict), "seen": dict(self.verdict.seen)}
        return {**vars(self), "ran": dict(self.ran), "verdict": verdict}

    def did(self, what: str, took: float | None = None) -> None:
        """Note one more of these."""
        self.ran[what] += 1
        if took is not None:
            self.recovery[what] = round(max(took, self.recovery.get(what, 0.0)), 1)


def steps(seed: int, changes: int, kills: int, sink_kills: int = 0, kafka_kills: int = 0) -> list[Step]:
    """So many joins and leaves together, of 1 to 4 workers, beginning with 2; and the kills among them."""
    rng = random.Random(f"steps-{seed}")
    rounds: list[Step] = []
    workers = 2
    while changes > 0:
        leaves, joins = rng.randint(0, 2), rng.randint(0, 2)
        possible = leaves <= workers and 1 <= workers - leaves + joins <= _MOST_WORKERS
        if not possible or not 1 <= leaves + joins <= changes:
            continue
        workers, changes = workers - leaves + joins, changes - leaves - joins
        rounds.append(Step("workers", joins, leaves, rng.random() < 0.3))
    others = [Step("kill")] * kills + [Step("sink")] * sink_kills + [Step("kafka")] * kafka_kills
    rng.shuffle(others)
    for number, step in enumerate(others):
        rounds.insert((number + 1) * (len(rounds) + 1) // (len(others) + 1), step)
    return rounds


def play(
    home: Path,
    folders: list[Path],
    chosen: list[Step],
    seed: int,
    tell: Tell,
    rate: int = 2_000,
    seconds: float = float("inf"),
) -> Outcome:
    """One run, from an empty log to the verdict. After `seconds` nobody joins or leaves any more."""
    codec = load_codec(config.load(_env_file=None))
    plan = processing_plan.make(folders, seed, codec.encoder)
    tell(f"{plan.records} records in {len(plan.batches)} batches")
    run = _Run(Line(home), plan, seed, tell)
    try:
        return asyncio.run(run.play(folders, chosen, rate, seconds))
    finally:
        run.line.down()


class _Run:
    def __init__(self, line: Line, plan: Plan, seed: int, tell: Tell) -> None:
        self.line, self.plan, self.tell = line, plan, tell
        self.outcome = Outcome()
        self._rng = random.Random(f"run-{seed}")
        self._play = {"workers": self._workers, "kill": self._kill, "sink": self._sink, "kafka": self._kafka}

    async def play(self, folders: list[Path], chosen: list[Step], rate: int, seconds: float) -> Outcome:
        began = time.monotonic()
        await self.line.up()
        self.feed = Feed(self.line.settings, self.plan, rate)
        feeding = asyncio.create_task(self.feed.run())
        try:
            for _ in range(2):
                self.line.start_worker()
            self.line.start_sink()
            for number, step in enumerate(chosen, start=1):
                if time.monotonic() - began > seconds and step.kind == "workers":
                    continue
                self.feed.allow(_TAIL * number / len(chosen))
                await self._play[step.kind](step)
                assert not feeding.done(), feeding.exception()
            self.feed.allow(_TAIL)
            await self._counted()
            await self._flooded()
        finally:
            feeding.cancel()
            await asyncio.wait({feeding})
        self.outcome.crashed = self.line.crashed
        self.tell("comparing with the files")
        self.outcome.verdict = await asyncio.to_thread(
            processing_verdict.judge, self.line, self.plan, folders
        )
        self.outcome.seconds = round(time.monotonic() - began, 1)
        return self.outcome

    # -- steps

    async def _workers(self, step: Step) -> None:
        line = self.line
        leaving = self._rng.sample(line.workers, min(step.leaves, len(line.workers)))
        joined = [line.start_worker() for _ in range(step.joins)]
        await asyncio.sleep(self._rng.uniform(0, 1.5))  # the moment of leaving, not a wait for something
        await asyncio.gather(*(line.leave(worker) for worker in leaving))
        if not step.hasty:
            for worker in joined:
                await line.until(lambda worker=worker: line.ready(worker), f"readiness of {worker.name}")  # type: ignore[misc]
        self.outcome.ran.update({"join": len(joined), "leave": len(leaving)})
        changes = self.outcome.ran["join"] + self.outcome.ran["leave"]
        self.tell(f"{changes} joins and leaves, {len(line.workers)} workers{', not awaited' * step.hasty}")

    async def _kill(self, _: Step) -> None:
        await self._amid()
        worker = self._rng.choice(self.line.workers)
        self.line.workers.remove(worker)
        worker.kill()
        self.line.start_worker()
        await self._recovered("kill -9 of a processor", self.line.committed)

    async def _sink(self, _: Step) -> None:
        await self._amid()
        assert self.line.sink is not None
        self.line.sink.kill()
        self.line.start_sink()
        await self._recovered("kill -9 of the sink", self.line.stored)

    async def _kafka(self, _: Step) -> None:
        await self._amid()
        await asyncio.to_thread(self.line.stack.brokers[0].kill)
        starting = asyncio.create_task(asyncio.to_thread(self.line.stack.start_kafka))
        await self._recovered("kill -9 of Kafka", self.line.committed)
        await starting

    async def _amid(self) -> None:
        """Wait until some of the step's records have come and others are still to come."""
        due = self._rng.uniform(0.2, 0.8) * self.feed.left
        await self.line.until(lambda: self.feed.left <= due, "records")

    async def _recovered(self, what: str, done: Callable[[], Ends]) -> None:
        began = time.monotonic()
        await self.line.until(lambda: self.feed.idle, "end of publishing")
        wanted = self.feed.ends()
        await self.line.until(lambda: reached(done(), wanted), f"recovery after {what}")
        took = time.monotonic() - began
        self.outcome.did(what, took)
        self.tell(f"{what}: all that came is handled after {took:.1f} s")

    # -- the end

    async def _all_done(self) -> None:
        line = self.line
        await line.until(lambda: self.feed.idle, "end of publishing", 600)
        wanted = self.feed.ends()
        await line.until(lambda: reached(line.committed(), wanted), "end of folding")
        await line.until(lambda: reached(line.stored(), wanted), "end of storing")

    async def _counted(self) -> None:
        """One processor and one sink, begun anew, handle the rest: their own counts must add up."""
        line = self.line
        await self._all_done()
        old = [*line.workers, *([line.sink] if line.sink else [])]
        line.workers.clear()
        line.sink = None
        await asyncio.gather(*(line.stop(service) for service in old))
        services = [line.start_worker(), line.start_sink()]
        for service in services:
            await line.until(lambda service=service: line.ready(service), f"readiness of {service.name}")  # type: ignore[misc]
        before = {service.name: service.handled() for service in services}
        log = self.feed.ends()
        self.feed.allow(1.0)
        await self._all_done()
        for service in services:
            # Counted just after it is committed: seen in Kafka and PostgreSQL, it may not be counted yet.
            deadline = time.monotonic() + _COUNT_SECONDS
            while wrong := self._uncounted(service, await asyncio.to_thread(service.handled), before, log):
                if time.monotonic() > deadline:
                    self.outcome.uncounted += wrong
                    break
                await asyncio.sleep(0.2)
        self.tell("the counts of the last part are compared")

    def _uncounted(
        self, service: Service, now: Handled, before: Mapping[str, Handled], log: Ends
    ) -> list[str]:
        """Topics of which it has not counted as many records as came."""
        found = []
        for topic in processing_plan.TOPICS:
            real = self.line.settings.tidewire_topic_prefix + topic
            counted = now - before[service.name]
            parts = {what: n for (name, what), n in counted.items() if name == real and what != "late"}
            came = sum(n - log[key] for key, n in self.feed.ends().items() if key[0] == topic)
            if sum(parts.values()) != came:
                found.append(f"{service.name}: {parts} of {came} records of {topic}")
        return found

    async def _flooded(self) -> None:
        """Nothing but poison in one partition: both services must stop, and pass nothing without a letter."""
        lane = max(
            (lane for lane in self.plan.lanes if lane.topic == STOCK_TRADES), key=lambda x: len(x.records)
        )
        start = len(lane.records)
        _flood(lane)
        services = {"processor": self.line.workers[0], "sink": self.line.sink}
        self.line.workers, self.line.sink = [], None  # nobody starts them again
        await self.feed.send(lane, start)
        for stage, service in services.items():
            assert service is not None
            await self.line.until(service.ended, f"end of the {stage} in a flood of poison")
            if service.process.returncode != _POISON_EXIT:
                self.outcome.flood.append(
                    f"{service.name} ended with {service.process.returncode}: {service.log()}"
                )
            last = service.log().strip().splitlines()[-1]
            if not last.startswith(f"tidewire {stage}: ") or lane.topic not in last:
                self.outcome.flood.append(f"{service.name} says: {last}")
        for stage, ends in {"processor": self.line.committed(), "sink": self.line.stored()}.items():
            self._passed(lane, stage, start, ends)
        self.tell("both services have stopped in the flood of poison")

    def _passed(self, lane: Lane, stage: str, start: int, ends: Ends) -> None:
        """What a service has passed before it stopped must be in dead letters, and be less than its limit."""
        end = ends[lane.topic, lane.partition]
        self.outcome.ran[f"poison passed by the {stage}"] = end - start
        if end - start > processing_poison.LIMIT:
            self.outcome.flood.append(f"{stage} has passed {end - start} poisoned records in a row")
        for offset in range(start, len(lane.records)):
            key, value, _ = lane.records[offset]
            letters = self.plan.letters[stage] if offset < end else self.plan.flood
            letters[lane.topic, lane.partition, offset] = processing_poison.Letter(key, value, "")
        for topic in processing_plan.TOPICS:
            self.plan.passed[stage, topic] = sum(n for key, n in ends.items() if key[0] == topic)


def _flood(lane: Lane) -> None:
    key, value, _ = next(record for record in lane.records if record[0] and record[1])
    assert key is not None
    assert value is not None
    for number in range(FLOOD):
        kind = processing_poison.BYTES[number % len(processing_poison.BYTES)]
        lane.add(*kind.damage(key, value))
