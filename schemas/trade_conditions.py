"""Which trades update a bar: the rules of the SIPs, as Alpaca applies them, by letters of sale conditions.

The rules are Alpaca's table "How are bars aggregated?" (Market Data FAQ): the SIPs' with fewer notes. The
auditor counts a minute's trades by them, the simulated market makes its bars by them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

NEVER, IF_FIRST, ALWAYS = 0, 1, 2


class Update(NamedTuple):
    """What a trade may do to one kind of bar; `last` is NEVER, IF_FIRST or ALWAYS (open and close)."""

    last: int
    high_low: bool
    volume: bool


class UpdateRule(NamedTuple):
    """What a trade may do to its minute bar and to its daily bar."""

    minute: Update
    day: Update


_ALL = Update(ALWAYS, True, True)
_VOLUME = Update(NEVER, False, True)
_NOTHING = Update(NEVER, False, False)
_FIRST = Update(IF_FIRST, True, True)

_RULES: dict[str, UpdateRule] = {
    **{letter: UpdateRule(_ALL, _ALL) for letter in " @ADEFKLOXY56"},
    **{letter: UpdateRule(_VOLUME, _VOLUME) for letter in "CHINRUVW7"},
    **{letter: UpdateRule(_VOLUME, _FIRST) for letter in "GPZ4"},
    **{letter: UpdateRule(_NOTHING, _NOTHING) for letter in "MQ"},
    "T": UpdateRule(_ALL, _VOLUME),
    "9": UpdateRule(_NOTHING, Update(ALWAYS, True, False)),
}


def _strictest(updates: Iterable[Update]) -> Update:
    last, high_low, volume = _ALL
    for update in updates:
        last = min(last, update.last)
        high_low = high_low and update.high_low
        volume = volume and update.volume
    return Update(last, high_low, volume)


@lru_cache(maxsize=4096)
def update_rule(letters: tuple[str, ...], tape: str) -> UpdateRule:
    """The strictest of the letters' rules; a letter that the table lacks restricts nothing."""
    rules = [_RULES[letter] for letter in letters if letter in _RULES]
    if "B" in letters:  # average price on the NYSE tapes, bunched (an ordinary trade) on Nasdaq's
        update = _VOLUME if tape in "AB" else _ALL
        rules.append(UpdateRule(update, update))
    return UpdateRule(_strictest(r.minute for r in rules), _strictest(r.day for r in rules))


def counts_in_minute(letters: tuple[str, ...], tape: str) -> bool:
    """Whether a trade is one of its minute bar's n and its size part of the bar's v."""
    return update_rule(letters, tape).minute.volume
