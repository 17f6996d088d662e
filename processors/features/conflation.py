"""Conflation by event time: what a symbol's features were at the end of each interval is always sent.

A component of a row (trades, or quotes) stands in the interval of its newest event time, which only rises.
What it was when it left an interval must have been sent, or else batches would decide which states a reader
sees. So where a batch takes a component out of an interval whose last state nobody has sent yet, that state
is kept apart (`Folded.closed`), to be sent before anything newer.

A batch is cut into spans: the records of one row between two such moves. Each span is folded like a row of
its own, and running totals over a row's spans give its state at the end of each, in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from processors.columns.groups import Groups
from processors.columns.matrix import Ints, Matrix, Rows
from processors.features.folded import Closed

INTERVAL_NS = 10_000_000_000
"""Length of an interval of event time. It divides an hour, so a session never changes within one."""

_LANE = 32  # bits: interval numbers of event times before 2100 need as many

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Spans:
    """`groups` has a group per span, a row's spans in the order of their offsets; `first` says which spans
    are the first of their row, `last` which are the last. None: every row has one span, as most batches do.

    `opening`: what the first spans find, where that leaves an interval whose last state nobody has sent.
    """

    groups: Groups
    first: Mask | None
    last: Mask | None
    opening: tuple[Closed, ...]

    def counts(self, before: Ints) -> Ints:
        """Records of each span, those of its row's earlier ones and `before`, what the row had counted."""
        return running(self.groups.lengths, before, self.first)

    def begun(self, session: Ints) -> Mask | None:
        """Spans with which a row or a session begins; `session`: that of each span. None: all."""
        if self.first is None:
            return None
        return self.first | np.concatenate(([True], session[1:] != session[:-1]))

    def finals(self, new: Ints) -> tuple[Rows, Ints]:
        """Each row and its words after the batch, of the words after each span."""
        return (self.groups.rows, new) if self.last is None else (self.groups.rows[self.last], new[self.last])

    def closed(self, new: Ints) -> tuple[Closed, ...]:
        """The states that must be sent before the rows' last ones; `new`: the words after each span."""
        if self.last is None:
            return self.opening
        return (*self.opening, Closed(self.groups.rows[~self.last], new[~self.last]))


def cut(matrix: Matrix, groups: Groups, ts: Ints, newest_word: int, folded_word: int) -> Spans:
    """Cut a batch. `ts`: event times in the order of the groups; `newest_word` holds a row's newest event
    time in ns, `folded_word` how many records its component has folded."""
    opening = _opening(matrix, groups, ts, newest_word, folded_word)
    if int(ts.min()) // INTERVAL_NS == int(ts.max()) // INTERVAL_NS:  # nearly every batch of a live stream
        return Spans(groups, None, None, opening)
    stored, intervals = matrix.values[groups.rows, newest_word] // INTERVAL_NS, ts // INTERVAL_NS
    lanes = groups.spread(np.arange(len(groups.rows), dtype=np.int64) << _LANE)
    standing = np.maximum.accumulate(lanes + np.maximum(intervals, groups.spread(stored)))
    starts = np.concatenate(([0], np.flatnonzero(standing[1:] != standing[:-1]) + 1))
    if len(starts) == len(groups.starts):
        return Spans(groups, None, None, opening)
    lane = standing[starts] >> _LANE
    begins = lane[1:] != lane[:-1]
    first, last = np.concatenate(([True], begins)), np.concatenate((begins, [True]))
    ends = np.append(starts[1:], len(groups.order)) - 1
    spans = Groups(
        groups.order, starts, ends, ends - starts + 1, groups.rows[lane], groups.touched, groups.repeated
    )
    return Spans(spans, first, last, opening)


def leaves(stored: int, ts: int) -> bool:
    """Whether an event time takes a component with this newest one into a later interval."""
    return ts // INTERVAL_NS > stored // INTERVAL_NS


def _opening(
    matrix: Matrix, groups: Groups, ts: Ints, newest_word: int, folded_word: int
) -> tuple[Closed, ...]:
    # After a crash that may have prevented the send, repeats are all that says so.
    unsent = np.ones(len(groups.rows), bool) if groups.repeated else matrix.announced(groups.rows)
    if not unsent.any():
        return ()
    stored = matrix.values[groups.rows]
    leaving = ts[groups.starts] // INTERVAL_NS > stored[:, newest_word] // INTERVAL_NS
    closing = unsent & leaving & (stored[:, folded_word] > 0)
    return (Closed(groups.rows[closing], stored[closing]),) if closing.any() else ()


def running(totals: Ints, before: Ints, begun: Mask | None) -> Ints:
    """Totals by span added up over a row's spans, beginning anew at `before` where `begun` is true.

    `begun` is true of the first span; None: of all.
    """
    if begun is None:
        return before + totals
    starts = np.flatnonzero(begun)
    sums = np.cumsum(totals + np.where(begun, before, 0))
    base = np.concatenate(([0], sums[starts[1:] - 1]))
    result: Ints = sums - np.repeat(base, np.diff(starts, append=len(sums)))
    return result


def running_greatest(greatest: Ints, before: Ints, begun: Mask | None) -> Ints:
    """The same for the greatest values; by ranks, as an integer has no room for a row and a price."""
    if begun is None:
        return np.maximum(before, greatest)
    values = np.where(begun, np.maximum(before, greatest), greatest)
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(len(values))
    lanes = (np.cumsum(begun) - 1) * len(values)
    result: Ints = values[order[np.maximum.accumulate(lanes + ranks) - lanes]]
    return result


def running_least(least: Ints, before: Ints, begun: Mask | None) -> Ints:
    """The same for the least values; none is negative."""
    return np.minimum(before, least) if begun is None else -running_greatest(-least, -before, begun)
