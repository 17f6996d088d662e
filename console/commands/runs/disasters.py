"""Disasters on demand while a demo runs: what a key breaks, and what is said of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp

from tidewire.errors import ConfigError, TidewireError

QUIT, KILL_KAFKA, KILL_SWITCH = "q", "k", "x"
_TIMEOUT = aiohttp.ClientTimeout(total=5)
_SAID = 3


@dataclass(frozen=True, slots=True)
class Disaster:
    """One key: what it is called, and what the simulated Alpaca is asked for (None: it is none of its)."""

    name: str
    label: str
    done: str
    unhurt: str = ""
    """What is said instead when no socket was there to be hit; empty: it needs none."""
    fault: Mapping[str, Any] = field(default_factory=dict)


_NO_STOCKS = "no stock socket is open just now: nothing was broken"
DISASTERS: Mapping[str, Disaster] = {
    "c": Disaster("cut", "cut stocks", "the stock socket was cut", _NO_STOCKS, {"kind": "drop"}),
    "m": Disaster(
        "mute", "mute them", "the stock socket is mute: open, and nothing comes", _NO_STOCKS, {"kind": "mute"}
    ),
    "s": Disaster(
        "skip",
        "drop 20 trades",
        "20 trades are dropped in silence; the next audit of their minute finds them",
        fault={"kind": "skip", "count": 20, "channels": ["trades"]},
    ),
    "t": Disaster(
        "trading",
        "cut trading",
        "the trading streams were cut",
        "no trading stream is open just now: nothing was broken",
        {"kind": "drop", "venue": "trading"},
    ),
    KILL_SWITCH: Disaster("kill", "kill switch", ""),
    KILL_KAFKA: Disaster("kafka", "kill Kafka", "Kafka was killed (-9); it is started again"),
}


def parse(text: str) -> list[tuple[float, str]]:
    """Keys by seconds, of `cut@20,kafka@40`.

    Raises:
        ConfigError: not such a list.
    """
    names = {disaster.name: key for key, disaster in DISASTERS.items()}
    found, wrong = [], []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, at, seconds = part.partition("@")
        if name in names and at and seconds.replace(".", "", 1).isdecimal():
            found.append((float(seconds), names[name]))
        else:
            wrong.append(part)
    if wrong:
        raise ConfigError(
            [f"--disaster: {part} is not NAME@SECONDS with NAME one of {', '.join(names)}" for part in wrong]
        )
    return sorted(found)


class Disasters:
    """What keys do in this run. `kill_kafka` (blocking) is None where Kafka is not this run's own;
    `kill_switch` turns the switch to the other side and says so, None where there are no orders.

    `said` are the last lines of what was done, each with its time; `skipping` whether trades were dropped.
    """

    def __init__(
        self,
        simulator_url: str,
        kill_kafka: Callable[[], object] | None,
        quit_: Callable[[], None],
        kill_switch: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._url = simulator_url
        self._kill_kafka = kill_kafka
        self._kill_switch = kill_switch
        self._turning = asyncio.Lock()
        self._quit = quit_
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: deque[str] = deque(maxlen=_SAID)
        self.skipping = False

    @property
    def said(self) -> Sequence[str]:
        """What was done, the newest last."""
        return tuple(self._said)

    @property
    def keys(self) -> str:
        """The line that lists the keys."""
        offered = [(key, d.label) for key, d in DISASTERS.items() if self._offers(key)]
        return "  ".join(f"{key} {label}" for key, label in (*offered, (QUIT, "quit")))

    def press(self, key: str) -> None:
        """Do what the key stands for, soon; other keys do nothing. Call it in the event loop."""
        key = key.lower()
        if key == QUIT:
            self._quit()
        elif key in DISASTERS and self._offers(key):
            task = asyncio.get_running_loop().create_task(self._do(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def scheduled(self, times: Sequence[tuple[float, str]]) -> None:
        """Press keys at their times, in seconds from now."""
        began = time.monotonic()
        for seconds, key in times:
            await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
            self.press(key)

    async def skipped(self) -> list[tuple[str, int]]:
        """Symbol and event time (ns) of every trade that was dropped in silence.

        Raises:
            aiohttp.ClientError, TimeoutError: the simulator does not answer.
        """
        url = f"{self._url}/sim/skipped?venue=stocks"
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as http, http.get(url) as answer:
            return [(entry["symbol"], int(entry["ts"])) for entry in await answer.json()]

    def say(self, text: str) -> None:
        """Add a line with the time."""
        self._said.append(f"{datetime.now():%H:%M:%S}  {text}")

    def _offers(self, key: str) -> bool:
        owned = {KILL_KAFKA: self._kill_kafka, KILL_SWITCH: self._kill_switch}
        return owned.get(key, self) is not None

    async def _do(self, key: str) -> None:
        disaster = DISASTERS[key]
        try:
            if key == KILL_SWITCH and self._kill_switch is not None:
                await self._turn(self._kill_switch)
                return
            if disaster.fault:
                hit = await self._inflict(disaster.fault)
                if disaster.unhurt and not hit:
                    self.say(disaster.unhurt)
                    return
            elif self._kill_kafka is not None:
                await asyncio.to_thread(self._kill_kafka)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.say(f"{disaster.label}: the simulator does not answer ({error or type(error).__name__})")
            return
        self.skipping |= key == "s"
        self.say(disaster.done)

    async def _turn(self, kill_switch: Callable[[], Awaitable[str]]) -> None:
        async with self._turning:  # a second press turns what the first one has left
            try:
                self.say(await kill_switch())
            except TidewireError as error:
                self.say(f"kill switch: {error}")

    async def _inflict(self, fault: Mapping[str, Any]) -> int:
        """Ask the simulator; returns how many sockets it hit."""
        url, body = f"{self._url}/sim/faults", dict(fault)
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as http, http.post(url, json=body) as answer:
            answer.raise_for_status()
            return int((await answer.json())["sockets"])
