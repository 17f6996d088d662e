"""Which symbols and minutes the topics hold, of what came in the last hours: narrow columns, no contents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.codec import Codec
from tidewire.clock import NS_PER_MS
from tidewire.columns import Decoder, as_blocks, read_blocks
from tidewire.config import Settings
from verify.completeness import Completeness
from verify.content import ALL_BARS, CHANNELS, Channel
from verify.coverage import Coverage
from verify.report import cover_all
from verify.topic import Ends, consumer, ends, whole


async def coverage(
    settings: Settings,
    codec: Codec,
    told: Completeness,
    since_ns: int,
    wanted: Callable[[Channel], bool] = lambda _: True,
) -> dict[str, Coverage]:
    """The four words of every channel with anything to say, of records received since then (ns).

    Raises:
        UnreachableError: Kafka does not answer.
    """
    channels = [channel for channel in CHANNELS if wanted(channel)]
    names = {channel.name: settings.tidewire_topic_prefix + channel.topic for channel in channels}
    read_blocks(names.values())
    stops = await ends(settings, names.values())
    async with consumer(settings) as client:
        events = [
            (channel, await _events(client, channel, codec, stops[names[channel.name]], since_ns))
            for channel in channels
        ]
    return cover_all(events, told)


async def _events(
    client: AIOKafkaConsumer, channel: Channel, codec: Codec, until: Ends, since_ns: int
) -> pl.DataFrame:
    """Symbol and time (of bars the interval too) of each event, repeats of a second left out."""
    columns = _columns(channel)
    decoder = Decoder(codec.versions(channel.stem), channel.record_key, columns)
    parts = [_plain(decoder([]).frame)]
    begins = await _begins(client, until, since_ns)
    async for _, values in whole(client, until, begins):
        frame = decoder(as_blocks(values)).frame
        if frame.height:
            parts.append(_plain(frame).unique())
    return pl.concat(parts)


def _columns(channel: Channel) -> Sequence[str]:
    if "symbol" not in channel.content:
        return ("ts",)
    return ("symbol", "ts", "interval") if channel in ALL_BARS else ("symbol", "ts")


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """As plain types, times cut to their minutes, so that repeats go."""
    texts = [pl.col(name).cast(pl.String) for name in frame.columns if name != "ts"]
    ts = pl.col("ts").cast(pl.Int64)
    return frame.select(*texts, (ts - ts % 60_000_000_000).alias("ts"))


async def _begins(client: AIOKafkaConsumer, until: Ends, since_ns: int) -> dict[TopicPartition, int]:
    if not until:
        return {}
    found = await client.offsets_for_times(dict.fromkeys(until, since_ns // NS_PER_MS))
    return {tp: until[tp] if place is None else place.offset for tp, place in found.items()}
