"""Do log, changelog, features, PostgreSQL and dead letters hold what a naive fold of the files says?

Nothing here is the pipeline's, except the layout of a table's row (processors/features/row.py), which is what
is documented of the changelog.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import psycopg

from processors.app import APP_ID
from processors.features import row
from schemas.catalogue import STOCK_FEATURES, STOCK_QUOTES, STOCK_TRADES
from tests.chaos.processing_line import Line, messages
from tests.chaos.processing_plan import TOPICS, Place, Plan, row_hash
from tests.chaos.processing_poison import Letter
from tests.e2e.digest_files import Fold, read_files
from tests.e2e.independent_digest import record_reader

_CHANGELOG = f"{APP_ID}-features-changelog"
_FENCES = b"\0"
_TS = "(extract(epoch FROM ts) * 1000000)::int8 * 1000 + ts_nanos"
_ROWS = {
    STOCK_TRADES: f"SELECT symbol, {_TS}, trade_id, exchange, price, size, conditions, tape, extra,"
    " received_ts, source, event_id, k_part, k_offset FROM trades",
    STOCK_QUOTES: f"SELECT symbol, {_TS}, bid_exchange, bid_price, bid_size, ask_exchange, ask_price,"
    " ask_size, conditions, tape, extra, received_ts, source, event_id, k_part, k_offset FROM quotes",
}
Values = dict[str, Any]


@dataclass
class Verdict:
    """Differences in words, and numbers: `missing` and `extra` rows of PostgreSQL, `repeated` dead letters in
    Kafka (a service that was killed between a letter and its commit sends it again).
    """

    wrong: list[str] = field(default_factory=list)
    missing: int = 0
    extra: int = 0
    letters: list[str] = field(default_factory=list)
    repeated: int = 0
    uncounted: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)


def judge(line: Line, plan: Plan, folders: list[Path]) -> Verdict:
    """Compare everything with the files and the plan."""
    found = Verdict()
    _log(line, plan, found)
    wanted = _expected(plan, read_files(folders)[1])
    changelog, features = _last_rows(line), _last_features(line)
    for name, values in (("changelog", changelog), ("features", features)):
        found.wrong += _differences(name, wanted, values)
    stored = _stored(line, plan, found)
    _letters(line, plan, found)
    _count(plan, found, changelog, stored)
    found.seen.update({"keys": len(changelog), "records": plan.records})
    return found


# -- Kafka


def _log(line: Line, plan: Plan, found: Verdict) -> None:
    """The log must hold the plan, or nothing else that is said here would mean anything."""
    sizes: Counter[tuple[str, int]] = Counter()
    lanes = {(lane.topic, lane.partition): lane.records for lane in plan.lanes}
    for topic in TOPICS:
        for message in messages(line, topic):
            records, offset = lanes[topic, message.partition()], message.offset()
            sizes[topic, message.partition()] += 1
            if offset >= len(records) or records[offset][:2] != (message.key(), message.value()):
                found.uncounted.append(f"the log of {topic} differs from the plan at offset {offset}")
                return
    found.uncounted += [
        f"{topic} {partition} holds {sizes[topic, partition]} of {len(records)} records"
        for (topic, partition), records in lanes.items()
        if sizes[topic, partition] != len(records)
    ]


def _last_rows(line: Line) -> dict[str, Values]:
    """By symbol, the last row of the processor's changelog."""
    rows: dict[str, Values] = {}
    for message in messages(line, _CHANGELOG):
        key, value = message.key(), message.value()
        if key.startswith(_FENCES):
            continue
        if value is None:
            rows.pop(key.decode(), None)
        else:
            rows[key.decode()] = _row_values(value)
    return rows


def _row_values(value: bytes) -> Values:
    words = struct.unpack(f"<{len(value) // 8}q", value)

    def price(word: int) -> float:
        return float(struct.unpack("<d", struct.pack("<q", words[word]))[0])

    traded, quoted = words[row.TRADES_FOLDED] > 0, words[row.QUOTES_FOLDED] > 0
    micros = (words[row.NOTIONAL_HIGH] << 32) + words[row.NOTIONAL_LOW]
    return {
        "session": words[row.SESSION] if traded else None,
        "last": price(row.LAST) if traded else None,
        "last_ts": words[row.LAST_TS] if traded else None,
        "bid": price(row.BID) if quoted else None,
        "ask": price(row.ASK) if quoted else None,
        "quote_ts": words[row.QUOTE_TS] if quoted else None,
        "notional": Fraction(micros, 1_000_000),
        "volume": words[row.VOLUME],
        "trade_count": words[row.TRADE_COUNT],
        "high": price(row.HIGH) if traded else None,
        "low": price(row.LOW) if traded else None,
        "trades_folded": words[row.TRADES_FOLDED],
        "quotes_folded": words[row.QUOTES_FOLDED],
    }


def _last_features(line: Line) -> dict[str, Values]:
    """By symbol, the last record of features.stocks."""
    read = record_reader("stock_features")
    return {m.key().decode(): read(m.value()) for m in messages(line, STOCK_FEATURES)}


# -- what must be


def _expected(plan: Plan, folds: dict[str, Fold]) -> dict[str, Values]:
    counts: Counter[tuple[str, str]] = Counter()
    for topic, kind in ((STOCK_TRADES, "trades"), (STOCK_QUOTES, "quotes")):
        counts.update({(symbol, kind): n for symbol, n in plan.events[topic].items()})
    return {symbol: _values(plan, symbol, fold, counts) for symbol, fold in folds.items()}


def _values(plan: Plan, symbol: str, fold: Fold, counts: Counter[tuple[str, str]]) -> Values:
    last_ts, quote_ts = fold.last[0] if fold.last else None, fold.quote[0] if fold.quote else None
    ts = max(last_ts or 0, quote_ts or 0)
    bid, ask = (fold.quote[1], fold.quote[2]) if fold.quote else (None, None)
    received = [plan.newest[topic, symbol] for topic in TOPICS if (topic, symbol) in plan.newest]
    newest = max(received, key=lambda pair: pair[0])  # of equal ones the trade's, which is the first
    return {
        "ts": ts,
        "session": int(fold.day) if fold.last else None,
        "last": float(fold.last[2]) if fold.last else None,
        "last_ts": last_ts,
        "bid": None if bid is None else float(bid),
        "ask": None if ask is None else float(ask),
        "quote_ts": quote_ts,
        "mid": float((bid + ask) / 2) if bid and ask else None,
        "spread": float(ask - bid) if bid and ask else None,
        "notional": Fraction(fold.notional),
        "vwap": float(Fraction(fold.notional) / Fraction(fold.volume)) if fold.volume else None,
        "volume": int(fold.volume),
        "trade_count": fold.trade_count,
        "high": None if fold.high is None else float(fold.high),
        "low": None if fold.low is None else float(fold.low),
        "staleness_ns": None if quote_ts is None else ts - quote_ts,
        "trades_folded": counts[symbol, "trades"],
        "quotes_folded": counts[symbol, "quotes"],
        "received_ts": newest[0],
        "source": newest[1],
    }


def _differences(name: str, wanted: dict[str, Values], found: dict[str, Values]) -> list[str]:
    texts = [f"{name}: {symbol} is missing" for symbol in sorted(wanted.keys() - found.keys())]
    texts += [f"{name}: {symbol} is in no file" for symbol in sorted(found.keys() - wanted.keys())]
    for symbol in sorted(wanted.keys() & found.keys()):
        for field_name, value in found[symbol].items():
            right = wanted[symbol].get(field_name, value)  # "symbol" itself, and what is not in the files
            if field_name == "session" and right is None:
                continue  # of a symbol that is only quoted: its quote's day
            if value != right:
                texts.append(f"{name}: {symbol} {field_name} is {value!r}, the files say {right!r}")
    return texts


# -- PostgreSQL


def _stored(line: Line, plan: Plan, found: Verdict) -> Counter[str]:
    """Rows of trades and quotes by content; returns how many there are by topic."""
    counts: Counter[str] = Counter()
    with psycopg.connect(line.url) as connection:
        for topic, query in _ROWS.items():
            left = set(plan.rows[topic])
            with connection.cursor(name="all_rows") as cursor:
                cursor.itersize = 20_000
                for values in cursor.execute(query):
                    counts[topic] += 1
                    identity = row_hash(values)
                    found.extra += identity not in left
                    left.discard(identity)
            found.missing += len(left)
    return counts


# -- dead letters


def _letters(line: Line, plan: Plan, found: Verdict) -> None:
    if line.rows("SELECT 1 FROM dead_letters WHERE published_at IS NULL"):
        found.letters.append("PostgreSQL holds dead letters that were not published")
    rows = line.rows("SELECT topic, part, k_offset, key, value, stage, reason FROM dead_letters")
    stored = [
        ((line.plain(topic), part, offset), (key, value, why))
        for topic, part, offset, key, value, _, why in rows
    ]
    found.letters += _compare("PostgreSQL", plan.letters["sink"], stored, {})
    sent: dict[str, list[tuple[Place, tuple[Any, Any, str]]]] = {stage: [] for stage in plan.letters}
    for topic in TOPICS:
        for message in messages(line, f"{topic}.dlq"):
            headers = {name: text.decode() for name, text in message.headers() or ()}
            place = (line.plain(headers["topic"]), int(headers["partition"]), int(headers["offset"]))
            value = message.value()
            sent[headers["stage"]].append((place, (message.key(), value, headers["reason"])))
    for stage, letters in sent.items():
        distinct = dict(letters)
        found.repeated += len(letters) - len(distinct)
        optional = plan.flood if stage == "processor" else {}
        found.letters += _compare(
            f"{stage}'s in Kafka", plan.letters[stage], list(distinct.items()), optional
        )
    found.seen.update({f"letters_{stage}": len(letters) for stage, letters in sent.items()})


def _compare(
    name: str,
    wanted: dict[Place, Letter],
    found: list[tuple[Place, tuple[Any, Any, str]]],
    optional: dict[Place, Letter],
) -> list[str]:
    """`optional`: letters of records that were not passed before the end; they may have been sent."""
    places = Counter(place for place, _ in found)
    texts = [f"{name}: no dead letter of {place}" for place in wanted.keys() - places.keys()]
    texts += [f"{name}: {count} dead letters of {place}" for place, count in places.items() if count > 1]
    for place, (key, value, reason) in found:
        right = wanted.get(place) or optional.get(place)
        if right is None:
            texts.append(f"{name}: a dead letter of {place}, which is sound: {reason}")
        elif (key, value or b"") != (right.key, right.value or b"") or not re.search(right.reason, reason):
            texts.append(
                f"{name}: the dead letter of {place} has other bytes or says {reason!r}, not {right.reason!r}"
            )
    return texts


# -- all together


def _count(plan: Plan, found: Verdict, changelog: dict[str, Values], stored: Counter[str]) -> None:
    """Every record that was passed is folded, stored, a dead letter or a former owner's."""
    for topic, kind in ((STOCK_TRADES, "trades_folded"), (STOCK_QUOTES, "quotes_folded")):
        folded = sum(values[kind] for values in changelog.values())
        for stage, done in (("processor", folded), ("sink", stored[topic])):
            letters = sum(place[0] == topic for place in plan.letters[stage])
            if (total := done + letters + plan.stale[topic]) != plan.passed[stage, topic]:
                found.uncounted.append(
                    f"{stage}: {done} + {letters} dead letters + {plan.stale[topic]} stale are {total} of"
                    f" {plan.passed[stage, topic]} records of {topic}"
                )
