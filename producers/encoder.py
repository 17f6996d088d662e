"""Trades and quotes to bytes, several times faster than a general Avro writer, and byte for byte the same.

Avro has no tags: a record is its fields one after the other. What repeats is kept ready (symbols behind the
schema's header, exchanges, conditions, small numbers, the fields that are the same for a whole frame) and
only put together here. Anything unusual (an unknown field, an integer price, a text not met before) takes
the long way through normalize.py and the codec, which also fills the tables: so the tables hold checked
values only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Any

from xxhash import xxh3_64_digest

from producers import normalize
from producers.channel import Channel, Message, Tail
from producers.entrance import BARS_WINDOW_NS, LARGEST_TAIL, WINDOW_NS, Bars, Window
from producers.normalize import EARLIEST_NS, LATEST_NS, MAX_LONG, Content
from producers.notices import NOTICES, Notices, imbalance_event
from producers.stamp import Stamp
from producers.whole_frames import WholeFrame, WholeFrames
from schemas import event_id
from schemas.catalogue import STOCK_BARS, STOCK_CORRECTIONS, STOCK_FRAMES, STOCK_QUOTES, STOCK_TRADES
from schemas.codec import Codec
from tidewire.varints import FOURTEEN, SIZES, SMALL, varint

_double = Struct("<d").pack
_join = b"".join  # of a dozen parts it takes two thirds of the time of a chain of +
_TABLE_LIMIT = 50_000
_EVENT_ID_LENGTH = b"\x10"
_SOURCES = ("ws", "rest", "rss", "webhook", "replay")


def avro_text(value: str) -> bytes:
    """An Avro string."""
    data = value.encode()
    return varint(len(data)) + data


def avro_texts(values: Sequence[str]) -> bytes:
    """An Avro array of strings: one block, then its end."""
    block = varint(len(values)) + b"".join(avro_text(v) for v in values) if values else b""
    return block + b"\x00"


class Table(dict[Any, Any]):
    """Ready bytes by value; emptied when full, so that odd input cannot grow it without end."""

    def keep(self, key: object, value: object) -> None:
        """Remember one entry."""
        if len(self) >= _TABLE_LIMIT:
            self.clear()
        self[key] = value


class Encoder:
    """Messages to (key, value) of their Kafka records; None when the log already holds the event.

    Call `frame` before the messages of a frame. The methods raise RecordError for a message that is no
    record.
    """

    frames = STOCK_FRAMES

    def __init__(
        self, codec: Codec, window: Window, bars: Bars, *, owner_epoch: int, source: str = "ws"
    ) -> None:
        self._codec, self._window, self._bars = codec, window, bars
        self._stamp = Stamp(codec, owner_epoch=owner_epoch, source=source)
        self._notices = Notices(self._stamp, window)
        self._whole = WholeFrames(codec, window)
        self._after_received = bytes([_SOURCES.index(source) << 1]) + varint(owner_epoch) + _EVENT_ID_LENGTH
        self._tail = b""
        self._trade_heads, self._quote_heads = Table(), Table()
        self._texts, self._conditions = Table(), Table()
        self._prices, self._times, self._longs = Table(), Table(), Table()
        self.frame(0)

    def frame(self, received_ns: int) -> None:
        """The following messages were received at this time (ns since 1970)."""
        self._stamp.received = received_ns
        self._tail = b"\x00" + self._instant(received_ns) + self._after_received  # 0x00: no extra fields

    def channels(self) -> Mapping[str, Channel]:
        """Channels by the type T of their messages."""
        return {
            "t": Channel("trades", STOCK_TRADES, self.trade),
            "q": Channel("quotes", STOCK_QUOTES, self.quote),
            "b": Channel("bars", STOCK_BARS, self.bar),
            "u": Channel("updatedBars", STOCK_BARS, self.bar),
            "d": Channel("dailyBars", STOCK_BARS, self.bar),
            "c": Channel("corrections", STOCK_CORRECTIONS, self.correction),
            "x": Channel("cancelErrors", STOCK_CORRECTIONS, self.correction),
            **self._notices.channels(),
        }

    def whole(self, raw: bytes) -> WholeFrame | None:
        """A frame of ordinary trades and quotes, read at once; None: message by message."""
        return self._whole.read(raw, self._tail)

    def tails(self) -> tuple[Tail, ...]:
        """The last minute of events, and the bars of a day."""
        events = (STOCK_TRADES, STOCK_QUOTES, STOCK_CORRECTIONS, *NOTICES)
        return (
            Tail(events, WINDOW_NS, LARGEST_TAIL, _event, lambda kept: self._window.repeats(*kept)),
            Tail((STOCK_BARS,), BARS_WINDOW_NS, LARGEST_TAIL, lambda _, r: r, self._bars.recall),
        )

    def trade(self, m: Message) -> tuple[bytes, bytes] | None:
        """T=t."""
        try:
            symbol, ts, id, exchange, price, size, conditions, tape = (
                m["S"], m["t"], m["i"], m["x"], m["p"], m["s"], m["c"], m["z"],
            )  # fmt: skip
            if (
                len(m) != 9
                or type(price) is not float
                or type(id) is not int
                or type(size) is not int
                or type(conditions) is not list
                or price - price != 0.0  # not finite
                or not 0 <= size <= MAX_LONG
                or not -MAX_LONG <= id <= MAX_LONG
                or not EARLIEST_NS <= ts < LATEST_NS
            ):
                return self._slow_trade(m)
            key, head = self._trade_heads[symbol]
            zigzag = ts << 1
            parts = (
                head,
                FOURTEEN[zigzag & 16383],
                FOURTEEN[zigzag >> 14 & 16383],
                self._times.get(zigzag >> 28) or self._time(zigzag >> 28),
                SIZES[id] if 0 <= id < SMALL else self._long(id),
                self._texts[exchange],
                _double(price),
                SIZES[size] if size < SMALL else self._long(size),
                self._conditions[tuple(conditions)][0],
                self._texts[tape],
                self._tail,
                event := xxh3_64_digest(f"t|{symbol}|{exchange}|{id}|{ts}".encode()),
            )
        except (KeyError, TypeError):
            return self._slow_trade(m)
        return None if self._window.repeats(ts, event) else (key, _join(parts))

    def quote(self, m: Message) -> tuple[bytes, bytes] | None:
        """T=q. A true repeat stays a record of its own, told apart by its ordinal; so never None."""
        try:
            symbol, ts, bx, bp, bs, ax, ap, as_, conditions, tape = (
                m["S"], m["t"], m["bx"], m["bp"], m["bs"], m["ax"], m["ap"], m["as"], m["c"], m["z"],
            )  # fmt: skip
            if (
                len(m) != 11
                or type(bp) is not float
                or type(ap) is not float
                or type(bs) is not int
                or type(as_) is not int
                or type(conditions) is not list
                or not 0 <= bs <= MAX_LONG
                or not 0 <= as_ <= MAX_LONG
                or not EARLIEST_NS <= ts < LATEST_NS
            ):
                return self._slow_quote(m)
            key, head = self._quote_heads[symbol]
            zigzag = ts << 1
            bid, ask = _double(bp), _double(ap)
            bid_text = self._prices.get(bid) or self._price(bid, bp)
            ask_text = self._prices.get(ask) or self._price(ask, ap)
            condition_bytes, condition_text = self._conditions[tuple(conditions)]
            parts = (
                head,
                FOURTEEN[zigzag & 16383],
                FOURTEEN[zigzag >> 14 & 16383],
                self._times.get(zigzag >> 28) or self._time(zigzag >> 28),
                self._texts[bx],
                bid,
                SIZES[bs] if bs < SMALL else self._long(bs),
                self._texts[ax],
                ask,
                SIZES[as_] if as_ < SMALL else self._long(as_),
                condition_bytes,
                self._texts[tape],
                self._tail,
            )
        except (KeyError, TypeError):
            return self._slow_quote(m)
        name = f"q|{symbol}|{ts}|{bx}|{bid_text}|{bs}|{ax}|{ask_text}|{as_}|{condition_text}|{tape}|"
        event = xxh3_64_digest(f"{name}0".encode())
        ordinal = self._window.repeats(ts, event)
        if ordinal:
            event = xxh3_64_digest(f"{name}{ordinal}".encode())
        return key, _join((*parts, event))

    def bar(self, m: Message) -> tuple[bytes, bytes] | None:
        """T=b, u, d."""
        content = normalize.bar(m)
        revision = self._bars.revision(content, late=m["T"] == "u")
        if revision is None:
            return None
        content["revision"] = revision
        event = event_id.bar_id(content["symbol"], content["interval"], content["ts"], revision)
        return self._stamp.keyed("stock_bar", content, event)

    def correction(self, m: Message) -> tuple[bytes, bytes] | None:
        """T=c and T=x: what became of an earlier trade."""
        c = normalize.correction(m) if m["T"] == "c" else normalize.cancel(m)
        event = event_id.correction_id(
            c["symbol"], c["exchange"], c["original_id"], c["kind"], c["corrected_id"], c["ts"]
        )
        return self._stamp.once(self._window, "stock_correction", c, event)

    # -- the long way: exact for everything, and the teacher of the tables

    def _slow_trade(self, m: Message) -> tuple[bytes, bytes] | None:
        content = normalize.trade(m)
        self._learn(content, self._trade_heads, "stock_trade", ("exchange", "tape"))
        event = event_id.trade_id(content["symbol"], content["exchange"], content["id"], content["ts"])
        return self._stamp.once(self._window, "stock_trade", content, event)

    def _slow_quote(self, m: Message) -> tuple[bytes, bytes] | None:
        content = normalize.quote(m)
        texts = ("bid_exchange", "ask_exchange", "tape")
        self._learn(content, self._quote_heads, "stock_quote", texts)
        return self._stamp.numbered(self._window, "stock_quote", content, quote_event)

    def _learn(self, content: Content, heads: Table, stem: str, texts: tuple[str, ...]) -> None:
        symbol = content["symbol"]
        heads.keep(symbol, (symbol.encode(), self._codec.header(stem) + avro_text(symbol)))
        for name in texts:
            self._texts.keep(content[name], avro_text(content[name]))
        conditions = content["conditions"]
        self._conditions.keep(tuple(conditions), (avro_texts(conditions), ",".join(conditions)))

    def _price(self, bits: bytes, price: float) -> str:
        # By its bits, not by its value: -0.0 equals 0.0 and reads otherwise.
        if price - price != 0.0:
            raise TypeError("not finite")  # the long way says it better
        shown = repr(price)
        self._prices.keep(bits, shown)
        return shown

    def _time(self, high: int) -> bytes:
        ready = unsigned(high)
        self._times.keep(high, ready)
        return ready

    def _instant(self, ns: int) -> bytes:
        zigzag = ns << 1
        if zigzag < 1 << 28:
            return varint(ns)
        high = self._times.get(zigzag >> 28) or self._time(zigzag >> 28)
        return FOURTEEN[zigzag & 16383] + FOURTEEN[zigzag >> 14 & 16383] + high

    def _long(self, value: int) -> bytes:
        zigzag = value << 1 if value >= 0 else ~(value << 1)
        if zigzag < 1 << 14 or zigzag >= 1 << 49:
            return varint(value)
        high = zigzag >> 14
        ready = self._longs.get(high)
        if ready is None:
            ready = unsigned(high)
            self._longs.keep(high, ready)
        return FOURTEEN[zigzag & 16383] + ready


def unsigned(value: int) -> bytes:
    """Groups of seven bits without zigzag: the upper part of a varint."""
    return varint(value >> 1) if value & 1 == 0 else varint(~(value >> 1))


def quote_event(content: Mapping[str, Any], ordinal: int) -> bytes:
    """The event id of one quote among identical ones."""
    c = content
    return event_id.quote_id(
        c["symbol"], c["ts"],
        c["bid_exchange"], c["bid_price"], c["bid_size"],
        c["ask_exchange"], c["ask_price"], c["ask_size"],
        c["conditions"], c["tape"], ordinal,
    )  # fmt: skip


def _event(stem: str, record: Mapping[str, Any]) -> tuple[int, bytes]:
    # What has no id is counted under the id of the first among identical ones, as the encoder does.
    numbered = _NUMBERED.get(stem)
    return record["ts"], record["event_id"] if numbered is None else numbered(record, 0)


_NUMBERED = {"stock_quote": quote_event, "stock_imbalance": imbalance_event}
