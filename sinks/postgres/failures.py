"""What an error of PostgreSQL means for the sink: try again, look for a bad row, or stop."""

from __future__ import annotations

import re
from enum import Enum

import psycopg

_LINE = re.compile(r"COPY \S+, line (\d+)")

# Classes (the first two characters of a SQLSTATE) and single codes.
_ROW = ("22", "23", "54")  # data, constraints, limits (an index entry too large)
_WAIT = ("08", "40", "53", "55", "57", "58")  # connection, rollback, resources, locks, operator, disk
_READ_ONLY = "25006"  # a standby: the primary is being changed
_IDLE = "25P03"  # idle in transaction: we were stopped for too long
DISK_FULL = "53100"
_CHECK = "23514"


class Verdict(Enum):
    """RETRY the whole transaction; the ROW is at fault; a PARTITION is missing; STOP and tell."""

    RETRY = "retry"
    ROW = "row"
    PARTITION = "partition"
    STOP = "stop"


def judge(error: BaseException, *, broken: bool = False) -> Verdict:
    """Classify an error; `broken`: the connection is gone, whatever the error says."""
    state = getattr(error, "sqlstate", None)
    if broken or isinstance(error, psycopg.InterfaceError):
        return Verdict.RETRY
    if state is None:
        if isinstance(error, psycopg.OperationalError):
            return Verdict.RETRY
        row = isinstance(error, psycopg.DataError | OverflowError | ValueError | TypeError)
        return Verdict.ROW if row else Verdict.STOP
    if state == _CHECK and getattr(getattr(error, "diag", None), "constraint_name", None) is None:
        return Verdict.PARTITION  # "no partition of relation found for row" shares the code of CHECKs
    if state[:2] in _ROW:
        return Verdict.ROW
    return Verdict.RETRY if state[:2] in _WAIT or state in (_READ_ONLY, _IDLE) else Verdict.STOP


def copy_line(error: BaseException) -> int | None:
    """The row (from 0) at which COPY stopped, as far as its context says so."""
    match = _LINE.search(getattr(getattr(error, "diag", None), "context", None) or "")
    return int(match[1]) - 1 if match else None


def what_to_do(error: BaseException) -> str:
    """A hint for the log and /readyz; empty when waiting is all there is to do."""
    return "its disk is full: free some space" if getattr(error, "sqlstate", None) == DISK_FULL else ""
