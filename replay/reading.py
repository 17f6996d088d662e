"""Where the records of a piece of log stand, and what stands in them: positions and fields as arrays."""

from __future__ import annotations

import io
from functools import lru_cache

import fastavro
import numpy as np
import numpy.typing as npt

from replay.words import LOW, MORE, Ints, Mask, Symbols, Table, U, Words, lowest_end, signed, squeeze

PAD = 128
"""Bytes around the records: what is read at a wrong place is refused, and never out of bounds."""
_EVENT_ID = 16  # eight bytes: their number as a varint
_FIRST_END = 18  # the word of the stamp's end begins so many bytes before the record's
_MIDDLE = 15  # bytes of conditions, tape and extra at most
# A varint of n bytes: which "more follows" bits are looked at, and which of them are set.
_ASKED = np.array([0, 0x80, 0x8080, 0x80_8080, 0x8080_8080], U)
_SET = np.array([1, 0, 0x80, 0x8080, 0x80_8080], U)
_SEARCH = 1 << 18


def middle(first: int, second: int) -> int:
    """0: the words are conditions, a tape and no extra fields, of the size that the last says; -1: not."""
    size = second >> 56
    data = first.to_bytes(8, "little") + second.to_bytes(8, "little")
    body = io.BytesIO(data[:size])
    try:
        found = fastavro.schemaless_reader(body, _MIDDLE_SCHEMA, None)
    except Exception:  # fastavro raises whatever its parts raise
        return -1
    return 0 if body.tell() == size and found["extra"] is None else -1


_MIDDLE_SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Middle",
        "fields": [
            {"name": "conditions", "type": {"type": "array", "items": "string"}},
            {"name": "tape", "type": "string"},
            {"name": "extra", "type": ["null", "string"]},
        ],
    }
)


class Stamps:
    """The fields that every record of a feed has at its end."""

    def __init__(self, start: Words, end: Words, sources: Ints, epochs: Ints) -> None:
        self._start, self._end = start, end
        self.sources, self.epochs = sources, epochs

    def received(self) -> Ints:
        """received_ts."""
        return signed(squeeze(self._start) | (self._end << U(56)))


class Reading:
    """The bytes of records that follow each other, between PAD bytes at either side.

    `fine` says of each record whether all that was read of it so far is as it must be; `begin` and `end` are
    where it stands.
    """

    begin: Ints
    end: Ints

    def __init__(self, data: bytes) -> None:
        self._bytes = np.frombuffer(data, np.uint8)
        self._any = np.ndarray((len(data) - 7,), "V8", data, 0, (1,))  # eight bytes from any place on
        self.fine: Mask = np.ones(0, bool)

    def words(self, at: Ints) -> Words:
        """The eight bytes from each of these places on."""
        found: Words = self._any[at].view(U)
        return found

    def headers(self, schema_id: bytes) -> Ints:
        """Where the Confluent headers stand that begin a value of this schema."""
        first, second = b"\0" + schema_id[:1]
        size = len(self._bytes) - 8
        scratch, other = np.empty(_SEARCH, bool), np.empty(_SEARCH, bool)
        parts = []
        for start in range(0, size, _SEARCH):
            piece = self._bytes[start : min(start + _SEARCH, size) + 1]
            hits, also = scratch[: len(piece) - 1], other[: len(piece) - 1]
            np.equal(piece[1:], second, out=hits)
            np.equal(piece[:-1], first, out=also)
            np.logical_and(hits, also, out=hits)
            parts.append(np.flatnonzero(hits) + start)
        places: Ints = np.concatenate(parts)
        header = U(int.from_bytes(b"\0" + schema_id, "little"))
        found: Ints = places[(self.words(places) & LOW[5]) == header]
        return found

    def frames(self, at: Ints, deltas: Ints) -> bool:
        """Take the records whose headers stand here; false: they do not follow each other.

        `deltas` are the offset deltas that they must have.
        """
        last, before = self._bytes[at - 1].astype(np.int64), self._bytes[at - 2].astype(np.int64)
        two = (before >= 128).astype(np.int64)  # bytes of the value's length: one or two
        size = np.where(two == 1, (before & 127) | (last << 7), last) >> 1
        self.end = at + size + 1  # and the count of headers
        self.begin = np.concatenate(([PAD], self.end[:-1]))
        if int(self.end[-1]) != len(self._bytes) - PAD or (self.begin >= at).any():
            return False
        key = at - 1 - two
        length = self._bytes[at + 5].astype(np.int64) >> 1  # of the symbol: the key's, too
        encoded, sizes = _delta_bytes(1 << int(deltas.max()).bit_length())
        offset = key - length - 1 - sizes[deltas]
        odd = np.where(two == 1, before, last) & 1
        self.fine = (odd == 0) & (last < 128) & (self._bytes[self.end - 1] == 0)
        self.fine &= (self.words(offset) & LOW[sizes[deltas]]) == encoded[deltas]
        self.fine &= self._bytes[key - length - 1] == self._bytes[at + 5]
        self._key = key - length
        self._check_start(offset)
        return True

    def _check_start(self, offset: Ints) -> None:
        """The record's length, its attributes and its time delta, which ends where the offset's begins."""
        words = self.words(self.begin)
        two = (words >> U(7)) & U(1)
        length = ((words & U(127)) | (((words >> U(8)) & U(255)) << U(7)) * two) >> U(1)
        rest = self.begin + 1 + two.view(np.int64)
        self.fine &= (words & U(1) == 0) & (rest + length.view(np.int64) == self.end)
        delta = offset - rest - 1
        self.fine &= (delta >= 1) & (delta <= 4)
        size = np.where(self.fine, delta, 0)
        after = words >> (U(8) + (two << U(3)))
        self.fine &= (after & U(255) == 0) & ((after >> U(8)) & _ASKED[size] == _SET[size])

    def symbols(self, at: Ints, symbols: Symbols) -> tuple[Ints, Ints]:
        """Numbers of the symbols at these places, which must equal the keys, and where they end."""
        length = self._bytes[at].astype(np.int64)
        self.fine &= (length & 1 == 0) & (length >= 2) & (length <= 16)
        size = np.where(self.fine, length >> 1, 1)
        words = self.words(at + 1) & LOW[size]
        self.fine &= words == self.words(np.where(self.fine, self._key, 0)) & LOW[size]
        self.fine &= (words >> ((size.view(U) - U(1)) << U(3))) != 0  # no zero byte at its end
        numbers = symbols.numbers(words)
        self.fine &= numbers >= 0
        return numbers, at + 1 + size

    def texts(self, at: Ints) -> Ints:
        """Skip ASCII texts of at most seven bytes; returns where they end."""
        words = self.words(self._within(at))
        length = (words & U(255)).view(np.int64)
        self.fine &= (length & 1 == 0) & (length <= 14)
        size = np.where(self.fine, length >> 1, 0)
        self.fine &= (words >> U(8)) & MORE & LOW[size] == 0
        return at + 1 + size

    def longs(self, at: Ints, wanted: bool = True) -> tuple[Ints, Ints]:
        """The integers at these places (if wanted), and where they end."""
        at = self._within(at)
        words = self.words(at)
        lowest, sizes = lowest_end(words)
        if (longest := int(sizes.max(initial=0))) < 8 or lowest.all():
            values = squeeze(words & (lowest - U(1)), longest) if wanted else words
            return signed(values), at + sizes
        long = lowest == 0
        ninth = self._bytes[at + 8]
        self.fine &= ~long | (ninth < 128)
        after = at + sizes + long
        if not wanted:
            return at, after
        values = squeeze(words & (lowest - U(1))) | (np.where(long, ninth, 0).astype(U) << U(56))
        return signed(values), after

    def doubles(self, at: Ints) -> npt.NDArray[np.float64]:
        """The numbers at these places."""
        found: npt.NDArray[np.float64] = self.words(self._within(at)).view(np.float64)
        return found

    def stamps(self, at: Ints, middles: Table) -> Stamps:
        """received_ts, source and owner_epoch, which stand at fixed places before the record's end but for
        the epoch's length; what stands between `at` and them must be a known middle.
        """
        self.fine &= self._bytes[self.end - 10] == _EVENT_ID
        words = self.words(self.end - _FIRST_END)
        none = (~words & U(0x0080_8080_8080_8080)) | U(0x80)  # the last byte before the epoch, at the latest
        for shift in (8, 16, 32):
            none |= none >> U(shift)
        before = np.bitwise_count(none).astype(U)  # bytes of the word that are before the epoch
        self.fine &= (words >> U(63) == 0) & (before >= 2)
        epoch = squeeze(words >> (before << U(3)))
        source = (words >> ((before - U(1)) << U(3))) & U(255)
        received = self.end - _FIRST_END + before.view(np.int64) - 10
        start = self.words(received)
        end = (words >> ((np.maximum(before, U(2)) - U(2)) << U(3))) & U(255)
        self.fine &= (start & MORE == MORE) & (end < U(128)) & (source & U(1) == 0)
        self._check_middles(at, received, middles)
        return Stamps(start, end, (source >> U(1)).view(np.int64), signed(epoch))

    def _check_middles(self, at: Ints, end: Ints, middles: Table) -> None:
        size = end - at
        self.fine &= (size >= 3) & (size <= _MIDDLE)
        size = np.where(self.fine, size, 3)
        at = self._within(at)
        first = self.words(at) & LOW[np.minimum(size, 8)]
        second = self.words(at + 8) & LOW[np.maximum(size - 8, 0)]
        self.fine &= middles(first, second | (size.view(U) << U(56))) >= 0

    def _within(self, at: Ints) -> Ints:
        """Places to read from: where a record is not fine any more, the first."""
        return at if self.fine.all() else np.where(self.fine, at, 0)


@lru_cache(maxsize=8)
def _delta_bytes(count: int) -> tuple[Words, Ints]:
    """The varints of 0, 1, 2 ... as words, and their lengths."""
    deltas = np.arange(count, dtype=U) << U(1)
    sizes = 1 + (deltas > 127).astype(np.int64) + (deltas > 16_383)
    more = _SET[sizes]
    more[sizes == 1] = 0
    spread = (
        (deltas & U(127)) | (((deltas >> U(7)) & U(127)) << U(8)) | (((deltas >> U(14)) & U(127)) << U(16))
    )
    return spread | more, sizes
