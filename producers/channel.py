"""What the parts of a feed agree on: its channels, how their messages become records, and what the log tells
again after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Message = dict[Any, Any]
Add = Callable[[bytes, bytes, int], None]
"""Key, value, Kafka timestamp in ms."""
Encode = Callable[[Message], tuple[bytes, bytes] | None]
"""Key and value of a message's record; None: the log holds it already. Raises RecordError: it is none."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One type of message: the channel as Alpaca calls it, and the catalogue topic of its records.

    `time` is the field of a message that holds its event time (ns).
    """

    name: str
    topic: str
    encode: Encode
    time: str = "t"


@dataclass(frozen=True, slots=True)
class Tail:
    """What a start reads from the ends of topics, so that a restart neither repeats nor collides.

    `pick` takes from a record (with its stem) what is to be kept; `take` is then given that of every record
    of the last `window_ns` of event time, in the order of each partition. At most about `most` records of a
    partition are read.
    """

    topics: tuple[str, ...]
    window_ns: int
    most: int
    pick: Callable[[str, Mapping[str, Any]], Any]
    take: Callable[[Any], object]


class Whole(Protocol):
    """A frame whose messages are all ordinary ones of this feed's channels."""

    def __len__(self) -> int: ...

    def is_one(self) -> bool:
        """Whether an equal frame can only be this one again (see repeats.py)."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Messages by type."""
        ...

    def newest(self) -> Mapping[str, int]:
        """The event time (ns) of the last message of each type."""
        ...

    def last(self) -> Mapping[str, Message]:
        """The last message of each type."""
        ...

    def records(self) -> Iterator[tuple[str, bytes, bytes | None]]:
        """Type, key and value of each message's record, in order; None for what the log holds already."""
        ...


class Encoder(Protocol):
    """Turns the messages of one feed into records."""

    @property
    def frames(self) -> str:
        """The catalogue topic whose dead letters are the messages of no known type."""
        ...

    def frame(self, received_ns: int) -> None:
        """The following messages were received at this time (ns since 1970)."""
        ...

    def channels(self) -> Mapping[str, Channel]:
        """Channels by the type T of their messages."""
        ...

    def whole(self, raw: bytes) -> Whole | None:
        """A frame read at once; None: it is to be taken message by message."""
        ...

    def tails(self) -> tuple[Tail, ...]:
        """What it must be told again of the log, before its first message."""
        ...


def topics(encoder: Encoder) -> tuple[str, ...]:
    """The catalogue topics that its records go to, each once."""
    return tuple(dict.fromkeys(channel.topic for channel in encoder.channels().values()))


def dead_letters(encoder: Encoder) -> tuple[str, ...]:
    """The catalogue topics whose dead-letter topics it may need."""
    return (*topics(encoder), encoder.frames)
