"""What a user types after `tidewire backfill` must be the interval that is fetched."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from console.commands.backfill_request import moment, requested
from tidewire import config
from tidewire.clock import NS_PER_DAY
from tidewire.config import Settings
from tidewire.errors import ConfigError

NOW = int(datetime(2026, 11, 20, 18, tzinfo=UTC).timestamp()) * 10**9
HOUR = 3600 * 10**9


def at(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * 10**9  # type: ignore[misc,arg-type]


@pytest.fixture
def chosen() -> Settings:
    return config.load(_env_file=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", NOW - 2 * HOUR),
        ("now", NOW),
        ("2026-11-20T09:30", at(2026, 11, 20, 14, 30)),
        ("2026-07-20 09:30", at(2026, 7, 20, 13, 30)),
        ("2026-11-20T09:30:00Z", at(2026, 11, 20, 9, 30)),
        ("2026-11-20T09:30:00+01:00", at(2026, 11, 20, 8, 30)),
        ("2026-11-20", at(2026, 11, 20, 5)),
    ],
)
def test_times_are_new_york_s_unless_they_say_another(text: str, expected: int) -> None:
    """Five hours off is another session."""
    assert moment("--from", text, NOW) == expected


def test_a_date_as_an_end_is_its_whole_day() -> None:
    """`--from 2026-11-03 --to 2026-11-03` means that day."""
    assert moment("--to", "2026-11-03", NOW, end=True) == at(2026, 11, 4, 5) - 1


def test_a_request_is_cut_by_day_channel_and_hundred_symbols(chosen: Settings) -> None:
    """Each piece is one worker's; two with one name would be one."""
    symbols = [f"S{n}" for n in range(150)]
    found = requested(chosen, symbols, ["trades", "bars"], NOW - 3 * NS_PER_DAY, NOW - 1, NOW)
    assert len({gap.id for gap in found}) == len(found) == 3 * 2 * 2
    trades = [g for g in found if g.channel == "trades" and "S0" in g.symbols]
    spans = [(g.from_ts, g.until_ts) for g in trades]
    assert spans[0][0] == NOW - 3 * NS_PER_DAY
    assert spans[-1][1] == NOW - 1
    assert all(before[1] is not None and before[1] + 1 == after[0] for before, after in pairwise(spans))
    assert {s for g in found for s in g.symbols} == set(symbols)


def test_each_symbol_goes_to_its_feed(chosen: Settings) -> None:
    """BTC/USD is no stock."""
    symbols = ["aapl", "BTC/USD", "AAPL261218C00150000"]
    found = requested(chosen, symbols, ["trades"], NOW - 1, NOW - 1, NOW)
    assert {(g.feed, g.symbols) for g in found} == {
        ("stocks:iex", ("AAPL",)),
        ("crypto:us", ("BTC/USD",)),
        ("options:indicative", ("AAPL261218C00150000",)),
    }
    (sip,) = requested(chosen, ["AAPL"], ["trades"], NOW - 1, NOW - 1, NOW, "sip")
    assert sip.feed == "stocks:sip"
    (news,) = requested(chosen, ["*"], ["news"], NOW - 1, NOW - 1, NOW, "news")
    assert news.feed == "news"


@pytest.mark.parametrize(
    ("symbols", "channels", "start", "end", "words"),
    [
        (["AAPL"], ["trades"], NOW - 1, NOW - 2, "--to is before --from"),
        (["AAPL"], ["trades"], NOW + 1, NOW + 2, "future"),
        (["AAPL"], ["halts"], NOW - 2, NOW - 1, "Of stocks:iex there is: bars, dailyBars, quotes, trades"),
        (["AAPL"], [], NOW - 2, NOW - 1, "--channel"),
        (["*"], ["trades"], NOW - 2, NOW - 1, "--feed"),
    ],
)
def test_what_cannot_be_asked_for_is_said_at_once(
    chosen: Settings, symbols: list[str], channels: list[str], start: int, end: int, words: str
) -> None:
    """A request that can never be met must not wait for a backfiller."""
    with pytest.raises(ConfigError, match=words):
        requested(chosen, symbols, channels, start, end, NOW)


def test_what_is_no_time_is_said_with_the_option() -> None:
    """Two options take times."""
    with pytest.raises(ConfigError, match="--to: not a time: 'tomorrow'"):
        moment("--to", "tomorrow", NOW)
