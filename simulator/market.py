"""The market's clock: takes messages off the tape, makes the bars, writes the ledger, hands out frames.

Nothing here waits. A batch is published whole: bars woven in, intent noted, ledger written, history extended;
only then may a socket have it. What passes while nobody is subscribed to it is not published; it goes aside,
so that REST has it all the same, as Alpaca's has.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from simulator.bar_book import BarBook
from simulator.bars import BarMessage
from simulator.history import History
from simulator.ledger import Ledger
from simulator.position import Intent, PositionFile
from simulator.venue_kinds import STOCKS, VenueKind
from simulator.wire import CHANNELS, OTHER, Message, Stream, Streams, frame, pack
from tidewire.metrics import SIMULATOR_PUBLISHED

_arrival = itemgetter(0)
ASIDE = 1 << 31
"""Places in the ledger of unpublished messages have file numbers from here on."""


class Frame(NamedTuple):
    """Published messages and the msgpack array of them all."""

    messages: Sequence[Message]
    data: bytes


class Observer(Protocol):
    """Sees every message that passes, subscribed or not, bars included. It must be quick and never wait."""

    def observe(self, messages: Sequence[Message]) -> None:
        """New messages, in order; those that are published are in the ledger, and on no socket yet."""
        ...

    def recall(self, messages: Sequence[Message]) -> None:
        """Messages that had passed before a restart."""
        ...


class Market:
    """One run of a tape. `tape` counts its messages that have passed, published or not."""

    def __init__(
        self,
        streams: Streams,
        ledger: Ledger,
        history: History,
        position: PositionFile,
        frame_messages: int = 200,
        kind: VenueKind = STOCKS,
        aside: Ledger | None = None,
    ) -> None:
        self._aside = aside
        self._kind = kind
        self._streams = streams
        self._ledger = ledger
        self._history = history
        self._position = position
        self._frame_messages = frame_messages
        self._bars = kind.bars()
        self.book = BarBook(kind.day_start)
        self.observers: list[Observer] = []
        self.rewrite: Callable[[list[Message]], list[Message]] = lambda messages: messages
        """What becomes of messages of the tape before anything else; by default nothing."""
        self.tape = 0
        self.clock = 0
        """Arrival time of the newest message, ns since 1970 UTC."""

    def publish(self, batch: Sequence[Message]) -> list[Frame]:
        """Take messages off the tape, in order."""
        return self._publish(self._weave(self.rewrite(list(batch))), self.tape + len(batch))

    def finish(self) -> list[Frame]:
        """The tape has ended: publish the bars that are still open."""
        rest = [self._bar_message(self.clock, bar) for bar in self._bars.finish()]
        return self._publish(rest, self.tape, finished=True)

    def insert(self, messages: list[Message]) -> list[Frame]:
        """Publish messages that are not on the tape; a restart does not repeat them."""
        return self._publish(messages, self.tape)

    def pass_over(self, batch: Sequence[Message]) -> None:
        """Take messages that were published before a restart, only to know the bars again."""
        woven = self._weave(self.rewrite(list(batch)))
        for observer in self.observers:
            observer.recall(woven)
        self.tape += len(batch)

    def _publish(self, passed: list[Message], tape_after: int, *, finished: bool = False) -> list[Frame]:
        out = [message for message in passed if message[2].on]
        size = self._frame_messages
        parts = [out[i : i + size] for i in range(0, len(out), size)]
        frames = [Frame(part, frame([message[3] for message in part])) for part in parts]
        self._ledger.rotate_if_full()
        file, start = self._ledger.end
        stop = start + sum(4 + len(f.data) for f in frames)
        self._position.write(Intent(self.tape, tape_after, file, start, stop, finished))
        places = self._ledger.append([f.data for f in frames]) if frames else []
        for published, place in zip(frames, places, strict=True):
            self._count(self._remember(published.messages, file, place))
        if self._aside is not None and len(out) < len(passed):
            self._put_aside(self._aside, [m for m in passed if m[2].historic and not m[2].on])
        self.tape = tape_after
        for observer in self.observers:
            observer.observe(passed)
        return frames

    def _put_aside(self, aside: Ledger, messages: list[Message]) -> None:
        size = self._frame_messages
        for i in range(0, len(messages), size):
            part = messages[i : i + size]
            aside.rotate_if_full()
            [place] = aside.append([frame([message[3] for message in part])])
            self._remember(part, ASIDE + aside.end[0], place)

    def _count(self, streams: Mapping[Stream, int]) -> None:
        for stream, count in streams.items():
            self._ledger.counts[stream.channel] += count
            SIMULATOR_PUBLISHED.labels(self._kind.metric(stream.channel)).inc(count)

    def _remember(self, messages: Sequence[Message], file: int, offset: int) -> Mapping[Stream, int]:
        """Note where messages lie; returns how many there are of each stream."""
        streams = Counter([message[2] for message in messages])
        numbers = {stream: self._history.series_number(stream.channel, stream.symbol) for stream in streams}
        sizes = [len(message[3]) for message in messages]
        begin = offset + (1 if len(messages) < 16 else 3)
        self._history.append(
            [message[1] for message in messages],
            [numbers[message[2]] for message in messages],
            file,
            list(accumulate(sizes[:-1], initial=begin)),
            sizes,
        )
        return streams

    def _weave(self, batch: Sequence[Message]) -> list[Message]:
        """The batch with the bars that leave meanwhile, in order."""
        if not batch:
            return []
        if not self.clock:
            self._bars.start(batch[0][0])
        self.clock = batch[-1][0]
        if self.clock < self._bars.mark:
            self._bars.add(batch)
            return list(batch)
        woven: list[Message] = []
        begin = 0
        while begin < len(batch):
            if self._bars.idle:
                self._bars.skip_to(batch[begin][0])
            end = bisect_left(batch, self._bars.mark, lo=begin, key=_arrival)
            self._bars.add(batch[begin:end])
            woven += batch[begin:end]
            if end < len(batch):
                mark = self._bars.mark
                woven += [self._bar_message(mark, bar) for bar in self._bars.pass_mark()]
            begin = end
        return woven

    def _bar_message(self, arrival: int, bar: BarMessage) -> Message:
        start, fields = bar
        self.book.add(start, fields)
        stream = self._streams.get(CHANNELS[fields["T"]], fields["S"])
        return arrival, start, stream, pack(fields), None


def restore(
    ledger: Ledger, aside: Ledger, history: History, kind: VenueKind = STOCKS
) -> Iterator[dict[str, Any]]:
    """Rebuild counts and history from the ledgers' files after a restart; yields every message, by time."""

    def recovered(source: Ledger, first: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for place, message in source.recover():
            channel = kind.channels.get(message.get("T", ""), OTHER)
            source.counts[channel] += 1
            symbol, ns = kind.locate(message)
            series = history.series_number(channel, symbol)
            history.append([ns], [series], first + place.file, [place.offset], [place.size])
            yield ns, message

    ledger.counts.update(ledger.counts_before)
    merged = heapq.merge(recovered(ledger, 0), recovered(aside, ASIDE), key=itemgetter(0))
    return (message for _, message in merged)


def bar_parts(
    messages: Iterable[dict[str, Any]], streams: Streams, kind: VenueKind = STOCKS
) -> Iterator[Message]:
    """The recovered messages that bars need; a live tape cannot be read again."""
    clock = 0
    for message in messages:
        if (part := kind.part(message)) is not None:
            symbol, ns = kind.locate(message)
            clock = max(clock, ns)
            yield clock, ns, streams.get(kind.channels[message["T"]], symbol), pack(message), part


def pass_over(market: Market, blocks: Iterator[list[Message]], count: int) -> Iterator[list[Message]]:
    """Let `count` messages of the tape pass unpublished; the rest follows as usual."""
    for block in blocks:
        if count >= len(block):
            market.pass_over(block)
            count -= len(block)
            continue
        market.pass_over(block[:count])
        yield block[count:]
        count = 0
