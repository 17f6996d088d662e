"""Whole numbers as Avro and Kafka write them: zigzag, then seven bits a byte, the least first."""

from __future__ import annotations

FOURTEEN = tuple(bytes((n & 127 | 128, n >> 7 | 128)) for n in range(1 << 14))
"""Two groups of seven bits with "more follows" set: the bytes of any 14 bits that are not the last."""
SMALL = 1 << 13


def varint(value: int) -> bytes:
    """The bytes of a number of any size."""
    rest = value << 1 if value >= 0 else ~(value << 1)
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


SIZES = tuple(varint(n) for n in range(SMALL))
"""The bytes of 0, 1, 2 ... below SMALL."""
