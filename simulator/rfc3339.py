"""Times as Alpaca's JSON writes them: RFC 3339 with up to nine digits after the second."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = (1 << 63) - 1


def parse(text: str) -> int:
    """Nanoseconds since 1970 UTC.

    Raises:
        ValueError: not such a time, or not within 1970 .. 2262.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text[:40]!r}")
    moment = datetime(*map(int, match.groups()[:6]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    if match[8] is None:
        offset = timedelta(hours=int(match[10]), minutes=int(match[11]))
        moment = moment - offset if match[9] == "+" else moment + offset
    since = moment - _EPOCH
    ns = (since.days * 86_400 + since.seconds) * 1_000_000_000 + int((match[7] or "0").ljust(9, "0"))
    if not 0 <= ns <= LATEST:
        raise ValueError(f"time out of range: {text[:40]!r}")
    return ns


def parse_bound(text: str, *, end: bool = False) -> int:
    """A query's bound: a time as above, or a date (the whole UTC day belongs to the range).

    Raises:
        ValueError: neither.
    """
    if _DATE.fullmatch(text):
        ns = parse(f"{text}T00:00:00Z")
        return ns + 86_400 * 1_000_000_000 - 1 if end else ns
    return parse(text)


def show(ns: int) -> str:
    """The shortest form, in UTC: 2021-02-22T15:51:44.208Z."""
    seconds, part = divmod(ns, 1_000_000_000)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{part:09d}".rstrip("0") + "Z" if part else f"{text}Z"
