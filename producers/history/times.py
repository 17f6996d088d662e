"""Times as Alpaca's JSON writes them (RFC 3339, up to nine digits) to ns since 1970 UTC and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tidewire.clock import NS_PER_SECOND

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEPT = 10_000


def reader() -> Callable[[str], int]:
    """A parser that remembers seconds: rows of a page share them, and what is left is a look-up.

    It raises ValueError for what is no such time.
    """
    seconds: dict[str, int] = {}

    def read(text: str) -> int:
        known = seconds.get(text[:19])
        if known is not None and text[-1:] == "Z":
            part = text[20:-1]
            if len(part) <= 9 and part.isdigit() and part.isascii() and text[19] == ".":
                return known + int(part) * _SCALE[len(part)]
            if len(text) == 20:
                return known
        ns = parse(text)
        if len(seconds) >= _KEPT:
            seconds.clear()
        if text[-1:] == "Z":
            seconds[text[:19]] = ns - ns % NS_PER_SECOND
        return ns

    return read


_SCALE = tuple(int(10 ** (9 - digits)) for digits in range(10))


def parse(text: str) -> int:
    """One time. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text[:40]!r}")
    moment = datetime.fromisoformat(f"{match[1]}T{match[2]}+00:00")
    if match[4] is not None:
        offset = timedelta(hours=int(match[5]), minutes=int(match[6]))
        moment = moment - offset if match[4] == "+" else moment + offset
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * NS_PER_SECOND + int((match[3] or "").ljust(9, "0"))


def show(ns: int) -> str:
    """The same time as text, in UTC, with all nine digits."""
    seconds, part = divmod(ns, NS_PER_SECOND)
    return f"{(_EPOCH + timedelta(seconds=seconds)).strftime('%Y-%m-%dT%H:%M:%S')}.{part:09d}Z"
