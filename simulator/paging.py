"""Alpaca's paging, pure: a limit over all symbols, by symbol, then time; a token says where to go on."""

from __future__ import annotations

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol


class Listing(Protocol):
    """The rows of one symbol, ordered by key: (time in ns, number among all of the symbol)."""

    def __len__(self) -> int: ...

    def key(self, index: int) -> tuple[int, int]:
        """The key of a row."""
        ...


class Token(NamedTuple):
    """The last row of a page."""

    symbol: str
    ns: int
    number: int

    def encode(self) -> str:
        """Opaque text for next_page_token."""
        return base64.urlsafe_b64encode(f"{self.symbol}|{self.ns}|{self.number}".encode()).decode()


def decode(text: str) -> Token:
    """A token back from its text.

    Raises:
        ValueError: not one of ours.
    """
    try:
        symbol, ns, number = base64.urlsafe_b64decode(text.encode()).decode().split("|")
        return Token(symbol, int(ns), int(number))
    except ValueError as error:
        raise ValueError("invalid page_token") from error


class Row(NamedTuple):
    """One row of a page: its symbol and where it is in that symbol's listing."""

    symbol: str
    at: int


def page(
    symbols: Sequence[str],
    listing: Callable[[str], Listing],
    limit: int,
    token: Token | None = None,
    *,
    descending: bool = False,
) -> tuple[list[Row], Token | None]:
    """The rows of one page and the token of the next, None when there is no more."""
    rows: list[Row] = []
    last: Token | None = None
    for symbol in sorted(set(symbols)):
        if token is not None and symbol < token.symbol:
            continue
        shown = listing(symbol)
        first, stop = 0, len(shown)
        if token is not None and symbol == token.symbol:
            key = (token.ns, token.number)
            if descending:
                stop = bisect_left(range(stop), key, key=shown.key)
            else:
                first = bisect_right(range(stop), key, key=shown.key)
        indices = range(stop - 1, first - 1, -1) if descending else range(first, stop)
        room = limit - len(rows)
        if room == 0 and len(indices):
            return rows, last
        rows += [Row(symbol, index) for index in indices[:room]]
        if len(indices[:room]):
            last = Token(symbol, *shown.key(indices[:room][-1]))
        if len(indices) > room:
            return rows, last
    return rows, None
