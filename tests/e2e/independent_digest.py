"""A second opinion that shares no code with the pipeline: files, topics and PostgreSQL hold the same events.

    python -m tests.e2e.independent_digest --kafka HOST:PORT --database URL [--prefix P] FILE_OR_FOLDER...

It reads the tick files by its own reading of their layout, the topics with librdkafka and an Avro reader of
its own, PostgreSQL with plain SELECTs, and makes of each a digest per channel and symbol: the sum modulo
2**128 of the BLAKE2b hash of every event's text. A sum knows no order but counts repeats. The last feature
record of each symbol is held against a naive fold of the files in Decimal. Prints one JSON object; exits 0
only if all are equal.

Conditions and tape are not in the files as Alpaca would send them, so they are compared between topic and
PostgreSQL only ("whole"); so are bars, which the simulated exchange makes itself.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from tests.e2e.digest_files import Fold, read_files
from tests.e2e.digest_sums import CORE, WHOLE, Event, Sums, text_of

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"


# -- topics --------------------------------------------------------------------------------------------------


def long_of(data: io.BytesIO) -> int:
    shift = total = 0
    while True:
        byte = data.read(1)[0]
        total |= (byte & 127) << shift
        if byte < 128:
            return (total >> 1) ^ -(total & 1)
        shift += 7


def bytes_of(data: io.BytesIO) -> bytes:
    return data.read(long_of(data))


def decimal_of(raw: bytes, scale: int) -> Decimal:
    digits = tuple(map(int, str(abs(number := int.from_bytes(raw, "big", signed=True)))))
    return Decimal((int(number < 0), digits, -scale))  # exact, whatever the context's precision


def reader(kind: Any) -> Callable[[io.BytesIO], Any]:
    """An Avro reader for the few types that the schemas use."""
    if isinstance(kind, list):
        options = [reader(k) for k in kind]
        return lambda data: options[long_of(data)](data)
    if isinstance(kind, dict):
        if kind["type"] == "enum":
            return lambda data: kind["symbols"][long_of(data)]
        if kind["type"] == "array":
            return array_reader(reader(kind["items"]))
        if kind["type"] == "record":
            fields = [(f["name"], reader(f["type"])) for f in kind["fields"]]
            return lambda data: {name: take(data) for name, take in fields}
        if kind.get("logicalType") == "decimal":
            return lambda data: decimal_of(bytes_of(data), kind["scale"])
        return reader(kind["type"])
    simple: dict[str, Callable[[io.BytesIO], Any]] = {
        "null": lambda data: None,
        "long": long_of,
        "int": long_of,
        "boolean": lambda data: data.read(1) == b"\1",
        "double": lambda data: struct.unpack("<d", data.read(8))[0],
        "string": lambda data: bytes_of(data).decode(),
        "bytes": bytes_of,
    }
    return simple[kind]


def array_reader(item: Callable[[io.BytesIO], Any]) -> Callable[[io.BytesIO], list[Any]]:
    def read(data: io.BytesIO) -> list[Any]:
        values = []
        while count := long_of(data):
            if count < 0:
                count = -count
                long_of(data)
            values += [item(data) for _ in range(count)]
        return values

    return read


def record_reader(stem: str) -> Callable[[bytes], Event]:
    schema = json.loads((SCHEMAS / f"{stem}.avsc").read_text("utf-8"))
    take = reader(schema)

    def read(value: bytes) -> Event:
        data = io.BytesIO(value)
        if data.read(1) != b"\0":
            raise ValueError("no Confluent header")
        data.read(4)
        record: Event = take(data)
        if data.read(1):
            raise ValueError("bytes left over")
        return record

    return read


def records(bootstrap: str, topic: str) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of every record of a topic, from its beginning to its present end."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "independent-digest",
            "enable.auto.commit": False,
            "log_level": 4,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        ends = {p: end_of(consumer, TopicPartition(topic, p)) for p in partitions}
        left = {p for p, end in ends.items() if end > 0}
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in left])
        while left:
            for message in consumer.consume(5000, timeout=0.2):
                if message.error():
                    raise RuntimeError(str(message.error()))
                if message.offset() < ends[message.partition()]:
                    yield message.key() or b"", message.value() or b""
                if message.offset() >= ends[message.partition()] - 1:
                    left.discard(message.partition())
    finally:
        consumer.close()


def end_of(consumer: Consumer, place: TopicPartition) -> int:
    """A broker that has only just started may lead none of its partitions yet."""
    give_up = time.monotonic() + 30
    while True:
        try:
            return int(consumer.get_watermark_offsets(place, timeout=20)[1])
        except KafkaException:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.3)


STEMS = {"trades": "stock_trade", "quotes": "stock_quote", "bars": "stock_bar"}


def read_topics(bootstrap: str, prefix: str) -> tuple[Sums, Sums, list[str]]:
    core, whole, wrong = Sums(), Sums(), []
    for channel, stem in STEMS.items():
        read = record_reader(stem)
        for key, value in records(bootstrap, f"{prefix}alpaca.stocks.{channel}"):
            try:
                event = read(value)
            except (ValueError, IndexError, struct.error) as error:
                wrong.append(f"{channel}: a record cannot be read: {error}")
                continue
            if key.decode() != event["symbol"]:
                wrong.append(f"{channel}: key {key!r} before {event['symbol']}")
            add(core, whole, channel, event)
    return core, whole, wrong


def add(core: Sums, whole: Sums, channel: str, event: Event) -> None:
    if channel in CORE:
        core.add(channel, event["symbol"], text_of(event, CORE[channel]))
    whole.add(channel, event["symbol"], text_of(event, WHOLE[channel]))


def last_features(bootstrap: str, prefix: str) -> dict[str, Event]:
    read = record_reader("stock_features")
    return {key.decode(): read(value) for key, value in records(bootstrap, f"{prefix}features.stocks")}


# -- PostgreSQL ----------------------------------------------------------------------------------------------

RENAMED = {"id": "trade_id", "interval": "bar_interval"}


def read_postgres(url: str) -> tuple[Sums, Sums]:
    core, whole = Sums(), Sums()
    with psycopg.connect(url) as connection:
        for channel, fields in WHOLE.items():
            columns = ", ".join(
                "(extract(epoch FROM ts) * 1000000)::int8 * 1000 + ts_nanos"
                if f == "ts"
                else RENAMED.get(f, f)
                for f in fields
            )
            with connection.cursor(name=f"all_{channel}") as cursor:
                cursor.itersize = 20_000
                cursor.execute(f"SELECT {columns} FROM {channel}")
                for row in cursor:
                    add(core, whole, channel, dict(zip(fields, row, strict=True)))
    return core, whole


# -- verdict -------------------------------------------------------------------------------------------------


def differences(name: str, left: Sums, right: Sums, channels: Iterable[str]) -> list[str]:
    found = []
    for channel in channels:
        a, b = left.of.get(channel, {}), right.of.get(channel, {})
        for symbol in sorted({*a, *b}):
            if a.get(symbol) != b.get(symbol):
                counts = f"{a.get(symbol, (0, 0))[0]} and {b.get(symbol, (0, 0))[0]} events"
                found.append(f"{name}: {channel} of {symbol} differ ({counts})")
    return found


def wrong_features(folds: dict[str, Fold], features: dict[str, Event]) -> list[str]:
    wrong = (
        [f"features: of {sorted(features)} instead of {sorted(folds)}"] if set(folds) != set(features) else []
    )
    for symbol in sorted(set(folds) & set(features)):
        for name, expected in expected_features(folds[symbol]).items():
            got = features[symbol][name]
            if not same(expected, got):
                wrong.append(f"features: {symbol} {name} is {got!r}, the files say {expected}")
    return wrong


def expected_features(fold: Fold) -> dict[str, Decimal | int | None]:
    return {
        "last": fold.last[2] if fold.last else None,
        "bid": fold.quote[1] if fold.quote else None,
        "ask": fold.quote[2] if fold.quote else None,
        "vwap": fold.notional / fold.volume if fold.volume else None,
        "volume": int(fold.volume),
        "trade_count": fold.trade_count,
        "high": fold.high,
        "low": fold.low,
    }


def same(expected: Decimal | int | None, got: Any) -> bool:
    """Equal; a Decimal equals the float that is nearest to it, or its neighbour (a division was rounded)."""
    if expected is None or isinstance(expected, int):
        return bool(got == expected)
    return got is not None and abs(float(expected) - got) <= 2.3e-16 * max(1.0, abs(got))


def judge(paths: list[Path], bootstrap: str, url: str, prefix: str) -> dict[str, Any]:
    files, folds = read_files(paths)
    topic_core, topic_whole, wrong = read_topics(bootstrap, prefix)
    postgres_core, postgres_whole = read_postgres(url)
    features = last_features(bootstrap, prefix)
    wrong += differences("files/topic", files, topic_core, CORE)
    wrong += differences("files/postgres", files, postgres_core, CORE)
    wrong += differences("topic/postgres", topic_whole, postgres_whole, WHOLE)
    wrong += wrong_features(folds, features)
    return {
        "equal": not wrong,
        "differences": wrong,
        "files": files.as_json(),
        "topic": topic_core.as_json(),
        "postgres": postgres_core.as_json(),
        "whole": topic_whole.as_json(),
        "features": {
            s: {n: str(v) for n, v in expected_features(f).items()} for s, f in sorted(folds.items())
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare tick files, topics and PostgreSQL by content digests."
    )
    parser.add_argument("paths", nargs="+", type=Path, help="tick files or folders of them")
    parser.add_argument("--kafka", required=True, help="bootstrap servers")
    parser.add_argument("--database", required=True, help="PostgreSQL URL")
    parser.add_argument("--prefix", default="", help="what stands before every topic")
    options = parser.parse_args()
    verdict = judge(options.paths, options.kafka, options.database, options.prefix)
    print(json.dumps(verdict, indent=2))
    return 0 if verdict["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
