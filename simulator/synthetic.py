"""A market made from a seed, with the habits of a real one. Pure: same seed and start, same messages.

Arrivals come in bursts (each event makes more likely, for a fraction of a second). Prices sit on a cent grid
with a spread of a few cents by price; quotes thin out before a trade takes the level, and move after it.
Trades are mostly below 100 shares (odd lots, I) or round lots, often sweeps (F), on several exchanges; some
print late, with an event time seconds ago. Outside 09:30-16:00 New York they carry T. Statuses, bands and
imbalances come with them (notices.py); a symbol that is halted is quoted and does not trade.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simulator.bars import MINUTE, new_york_midnight
from simulator.conditions import tape_of, update_rule
from simulator.notices import Known, Notices, Print
from simulator.wire import CHANNELS, Message, QuotePacker, Streams, TradePacker, pack, pack_conditions

WELL_KNOWN = {
    "AAPL": (22_950, 1.0),
    "MSFT": (41_520, 0.7),
    "NVDA": (13_810, 1.4),
    "TSLA": (34_270, 1.2),
    "AMZN": (20_180, 0.7),
    "GOOGL": (17_560, 0.5),
    "META": (56_300, 0.5),
    "AMD": (14_120, 0.8),
    "SPY": (58_940, 1.3),
    "QQQ": (50_460, 1.0),
    "BAC": (4_630, 0.4),
    "IBM": (22_710, 0.2),
}
"""Symbol -> starting price in cents, activity relative to AAPL."""

BLOCK = 256
CENTS = 100
_EXCHANGES = ("V", "Q", "P", "Z", "N", "K", "Y", "B")
_WEIGHTS = (6, 22, 16, 14, 12, 12, 5, 4)
_BURST = 0.6
"""Events that one event brings with it, on average."""
_BURST_SECONDS = 0.15
_TRADE_SHARE = 0.28
_LATE_SHARE = 0.002
_SWEEP_SHARE = 0.35
_ODD_SHARE = 0.48
_OPEN, _CLOSE = 570 * MINUTE, 960 * MINUTE

Side = tuple[str, int, int]


@dataclass
class _Listing:
    """One symbol's book: prices in cents, sizes in shares."""

    symbol: str
    base_rate: float
    mid: float
    tape: str
    trades: TradePacker
    quotes: QuotePacker
    next_id: int
    drift: float = 0.0
    excited: float = 0.0
    seen: float = 0.0
    bid: Side = ("Q", 0, 0)
    ask: Side = ("Q", 0, 0)
    newest: Print | None = None

    def known(self) -> Known:
        """What a notice says of it."""
        return Known(round(self.mid) / CENTS, self.tape, self.newest, self._number)

    def _number(self) -> int:
        self.next_id += 1
        return self.next_id - 1


def price_of(symbol: str) -> tuple[int, float]:
    """Starting price in cents and relative activity; unknown symbols get ones made from their name."""
    if symbol in WELL_KNOWN:
        return WELL_KNOWN[symbol]
    chance = random.Random(symbol)
    return chance.randint(800, 40_000), 0.2 + chance.random()


class SyntheticMarket:
    """An endless tape from `start` (ns since 1970 UTC) on, about `rate` messages a second in all."""

    def __init__(
        self,
        symbols: Sequence[str],
        seed: int,
        start: int,
        rate: float,
        limit: int | None = None,
        *,
        halts_per_hour: float = 0.0,
        corrections_per_hour: float = 0.0,
    ) -> None:
        self._random = random.Random(f"{seed}|{','.join(symbols)}")
        self._seed = seed
        self._rare = (halts_per_hour, corrections_per_hour)
        self._notices = Notices(symbols, seed, *self._rare)
        self._start = start
        self._limit = limit
        self._symbols = [price_of(symbol) for symbol in symbols]
        self._names = list(symbols)
        # an event is 1.17 messages on average and brings _BURST others
        activity = sum(weight for _, weight in self._symbols)
        self._unit = rate / 1.17 * (1 - _BURST) / activity
        self._midnight, self._next_midnight = 0, 0

    def read(self, streams: Streams) -> Iterator[list[Message]]:
        """The messages in blocks, by arrival time."""
        listings = [self._list(n, p, w) for n, (p, w) in zip(self._names, self._symbols, strict=True)]
        self._notices = Notices(self._names, self._seed, *self._rare)
        queue = [(self._gap(listing, 0.0), i) for i, listing in enumerate(listings)]
        heapq.heapify(queue)
        block: list[Message] = []
        count = 0
        while self._limit is None or count < self._limit:
            at, i = queue[0]
            messages = self._noted(at, listings, streams) if self._notices.due <= at else []
            messages += self._event(listings[i], at, streams)
            heapq.heapreplace(queue, (at + self._gap(listings[i], at), i))
            if self._limit is not None:
                messages = messages[: self._limit - count]
            count += len(messages)
            block += messages
            if len(block) >= BLOCK:
                yield block
                block = []
        if block:
            yield block

    def _list(self, symbol: str, price: int, weight: float) -> _Listing:
        tape = tape_of(symbol)
        # ids go on after a restart on the same day: they start at the day's millisecond
        first_id = (self._start - new_york_midnight(self._start)) // 1_000_000 + 1
        listing = _Listing(
            symbol,
            self._unit * weight,
            price * self._random.uniform(0.97, 1.03),
            tape,
            TradePacker(symbol, tape, CENTS),
            QuotePacker(symbol, tape, CENTS),
            first_id,
        )
        self._requote(listing)
        return listing

    def _gap(self, listing: _Listing, now: float) -> float:
        """Seconds to the next event: the intensity decays from its present height (thinning)."""
        at = now
        while True:
            bound = listing.base_rate + self._excitement(listing, at)
            at += self._random.expovariate(bound)
            if self._random.random() * bound <= listing.base_rate + self._excitement(listing, at):
                return at - now

    def _excitement(self, listing: _Listing, at: float) -> float:
        return listing.excited * math.exp((listing.seen - at) / _BURST_SECONDS)

    def _event(self, listing: _Listing, at: float, streams: Streams) -> list[Message]:
        listing.excited = self._excitement(listing, at) + _BURST / _BURST_SECONDS
        listing.seen = at
        ns = self._start + int(at * 1e9)
        if self._random.random() >= _TRADE_SHARE or listing.symbol in self._notices.halted:
            self._drift(listing)
            return [self._quote(listing, ns, streams)]
        return self._traded(listing, ns, streams)

    def _noted(self, at: float, listings: Sequence[_Listing], streams: Streams) -> list[Message]:
        """The notices that are due; they leave with the event that follows them."""
        ns = self._start + int(at * 1e9)
        self._in_session(ns)  # learns which day it is
        by_name = dict(zip(self._names, listings, strict=True))
        noted: list[Message] = []
        while self._notices.due <= at:
            for fields in self._notices.next(ns, self._midnight, lambda name: by_name[name].known()):
                stream = streams.get(CHANNELS[fields["T"]], fields["S"])
                noted.append((ns, ns, stream, pack(fields), None))
        return noted

    def _drift(self, listing: _Listing) -> None:
        """The price wanders with a little momentum; the book follows or only its sizes change."""
        listing.drift = 0.9 * listing.drift + self._random.gauss(0, 0.00001)
        listing.mid *= 1 + listing.drift + self._random.gauss(0, 0.00002)
        self._requote(listing)

    def _requote(self, listing: _Listing) -> None:
        typical = max(1.0, listing.mid / 15_000)
        spread = 1 + min(8, int(self._random.expovariate(1 / typical)))
        bid = max(1, round(listing.mid - spread / 2))
        listing.bid = (self._exchange(), bid, self._lots())
        listing.ask = (self._exchange(), bid + spread, self._lots())

    def _traded(self, listing: _Listing, ns: int, streams: Streams) -> list[Message]:
        """Often a quote that thins out, then the trade, then, if the level is gone, the moved quote."""
        buy = self._random.random() < 0.5 + 2_000 * max(-0.0001, min(0.0001, listing.drift))
        exchange, price, there = listing.ask if buy else listing.bid
        size = self._size()
        messages = []
        if there > 100 and self._random.random() < 0.4:
            thin = (exchange, price, there - 100)
            listing.bid, listing.ask = (listing.bid, thin) if buy else (thin, listing.ask)
            messages.append(self._quote(listing, ns, streams))
        messages.append(self._trade(listing, ns + 1_000 * len(messages), exchange, price, size, streams))
        if size >= there:
            listing.mid += 1 if buy else -1
            self._requote(listing)
            messages.append(self._quote(listing, ns + 1_000 * len(messages), streams))
        return messages

    def _trade(
        self, listing: _Listing, ns: int, exchange: str, price: int, size: int, streams: Streams
    ) -> Message:
        event = ns
        letters = [" " if listing.tape in "AB" else "@"]
        if self._random.random() < _LATE_SHARE:
            event -= int(self._random.uniform(1e9, 9e9))
            exchange = "D"
            letters.append("Z")
        elif self._random.random() < _SWEEP_SHARE:
            letters.append("F")
        elif self._random.random() < 0.3:
            exchange = "D"
        if not self._in_session(event):
            letters.append("T")
        if size < 100:
            letters.append("I")
        rule = update_rule(tuple(letters), listing.tape)
        packed = listing.trades.rows(
            [listing.next_id], [exchange], [price], [size], [pack_conditions(letters)], [event]
        )[0]
        listing.newest = Print(listing.next_id, exchange, price / CENTS, size, tuple(letters))
        listing.next_id += 1
        return ns, event, streams.get("trades", listing.symbol), packed, (price / CENTS, size, rule)

    def _quote(self, listing: _Listing, ns: int, streams: Streams) -> Message:
        packed = listing.quotes.rows([listing.bid], [listing.ask], [_REGULAR_QUOTE], [ns])[0]
        return ns, ns, streams.get("quotes", listing.symbol), packed, None

    def _in_session(self, ns: int) -> bool:
        if not self._midnight <= ns < self._next_midnight:
            self._midnight = new_york_midnight(ns)
            self._next_midnight = new_york_midnight(self._midnight + 26 * 60 * MINUTE)
        return _OPEN <= ns - self._midnight < _CLOSE

    def _exchange(self) -> str:
        return self._random.choices(_EXCHANGES, _WEIGHTS)[0]

    def _lots(self) -> int:
        return 100 * (1 + min(50, int(self._random.expovariate(0.35))))

    def _size(self) -> int:
        if self._random.random() < _ODD_SHARE:
            return self._random.randint(1, 99)
        return self._lots() if self._random.random() < 0.9 else self._random.randint(100, 999)


_REGULAR_QUOTE = pack_conditions(("R",))
