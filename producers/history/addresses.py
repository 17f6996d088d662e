"""Where each piece of history is, and what a request for it says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from producers.history import times
from producers.history.errors import HistoryError
from tidewire.config import Settings

Kind = Literal["stocks", "options", "crypto", "news"]

PAGE_ROWS = 10_000
"""Rows of all symbols together."""
PAGE_ARTICLES = 50
PATHS = {"updatedBars": "bars", "dailyBars": "bars"}
_PAST = {
    "stocks": ("trades", "quotes", "bars", "updatedBars", "dailyBars"),
    "options": ("trades", "bars"),
    "crypto": ("trades", "quotes", "bars", "updatedBars", "dailyBars"),
    "news": ("news",),
}
_LATEST = _PAST | {"options": ("trades", "quotes")}

Request = tuple[str, dict[str, str]]
"""Path below the base URL, and parameters."""


def past(
    settings: Settings, kind: str, channel: str, symbols: Sequence[str], start_ns: int, end_ns: int
) -> Request:
    """Rows of [start, end]. `kind` may be a feed (stocks:sip). Raises HistoryError: there is no history."""
    kind, location = _feed(settings, kind)
    _check(_PAST, kind, channel)
    if location == "test":
        raise HistoryError(0, "Alpaca's test stream has no history", "refused")
    parameters = {"start": times.show(start_ns), "end": times.show(end_ns), "sort": "asc"}
    if kind == "news":
        parameters |= {"limit": str(PAGE_ARTICLES), "include_content": "true"} | _tickers(symbols)
        return "/v1beta1/news", parameters
    parameters |= {"symbols": ",".join(symbols), "limit": str(PAGE_ROWS)}
    if PATHS.get(channel, channel) == "bars":
        parameters["timeframe"] = "1Day" if channel == "dailyBars" else "1Min"
    if kind == "stocks":
        # The delayed feed is SIP a quarter of an hour later: as history it is SIP.
        parameters["feed"] = "sip" if location == "delayed_sip" else location
    return f"{_base(kind, location)}/{PATHS.get(channel, channel)}", parameters


def latest(settings: Settings, kind: str, channel: str, symbols: Sequence[str]) -> Request:
    """The newest row of each symbol. `kind` as above. Raises HistoryError: there is no such address."""
    kind, location = _feed(settings, kind)
    _check(_LATEST, kind, channel)
    if kind == "news":
        return "/v1beta1/news", {"sort": "desc", "limit": str(PAGE_ARTICLES)} | _tickers(symbols)
    name = PATHS.get(channel, channel)
    path = f"latest/{name}" if kind == "crypto" else f"{name}/latest"
    parameters = {"symbols": ",".join(symbols)}
    if kind in ("stocks", "options"):
        parameters["feed"] = location
    return f"{_base(kind, location)}/{path}", parameters


def snapshots(settings: Settings, symbols: Sequence[str]) -> Request:
    """Everything newest of stocks."""
    return "/v2/stocks/snapshots", {"symbols": ",".join(symbols), "feed": settings.tidewire_feed}


def _feed(settings: Settings, named: str) -> tuple[str, str]:
    """Kind and location of a feed; a kind alone is the feed that the settings choose."""
    kind, _, location = named.partition(":")
    chosen = {
        "stocks": settings.tidewire_feed,
        "options": settings.tidewire_option_feed,
        "crypto": settings.tidewire_crypto_location,
    }
    return kind, location or chosen.get(kind, "")


def _base(kind: str, location: str) -> str:
    if kind == "crypto":
        return f"/v1beta3/crypto/{location}"
    return "/v1beta1/options" if kind == "options" else "/v2/stocks"


def _tickers(symbols: Sequence[str]) -> dict[str, str]:
    return {} if "*" in symbols else {"symbols": ",".join(symbols)}


def _check(known: dict[str, tuple[str, ...]], kind: str, channel: str) -> None:
    if channel not in known.get(kind, ()):
        raise HistoryError(0, f"Alpaca has no history of {kind} {channel}", "refused")
