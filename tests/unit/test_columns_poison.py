"""The ceiling on dead letters: without it a wrong deployment would bury a whole day of good records."""

from __future__ import annotations

import pytest

from tidewire.columns.poison import PoisonLimit
from tidewire.errors import PoisonLimitError


def test_single_broken_records_never_stop_a_service() -> None:
    limit = PoisonLimit("t")
    for _ in range(300):
        limit.observe(999, [500])


def test_a_hundred_in_a_row_stop_it_even_over_several_batches() -> None:
    limit = PoisonLimit("alpaca.stocks.trades")
    limit.observe(5_000, [5_000] * 60)
    with pytest.raises(PoisonLimitError, match=r"alpaca\.stocks\.trades\.dlq"):
        limit.observe(5_000, [0] * 40)


def test_a_sound_record_in_between_ends_the_row() -> None:
    limit = PoisonLimit("t")
    limit.observe(5_000, [5_000] * 99)
    limit.observe(5_000, [1] * 99)


def test_more_than_a_twentieth_of_the_last_ten_thousand_stops_it() -> None:
    limit = PoisonLimit("t")
    limit.observe(9_500, range(0, 9_500, 19))  # exactly 500 of 10,000
    with pytest.raises(PoisonLimitError):
        limit.observe(1, [0, 1])


def test_refusals_of_long_ago_are_forgotten() -> None:
    limit = PoisonLimit("t")
    for _ in range(50):
        limit.observe(9_600, range(0, 9_600, 24))  # 400 of each 10,000, for ever
