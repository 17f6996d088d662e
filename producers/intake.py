"""Frames in, records out: the path that every message takes, without sockets and without Kafka.

Every message ends in exactly one way: published, duplicate, or dead-lettered with its own bytes. Control
messages are given back to the caller. Where records go is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from statistics import median_low
from typing import Protocol

from producers.channel import Add, Encoder, Message, Whole
from producers.frames import Unreadable, original, unpack
from producers.repeats import Repeats
from tidewire.clock import NS_PER_MS, NS_PER_SECOND
from tidewire.dead_letters import DeadLetter
from tidewire.errors import RecordError
from tidewire.metrics import MESSAGES_DUPLICATE, MESSAGES_RECEIVED

_CONTROL = ("success", "error", "subscription")
_TIMED_BY_START = ("bars", "updatedBars", "dailyBars")
_LEADS, _FEWEST_LEADS = 15, 3
_UNKNOWN = "unknown"  # messages of an unknown type, and unreadable bytes (one message each)


class Log(Protocol):
    """Where records and dead letters go; `publisher.Publisher` is one."""

    def adder(self, topic: str) -> Add:
        """A function that appends records to a topic."""
        ...

    def dead_letter(self, letter: DeadLetter, timestamp_ms: int) -> None:
        """Append one dead letter."""
        ...


class Intake:
    """Handles frames one after the other. `name` gives the real name of a catalogue topic."""

    def __init__(self, feed: str, encoder: Encoder, log: Log, name: Callable[[str], str]) -> None:
        self._encoder, self._log = encoder, log
        self._frames = name(encoder.frames)
        channels = encoder.channels()
        self._topics = {kind: name(channel.topic) for kind, channel in channels.items()}
        self._routes = {
            kind: (channel.encode, log.adder(self._topics[kind])) for kind, channel in channels.items()
        }
        names = {kind: channel.name for kind, channel in channels.items()} | {_UNKNOWN: _UNKNOWN}
        self._times = {kind: (channel.name, channel.time) for kind, channel in channels.items()}
        self.newest: dict[str, int] = {}
        """Channel -> the greatest event time (ns) seen at the end of a frame. It is after the receipt only as
        far as those of most recent frames are: then our clock is behind the exchange's.
        """
        self._leads: deque[int] = deque(maxlen=_LEADS)
        self._repeats = Repeats()
        self._last: Callable[[], Mapping[str, Message]] = dict
        self._received = {kind: MESSAGES_RECEIVED.labels(feed, channel) for kind, channel in names.items()}
        self._duplicates = {kind: MESSAGES_DUPLICATE.labels(feed, channel) for kind, channel in names.items()}

    def frame(self, raw: bytes | str, received_ns: int) -> tuple[int, list[Message]]:
        """Publish what one frame holds; returns the count of its data messages, and its control messages."""
        routes, timestamp = self._routes, received_ns // NS_PER_MS
        self._encoder.frame(received_ns)
        if isinstance(raw, bytes) and (whole := self._encoder.whole(raw)) is not None:
            self._take(raw, whole, timestamp)
            self._last = whole.last
            self._pass(whole.newest(), received_ns)
            return len(whole), []
        control: list[Message] = []
        received: dict[str, int] = {}
        last: dict[str, Message] = {}
        messages = unpack(raw)
        known = self._repeats.known(raw, messages) if isinstance(raw, bytes) else 0
        for index, message in enumerate(messages):
            try:
                kind = message["T"]
                encode, add = routes[kind]
                last[kind] = message
            except (KeyError, TypeError):  # of no known type, or no map at all
                if _is_control(message):
                    control.append(message)
                    continue
                kind = _UNKNOWN
                self._refuse(self._frames, raw, index, message, RecordError(_why_unknown(message)), timestamp)
            else:
                try:
                    record = None if index < known else encode(message)
                except Exception as error:  # whatever it is, it is this message's alone
                    self._refuse(self._topics[kind], raw, index, message, error, timestamp)
                else:
                    if record is None:
                        self._duplicates[kind].inc()
                    else:
                        add(record[0], record[1], timestamp)
            received[kind] = received.get(kind, 0) + 1
        for kind, count in received.items():
            self._received[kind].inc(count)
        if last:
            self._last = lambda: last
            self._pass(self._times_of(last), received_ns)
        return sum(received.values()), control

    @property
    def last(self) -> Mapping[str, Message]:
        """The last message of each type in the newest frame: a sample of what moves."""
        return self._last()

    def _take(self, raw: bytes, whole: Whole, timestamp: int) -> None:
        """Publish a frame that was read at once."""
        counts = whole.counts()
        for kind, count in counts.items():
            self._received[kind].inc(count)
        if self._repeats.seen(raw, len(whole), whole.is_one):
            for kind, count in counts.items():
                self._duplicates[kind].inc(count)
            return
        adders = {kind: self._routes[kind][1] for kind in counts}
        for kind, key, value in whole.records():
            if value is None:
                self._duplicates[kind].inc()
            else:
                adders[kind](key, value, timestamp)

    def _times_of(self, last: Mapping[str, Message]) -> dict[str, int]:
        times = {kind: message.get(self._times[kind][1]) for kind, message in last.items()}
        return {kind: ts for kind, ts in times.items() if type(ts) is int}

    def _pass(self, newest: Mapping[str, int], received_ns: int) -> None:
        lead: int | None = None
        for kind, ts in newest.items():
            channel = self._times[kind][0]
            if channel not in _TIMED_BY_START:
                lead = ts - received_ns if lead is None else max(lead, ts - received_ns)
            if ts > received_ns:  # one time in the future is a mistake, and would hide all that follow
                ts = min(ts, received_ns + NS_PER_SECOND + self._lead())
            if ts > self.newest.get(channel, 0):
                self.newest[channel] = ts
        if lead is not None:
            self._leads.append(lead)

    def _lead(self) -> int:
        """How far (ns) the exchange's clock is ahead of ours, by most of the last frames; 0: it is not."""
        return max(0, median_low(self._leads)) if len(self._leads) >= _FEWEST_LEADS else 0

    def _refuse(
        self, topic: str, raw: bytes | str, index: int, message: object, error: Exception, timestamp: int
    ) -> None:
        value = original(raw, index, message)
        letter = DeadLetter(topic, -1, -1, _key(message), value, "producer", type(error).__name__, str(error))
        self._log.dead_letter(letter, timestamp)


def _is_control(message: object) -> bool:
    return type(message) is dict and message.get("T") in _CONTROL


def _why_unknown(message: object) -> str:
    if isinstance(message, Unreadable):
        return message.reason
    if type(message) is not dict:
        return f"not a message but {type(message).__name__}"
    if "T" not in message:
        return "T is missing"
    return f"unknown message type {message['T']!r:.100}"


def _key(message: object) -> bytes | None:
    symbol = message.get("S") if type(message) is dict else None
    return symbol.encode("utf-8", "surrogateescape") if type(symbol) is str else None
