"""Where a gap's events belong: encoder, topic, schema and the interval that history is asked for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from producers import normalize, normalize_crypto
from producers.backfill.difference import BarRevisions, Difference, Events
from producers.channel import Encoder
from producers.encoders import encoder as encoder_of
from producers.history.rows import TYPES
from schemas import gaps
from schemas.catalogue import CRYPTO_BARS, STOCK_BARS, TOPICS
from schemas.codec import Codec
from schemas.gaps import Gap
from tidewire.clock import NS_PER_DAY, NS_PER_SECOND

MINUTE_NS = 60 * NS_PER_SECOND
_STEMS = {topic.name: topic for topic in TOPICS}
_BARS = (STOCK_BARS, CRYPTO_BARS)


@dataclass(slots=True)
class Target:
    """`topic` is the catalogue's name. `start_ns` to `end_ns` (event time) is what is asked for and compared;
    `by_symbol`: the symbol is the key, so some partitions are enough.
    """

    topic: str
    stem: str
    columns: bool
    by_symbol: bool
    encoder: Encoder
    difference: Difference
    start_ns: int
    end_ns: int


def target(gap: Gap, codec: Codec) -> Target:
    """For a gap that is over and has history. Raises KeyError: nothing of that kind is known."""
    kind = gaps.kind_of(gap.feed)
    encoder = encoder_of(kind, codec, gap.owner_epoch, "rest")
    channel = encoder.channels()[TYPES[gap.channel]]
    topic = _STEMS[channel.topic]
    assert topic.schema is not None
    bars = channel.topic in _BARS
    difference: Difference = Events(channel.encode)
    if bars:
        content = normalize_crypto.bar if kind == "crypto" else normalize.bar
        (recall,) = (tail.take for tail in encoder.tails() if channel.topic in tail.topics)
        difference = BarRevisions(channel.encode, content, recall)
    start, end = interval(gap)
    columns = topic.hot and not bars
    return Target(topic.name, topic.schema, columns, topic.by_symbol, encoder, difference, start, end)


def interval(gap: Gap) -> tuple[int, int]:
    """Event times (ns) of the rows that may be missing.

    A bar carries the time at which it begins and comes when it has ended: the one that ends after the gap
    comes over the stream.
    """
    until = gap.from_ts if gap.until_ts is None else gap.until_ts
    if gap.channel == "dailyBars":
        return gap.from_ts - NS_PER_DAY - 60 * MINUTE_NS, until
    if gap.channel == "bars":
        start = gap.from_ts - gap.from_ts % MINUTE_NS - MINUTE_NS
        return start, max(start, until - MINUTE_NS)
    return gap.from_ts, until
