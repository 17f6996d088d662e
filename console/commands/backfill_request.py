"""What `tidewire backfill` asks for: symbols, channels and times to gaps. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from schemas import gaps
from schemas.gaps import REQUEST, Gap
from tidewire.clock import NS_PER_DAY, NS_PER_SECOND
from tidewire.config import Settings
from tidewire.errors import ConfigError

NEW_YORK = ZoneInfo("America/New_York")
DEFAULT_CHANNELS = ("trades", "quotes", "bars")
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_CONTRACT = re.compile(r"[A-Z0-9.]{1,6}\d{6}[CP]\d{8}")
_FORMS = "2026-11-20, 2026-11-20T14:30, 2026-11-20T14:30Z or 2h (ago)"


def moment(option: str, text: str, now_ns: int, *, end: bool = False) -> int:
    """A time as a user writes it, in ns since 1970 UTC; New York's where no zone is given.

    A date is its first moment, as an `end` its last.

    Raises:
        ConfigError: nothing of the kind; `option` says where it stood.
    """
    written = text.strip()
    if written == "now":
        return now_ns
    if ago := _AGO.fullmatch(written):
        return now_ns - int(float(ago[1]) * _UNITS[ago[2]] * NS_PER_SECOND)
    try:
        found = datetime.fromisoformat(written.replace(" ", "T"))
    except ValueError:
        raise ConfigError([f"{option}: not a time: {text!r}; write it as {_FORMS}"]) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=NEW_YORK)
    if end and _DATE.fullmatch(written):
        return _ns(found + timedelta(days=1)) - 1
    return _ns(found)


def requested(
    settings: Settings,
    symbols: Iterable[str],
    channels: Iterable[str],
    from_ns: int,
    until_ns: int,
    now_ns: int,
    feed: str | None = None,
) -> list[Gap]:
    """The gaps: one a feed, channel, day and at most 100 symbols, in the order of their time.

    Raises:
        ConfigError: nothing to ask for, with the reason.
    """
    if until_ns < from_ns:
        raise ConfigError(["--to is before --from"])
    if from_ns >= now_ns:
        raise ConfigError(["--from is in the future: there is no history of it"])
    by_feed: dict[str, list[str]] = {}
    for symbol in dict.fromkeys(s.strip().upper() for s in symbols):
        by_feed.setdefault(_feed(settings, symbol, feed), []).append(symbol)
    wanted = list(dict.fromkeys(channels))
    _check(by_feed, wanted)
    found: list[Gap] = []
    for number, (start, end) in enumerate(_days(from_ns, min(until_ns, now_ns))):
        for named, held in by_feed.items():
            for channel in wanted:
                if gaps.has_history(named, channel):
                    found += gaps.opened(
                        named, channel, held, REQUEST, start, now_ns + number, until_ts=end, source="rest"
                    )
    return found


def _check(by_feed: dict[str, list[str]], channels: list[str]) -> None:
    if not by_feed:
        raise ConfigError(["name at least one symbol"])
    if not channels:
        raise ConfigError(["--channel names none"])
    for channel in channels:
        if not any(gaps.has_history(feed, channel) for feed in by_feed):
            feed = next(iter(by_feed))
            known = ", ".join(sorted(gaps.HAS_HISTORY.get(gaps.kind_of(feed), ())))
            reason = gaps.why_no_history(feed, channel)
            raise ConfigError([f"--channel {channel}: {reason}. Of {feed} there is: {known or 'nothing'}"])


def _feed(settings: Settings, symbol: str, chosen: str | None) -> str:
    if chosen is not None and ":" in chosen:
        return chosen
    if chosen == "news":
        return "news"
    if symbol == gaps.EVERY and chosen is None:
        raise ConfigError(["* alone does not say of what: add --feed iex, sip, us, indicative ... or news"])
    if "/" in symbol or chosen in ("us", "us-1", "eu-1"):
        return f"crypto:{chosen or settings.tidewire_crypto_location}"
    if _CONTRACT.fullmatch(symbol) or chosen in ("indicative", "opra"):
        return f"options:{chosen or settings.tidewire_option_feed}"
    return f"stocks:{chosen or settings.tidewire_feed}"


def _days(start: int, end: int) -> Iterator[tuple[int, int]]:
    while start <= end:
        stop = min(start + NS_PER_DAY - 1, end)
        yield start, stop
        start = stop + 1


def _ns(found: datetime) -> int:
    return int(found.timestamp()) * NS_PER_SECOND + found.microsecond * 1_000
