"""Spoiled frames: none breaks the producer, and no byte of them vanishes. And clocks that disagree."""

from __future__ import annotations

from tests.chaos import feeds_fuzz, feeds_skew


def test_three_thousand_spoiled_frames_are_all_accounted_for() -> None:
    """Otherwise one broken frame of Alpaca's ends the stream, or takes good messages with it unseen."""
    tally = feeds_fuzz.fuzz(3_000, seed=5)
    assert tally.crashes == []
    assert tally.wrong == []
    assert tally.frames == 3_000
    assert tally.messages == tally.published + tally.duplicates + tally.dead_letters + tally.control
    assert min(tally.published, tally.duplicates, tally.dead_letters, tally.control) > 50


def test_a_gap_covers_what_was_missed_however_wrong_our_clock_is() -> None:
    """Otherwise a machine whose clock is behind is told that a gap is filled which still has a hole."""
    missed, uncovered = feeds_skew.uncovered(1, seed=5)
    assert missed > 100
    assert uncovered == 0
