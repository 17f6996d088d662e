"""Rows of Lean tick files as columns: Polars for a block in which all is well, else line by line.

Both ways accept the same lines: the fast one is only taken when it could read every line of a block, so the
fate of a line never depends on its neighbours.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Reject = Callable[[int, bytes, str], None]
"""Called with the line number within the block (from 0), the line and the reason."""

DAY_MS = 25 * 3_600_000  # a New York day has 25 hours once a year
LARGEST = (1 << 53) - 1  # beyond it an integer price is no exact float
_INTEGER = re.compile(rb"[+-]?[0-9]{1,18}")
_TIME = re.compile(rb"([0-9]{1,9})(?:\.([0-9]{1,6}))?")
_HEX = re.compile(rb"[0-9A-Fa-f]{1,8}")
_EXCHANGE = re.compile(rb"[A-Za-z0-9]?")


class Layout(NamedTuple):
    """The columns of one kind of file: time, integers, exchange, flags (hex), suspicious."""

    integers: tuple[str, ...]

    @property
    def width(self) -> int:
        """Fields of a line."""
        return len(self.integers) + 4


TRADES = Layout(("price", "size"))
QUOTES = Layout(("bid_price", "bid_size", "ask_price", "ask_size"))


class Rows(NamedTuple):
    """Good rows in file order. `ns` is since midnight."""

    ns: npt.NDArray[np.int64]
    integers: list[npt.NDArray[np.int64]]
    exchanges: list[str]
    flags: list[str]


def read_rows(block: bytes, layout: Layout, reject: Reject) -> Rows:
    """The rows of a block of lines; a broken line goes to `reject`."""
    block = block.replace(b"\r\n", b"\n")
    rows = _fast(block, layout)
    return _line_by_line(block, layout, reject) if rows is None else rows


def _fast(block: bytes, layout: Layout) -> Rows | None:
    """All rows, or None when there is anything in the block that needs a closer look."""
    schema: dict[str, type[pl.DataType]] = {"time": pl.Int64}
    schema |= dict.fromkeys(layout.integers, pl.Int64)
    schema |= {"exchange": pl.String, "flags": pl.String, "suspicious": pl.String}
    try:
        frame = pl.read_csv(
            io.BytesIO(block),
            has_header=False,
            schema=schema,
            quote_char=None,
            empty_string_is_null=False,
            extra_columns="raise",
            missing_columns="raise",
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        return None
    lines = block.count(b"\n") + (not block.endswith(b"\n"))
    if frame.height != lines or b"\r" in block or any(frame[name].has_nulls() for name in schema):
        return None
    time, *integers = (frame[name].to_numpy() for name in ("time", *layout.integers))
    if min(column.min() for column in (time, *integers)) < 0 or time.max() >= DAY_MS:
        return None
    exchanges, flags = frame["exchange"].to_list(), frame["flags"].to_list()
    plain = (
        max(column.max() for column in integers) <= LARGEST
        and all(_EXCHANGE.fullmatch(text.encode()) for text in set(exchanges))
        and all(_HEX.fullmatch(text.encode()) for text in set(flags))
        and set(frame["suspicious"].to_list()) <= {"0", "1"}
    )
    return Rows(time * 1_000_000, integers, exchanges, flags) if plain else None


def _line_by_line(block: bytes, layout: Layout, reject: Reject) -> Rows:
    good: list[tuple[int, list[int], str, str]] = []
    for number, line in enumerate(block.removesuffix(b"\n").split(b"\n")):
        parsed = parse_line(line, layout)
        if isinstance(parsed, str):
            reject(number, line, parsed)
        else:
            good.append(parsed)
    return Rows(
        np.array([row[0] for row in good], np.int64),
        [np.array([row[1][i] for row in good], np.int64) for i in range(len(layout.integers))],
        [row[2] for row in good],
        [row[3] for row in good],
    )


def parse_line(line: bytes, layout: Layout) -> tuple[int, list[int], str, str] | str:
    """(ns since midnight, integers, exchange, flags) of one line, or the reason why it is broken."""
    fields = line.split(b",")
    if len(fields) != layout.width:
        return f"{len(fields)} columns instead of {layout.width}"
    time = _TIME.fullmatch(fields[0])
    if time is None:
        negative = _INTEGER.fullmatch(fields[0]) and fields[0].startswith(b"-")
        return f"{'negative time' if negative else 'time is not a number'}: {_show(fields[0])}"
    if int(time[1]) >= DAY_MS:
        return f"time beyond the end of the day: {_show(fields[0])}"
    numbers = []
    for name, text in zip(layout.integers, fields[1:], strict=False):
        if not _INTEGER.fullmatch(text):
            return f"{name} is not a whole number: {_show(text)}"
        if not 0 <= int(text) <= LARGEST:
            return f"{name} out of range: {_show(text)}"
        numbers.append(int(text))
    exchange, flags, suspicious = fields[-3:]
    if not _EXCHANGE.fullmatch(exchange):
        return f"exchange is not one letter: {_show(exchange)}"
    if not _HEX.fullmatch(flags):
        return f"condition is not a hexadecimal number of 32 bits: {_show(flags)}"
    if suspicious not in (b"0", b"1"):
        return f"suspicious is neither 0 nor 1: {_show(suspicious)}"
    ns = int(time[1]) * 1_000_000 + int((time[2] or b"0").ljust(6, b"0"))
    return ns, numbers, exchange.decode(), flags.decode()


def _show(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "backslashreplace"))
