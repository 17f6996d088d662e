"""Clocks that do not agree: whatever ours says against the exchange's, a gap covers what was missed. Pure.

A feed is played on the exchange's clock through the real intake; its connection is told on ours, which is
off. The gaps that the tracker opens and ends must cover every event that nobody heard.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgpack

from producers.encoder import Encoder
from producers.entrance import Bars, Window
from producers.gaps.tracker import Tracker
from producers.intake import Intake
from schemas.codec import Codec, load_codec
from schemas.gaps import Gap
from tests.chaos.feeds_fuzz import Log
from tidewire import config

NS = 10**9
SKEWS = (-3600.0, -300.0, -30.0, -5.0, -1.27, 0.0, 1.27, 5.0, 30.0, 300.0, 3600.0)
"""Our clock less the exchange's, in seconds; 1.27 s is that of the crypto recording."""
_BEGIN = 1_763_740_800 * NS
_CHANNELS = ("trades", "quotes")


def uncovered(rounds: int, seed: int) -> tuple[int, int]:
    """(events that were missed, those of them that no gap covers) over so many losses for each skew."""
    chance, codec = random.Random(seed), load_codec(config.load(_env_file=None))
    missed = bare = 0
    for skew in SKEWS:
        for _ in range(rounds):
            heard, unheard, gaps = _play(codec, chance, int(skew * NS))
            missed += len(unheard)
            bare += sum(not any(gap.covers("A", ts) for gap in gaps) for ts in unheard)
            assert heard, "nothing was heard at all"
    return missed, bare


def _play(codec: Codec, chance: random.Random, skew_ns: int) -> tuple[list[int], list[int], list[Gap]]:
    """One feed that falls and comes back; event times as the exchange has them."""
    tracker = Tracker("stocks:iex", 1)
    tracker.restart(None, {"trades": ("A",)}, _BEGIN + skew_ns)
    falls = _BEGIN + chance.randrange(5, 20) * NS
    back = falls + chance.randrange(NS, 40 * NS)
    held = dict.fromkeys(_CHANNELS, ("A",))
    tracker.subscribed(held, _BEGIN + skew_ns)
    tracker.settled(_BEGIN + skew_ns)
    heard: list[int] = []
    unheard: list[int] = []
    gaps: list[Gap] = []
    intake = Intake("skew", Encoder(codec, Window(), Bars(), owner_epoch=1), Log(), lambda topic: topic)
    fell = came = False
    for ts in _times(chance, back + 12 * NS):
        now = ts + skew_ns + chance.randrange(80_000_000)  # on its way for a moment
        if not fell and ts >= falls:
            fell, gaps = True, tracker.lost("closed_1006", falls + skew_ns)
        if fell and not came and ts >= back:
            came = True
            gaps += tracker.subscribed(held, back + skew_ns)
            tracker.settled(back + skew_ns)
        if fell and not came:
            unheard.append(ts)
        else:
            heard.append(ts)
            intake.frame(_trade(ts, len(heard)), now)
            tracker.data(intake.newest, now)
        gaps += tracker.tick(now)
    ended = {gap.id: gap for gap in gaps if gap.channel == "trades" and not gap.lasts}
    return heard, unheard, list(ended.values())


def _trade(ts: int, number: int) -> bytes:
    stamp = msgpack.Timestamp.from_unix_nano(ts)
    trade = {"T": "t", "S": "A", "t": stamp, "i": number, "x": "V", "p": 1.5, "s": 9, "c": ["@"], "z": "C"}
    return bytes(msgpack.packb([trade]))


def _times(chance: random.Random, until: int) -> Iterator[int]:
    ts = _BEGIN
    while ts < until:
        ts += chance.randrange(20_000_000, 900_000_000)
        yield ts
