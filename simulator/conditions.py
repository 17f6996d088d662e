"""Sale conditions: Lean's flags -> the SIPs' letters. What a trade of each letter updates in a bar is a
matter of schemas/trade_conditions.py.

The flags are AlgoSeek's (TradeConditionFlags, QuoteConditionFlags in QuantConnect Lean).
"""

from __future__ import annotations

from functools import lru_cache

from schemas.trade_conditions import ALWAYS, IF_FIRST, NEVER, Update, UpdateRule, update_rule

# Flag -> letter. Not in the SIPs' letters and so left out: 0x08000000 CAP election, 0x20000000 exempt from
# the trade-through rule (a field of its own in the SIPs' messages), 0x40000000 undocumented.
_TRADE_FLAGS = {
    0x00000002: "C",
    0x00000004: "N",
    0x00000008: "R",
    0x00000010: "Y",
    0x00000020: "F",
    0x00000040: "O",
    0x00000080: "6",
    0x00000100: "5",
    0x00000200: "4",
    0x00000400: "T",
    0x00000800: "L",
    0x00001000: "1",
    0x00002000: "T",
    0x00004000: "Z",
    0x00008000: "S",
    0x00010000: "A",
    0x00040000: "V",
    0x00080000: "D",
    0x00200000: "X",
    0x00400000: "H",
    0x00800000: "K",
    0x01000000: "M",
    0x02000000: "P",
    0x04000000: "Q",
    0x10000000: "E",
    0x80000000: "I",
}
_REGULAR, _EXTENDED, _OUT_OF_SEQUENCE, _SOLD_LAST = 0x1, 0x2000, 0x4000, 0x800
_BUNCHED, _AVERAGE_PRICE = 0x20000, 0x100000

_QUOTE_FLAGS = {
    0x1: "R",
    0x2: "W",
    0x4: "H",
    0x8: "C",
    0x10: "D",
    0x20: "P",
    0x40: "G",
    0x80: "I",
    0x100: "L",
    0x200: "M",
    0x400: "N",
    0x800: "O",
    0x1000: "Q",
    0x2000: "T",
    0x4000: "V",
    0x8000: "X",
    0x10000: "Y",
    0x20000: "Z",
}


@lru_cache(maxsize=4096)
def trade_letters(flags: int, tape: str) -> tuple[str, ...]:
    """Lean's trade flags as letters, in the order of the flags' bits; 0 has none.

    Regular is a blank on tapes A and B and @ elsewhere, as Alpaca sends it. Two pairs are one letter:
    extended hours out of sequence is U, sold out of sequence is Z.
    """
    letters = []
    if flags & _REGULAR:
        letters.append(" " if tape in "AB" else "@")
    if flags & _OUT_OF_SEQUENCE and flags & _EXTENDED:
        letters.append("U")
        flags &= ~(_OUT_OF_SEQUENCE | _EXTENDED)
    if flags & _OUT_OF_SEQUENCE:
        flags &= ~_SOLD_LAST
    letters += [letter for flag, letter in _TRADE_FLAGS.items() if flags & flag]
    if flags & _BUNCHED and tape not in "AB":
        letters.append("B")
    if flags & _AVERAGE_PRICE:
        letters.append("B" if tape in "AB" else "W")
    return tuple(dict.fromkeys(letters))


@lru_cache(maxsize=4096)
def quote_letters(flags: int) -> tuple[str, ...]:
    """Lean's quote flags as letters, in the order of the flags' bits; 0 has none."""
    return tuple(letter for flag, letter in _QUOTE_FLAGS.items() if flags & flag)


_NYSE_WORDS = (
    "A AIG AXP BA BAC BRK.A BRK.B C CAT CVX DIS F GE GM GS HD IBM JNJ JPM KO LLY LMT MA MCD MMM MRK NKE NOW "
    "ORCL PFE PG PLTR RTX SNOW T TSM UBER UNH UPS V VZ WFC WMT XOM"
)
_REGIONAL_WORDS = "ARKK DIA EEM EFA FXI GDX GLD HYG IVV IWM LQD SLV SPY USO VOO VTI XLE XLF XLK XLV"
_NYSE = frozenset(_NYSE_WORDS.split())
_REGIONAL = frozenset(_REGIONAL_WORDS.split())


def tape_of(symbol: str) -> str:
    """The tape of a symbol's listing: A for the NYSE, B for the regionals (most ETFs), C for Nasdaq.

    A short list of well-known ones; every other symbol counts as listed on Nasdaq.
    """
    if symbol in _NYSE:
        return "A"
    return "B" if symbol in _REGIONAL else "C"


__all__ = [
    "ALWAYS",
    "IF_FIRST",
    "NEVER",
    "Update",
    "UpdateRule",
    "quote_letters",
    "tape_of",
    "trade_letters",
    "update_rule",
]
