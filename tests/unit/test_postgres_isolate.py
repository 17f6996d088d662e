"""Without these a bad row could take good ones with it, or be given up although it is sound."""

from __future__ import annotations

import random
from collections.abc import Callable

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors

from sinks.postgres.failures import Verdict, copy_line, judge, what_to_do
from sinks.postgres.isolate import RowRefusedError, isolate
from tidewire.errors import PoisonLimitError


def server(bad: set[int], stored: list[int], tell: Callable[[int], int | None]) -> Callable[[int, int], int]:
    """A PostgreSQL that refuses these rows and takes an attempt whole or not at all."""

    def attempt(start: int, stop: int) -> int:
        refused = [row for row in range(start, stop) if row in bad]
        if refused:
            raise RowRefusedError(tell(refused[0] - start), "22021", f"row {refused[0]}")
        stored.extend(range(start, stop))
        return stop - start

    return attempt


@given(st.integers(0, 200), st.sets(st.integers(0, 199), max_size=40), st.integers())
def test_exactly_the_bad_rows_are_left_out_whatever_the_server_says_about_lines(
    count: int, bad: set[int], seed: int
) -> None:
    bad = {row for row in bad if row < count}
    liar = random.Random(seed)
    for tell in (lambda line: line, lambda _: None, lambda _: liar.choice([None, -5, 0, 3, 10_000])):
        stored: list[int] = []
        new, found = isolate(count, server(bad, stored, tell), limit=count)
        assert stored == [row for row in range(count) if row not in bad]  # in order, each once
        assert [row.index for row in found] == sorted(bad)
        assert [row.reason for row in found] == [f"row {row}" for row in sorted(bad)]
        assert new == len(stored)


def test_a_named_line_costs_few_attempts() -> None:
    stored: list[int] = []
    attempts = 0
    inner = server({4_321}, stored, lambda line: line)

    def attempt(start: int, stop: int) -> int:
        nonlocal attempts
        attempts += 1
        return inner(start, stop)

    isolate(10_000, attempt, limit=1)
    assert attempts == 4  # all, before, the row, after


def test_more_bad_rows_than_the_limit_stop_it() -> None:
    bad = set(range(11))
    assert len(isolate(1000, server(bad, [], lambda line: line), limit=11)[1]) == 11
    with pytest.raises(PoisonLimitError, match="row 0"):
        isolate(1000, server(bad, [], lambda line: line), limit=10)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), Verdict.RETRY),
        (psycopg.InterfaceError("the connection is closed"), Verdict.RETRY),
        (errors.AdminShutdown(), Verdict.RETRY),
        (errors.CannotConnectNow(), Verdict.RETRY),
        (errors.SerializationFailure(), Verdict.RETRY),
        (errors.DeadlockDetected(), Verdict.RETRY),
        (errors.DiskFull(), Verdict.RETRY),
        (errors.ReadOnlySqlTransaction(), Verdict.RETRY),
        (errors.IdleInTransactionSessionTimeout(), Verdict.RETRY),
        (errors.LockNotAvailable(), Verdict.RETRY),
        (errors.CharacterNotInRepertoire(), Verdict.ROW),
        (errors.NotNullViolation(), Verdict.ROW),
        (errors.ProgramLimitExceeded(), Verdict.ROW),  # an index entry larger than a third of a page
        (errors.NumericValueOutOfRange(), Verdict.ROW),
        (OverflowError(), Verdict.ROW),
        (ValueError(), Verdict.ROW),
        (errors.CheckViolation(), Verdict.PARTITION),  # with no constraint named: no partition for the row
        (errors.UndefinedTable(), Verdict.STOP),
        (errors.InsufficientPrivilege(), Verdict.STOP),
        (errors.SyntaxError(), Verdict.STOP),
        (RuntimeError("a bug"), Verdict.STOP),
    ],
)
def test_each_kind_of_error_is_met_as_it_deserves(error: Exception, verdict: Verdict) -> None:
    assert judge(error) is verdict


def test_a_broken_connection_is_never_the_fault_of_a_row() -> None:
    assert judge(errors.NumericValueOutOfRange(), broken=True) is Verdict.RETRY
    assert copy_line(errors.NumericValueOutOfRange()) is None
    assert "disk is full" in what_to_do(errors.DiskFull())
    assert what_to_do(errors.AdminShutdown()) == ""
