"""Folds that tell: what a snapshot or an activity says against our own figures, in log and metrics."""

from __future__ import annotations

from processors.portfolio.account import Difference
from processors.portfolio.book import UNKNOWN, Book
from schemas.codec import Record
from tidewire import log, metrics

_log = log.get(__name__)


def fold_snapshot(book: Book, snapshot: Record, offset: int) -> str:
    """Fold a snapshot; say where it differs from what the fills come to."""
    result, differences = book.fold_snapshot(snapshot, offset)
    for difference in differences:
        _tell(snapshot["account"], difference)
    return result


def fold_activity(book: Book, activity: Record, offset: int) -> str:
    """Fold an activity; say when it moves a quantity in a way that is not known."""
    result = book.fold_activity(activity, offset)
    if result == UNKNOWN:
        _log.warning(
            "an activity with a quantity whose meaning is not known",
            account=activity["account"],
            activity_type=activity["activity_type"],
            id=activity["activity_id"],
        )
    return result


def _tell(account: str, difference: Difference) -> None:
    what = "cash" if difference.symbol is None else "quantity"
    metrics.PORTFOLIO_DIFFERENCES.labels(what).inc()
    tell = _log.error if difference.unexplained else _log.warning
    tell(
        "unexplained: two snapshots differ from what the fills come to"
        if difference.unexplained
        else "the broker says otherwise",
        account=account,
        what=difference.symbol or what,
        ours=str(difference.ours),
        theirs=str(difference.theirs),
    )
