"""When services come back: a wrong rule leaves a user without a pipeline, or with a machine that spins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.errors import ConfigError, PoisonLimitError, RefusedError, SchemaError, UnreachableError
from tidewire.supervision import restart
from tidewire.supervision.restart import Life, Policy

POLICY = Policy()


def _running(at: float = 0.0, life: Life | None = None) -> Life:
    return restart.started(life or Life(), at)


def test_a_killed_service_is_due_again_within_its_delay_and_not_before() -> None:
    """Otherwise kill -9 of a processor would stop the features for longer than promised, or for ever."""
    life = restart.ended(_running(0.0), 100.0, -9, jitter=0.5, policy=POLICY)
    assert life.phase == "waiting"
    assert not restart.is_due(life, life.due - 0.001)
    assert restart.is_due(life, life.due)
    again = restart.started(life, life.due)
    assert (again.phase, again.restarts, again.since) == ("running", 1, life.due)


@pytest.mark.parametrize("error", [ConfigError, RefusedError, SchemaError, PoisonLimitError])
def test_an_exit_code_that_a_restart_cannot_help_ends_the_run(error: type[RefusedError]) -> None:
    """With wrong keys a user must read "402", not watch a producer that is restarted for ever."""
    life = restart.ended(_running(0.0), 500.0, error.exit_code, jitter=0.0, policy=POLICY)
    assert life.phase == "failed"
    assert life.last_exit == error.exit_code


def test_a_server_that_is_away_for_a_while_does_not_end_the_run() -> None:
    """A sink that gives up on PostgreSQL after its 30 s of patience is started again, however often."""
    life = _running(0.0)
    for number in range(100):
        life = restart.ended(life, number * 60 + 30.0, UnreachableError.exit_code, 0.5, POLICY)
        assert life.phase == "waiting"
        life = restart.started(life, (number + 1) * 60)


def test_a_service_that_never_works_is_given_up() -> None:
    """A broken installation must end with the service's own words, not with a screen that waits for ever."""
    life, now = _running(0.0), 0.0
    for _ in range(POLICY.tries_before_healthy - 1):
        life = restart.ended(life, now + 1, 1, 0.5, POLICY)
        assert life.phase == "waiting"
        now = life.due
        life = restart.started(life, now)
    assert restart.ended(life, now + 1, 1, 0.5, POLICY).phase == "failed"


def test_one_that_has_worked_before_is_never_given_up() -> None:
    """A processor that cannot start while Kafka is down for minutes must come back with Kafka."""
    life = restart.ended(_running(0.0), POLICY.healthy_after, -9, 0.5, POLICY)
    for _ in range(100):
        life = restart.ended(restart.started(life, life.due), life.due + 0.5, 1, 0.5, POLICY)
        assert life.phase == "waiting"


def test_repeated_kills_never_end_the_run() -> None:
    """The chaos cycle kills services faster than they become healthy; that is no reason to give up."""
    life = _running(0.0)
    for _ in range(100):
        life = restart.ended(life, life.since + 0.1, -9, 0.5, POLICY)
        assert life.phase == "waiting"
        life = restart.started(life, life.due)
    assert life.restarts == 100


def test_a_healthy_run_resets_the_delay() -> None:
    """A service killed once a day must not inherit yesterday's ten seconds."""
    life = _running(0.0)
    for _ in range(20):
        life = restart.started(restart.ended(life, life.since, -9, 1.0, POLICY), life.since)
    life = restart.ended(life, life.since + POLICY.healthy_after, -9, 1.0, POLICY)
    assert life.due - life.since == pytest.approx(POLICY.shortest)


def test_a_stopped_service_is_not_started_again() -> None:
    """Ctrl-C would race with restarts and leave processes behind."""
    life = restart.stopped(restart.ended(_running(0.0), 1.0, -9, 0.0, POLICY), 1.0)
    assert not restart.is_due(life, 1e9)


@given(
    ends=st.lists(st.tuples(st.floats(0, 100), st.sampled_from([-9, -15, 0, 1, 3, 4, 70])), max_size=60),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_delays_stay_within_bounds_and_grow(ends: list[tuple[float, int]], jitter: float) -> None:
    """Below 0.2 s a crash loop eats the CPU that Kafka needs; above 10 s the screen looks dead."""
    life, now, quick = _running(0.0), 0.0, 0
    for ran, code in ends:
        now += ran
        before = life
        life = restart.ended(life, now, code, jitter, POLICY)
        quick = 0 if ran >= POLICY.healthy_after else quick + 1
        assert life.quick_ends == quick
        if life.phase == "failed":
            assert code > 0
            assert quick >= POLICY.tries_before_healthy
            assert not before.was_healthy
            return
        delay = life.due - now
        assert POLICY.shortest - 1e-9 <= delay <= min(POLICY.longest, POLICY.shortest * 2**quick) + 1e-6
        now = life.due
        life = restart.started(life, now)
