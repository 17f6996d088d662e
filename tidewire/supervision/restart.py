"""When a service that ended is started again: pure, on a clock that is passed in.

A service that ends is started again after a jittered, growing delay. Two ends are final: an exit code that
says trying again cannot help, and a service that fails at once, again and again, without ever having worked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tidewire.errors import ConfigError, PoisonLimitError, RefusedError, SchemaError

FINAL_EXITS = frozenset(e.exit_code for e in (ConfigError, RefusedError, SchemaError, PoisonLimitError))
"""Exit codes after which a restart would only repeat the failure."""

Phase = Literal["stopped", "queued", "running", "waiting", "failed"]
"""`queued`: its first start is to come; `waiting`: it ended and is started again."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Delays in seconds. A service that ran for `healthy_after` starts again from the shortest delay."""

    shortest: float = 0.2
    longest: float = 10.0
    healthy_after: float = 10.0
    tries_before_healthy: int = 8


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of one service: its phase since when (monotonic seconds), and how it has ended so far."""

    phase: Phase = "stopped"
    since: float = 0.0
    due: float = 0.0
    quick_ends: int = 0
    restarts: int = 0
    was_healthy: bool = False
    last_exit: int | None = None


def started(life: Life, now: float) -> Life:
    """The service was started at `now`; not its first start counts as a restart."""
    again = 1 if life.phase == "waiting" else 0
    return replace(life, phase="running", since=now, restarts=life.restarts + again)


def ended(life: Life, now: float, exit_code: int, jitter: float, policy: Policy) -> Life:
    """The service ended at `now` by itself.

    `exit_code` is negative for a signal; `jitter` is uniform in [0, 1). The result is `waiting`, with the
    time at which to start it again in `due`, or `failed`.
    """
    healthy = now - life.since >= policy.healthy_after
    quick_ends = 0 if healthy else life.quick_ends + 1
    was_healthy = life.was_healthy or healthy
    hopeless = exit_code > 0 and not was_healthy and quick_ends >= policy.tries_before_healthy
    if exit_code in FINAL_EXITS or hopeless:
        return replace(life, phase="failed", since=now, quick_ends=quick_ends, last_exit=exit_code)
    return replace(
        life,
        phase="waiting",
        since=now,
        due=now + _delay(quick_ends, jitter, policy),
        quick_ends=quick_ends,
        was_healthy=was_healthy,
        last_exit=exit_code,
    )


def queued(life: Life, now: float, latest: float) -> Life:
    """The service is to be started for the first time when others are ready, at `latest` without them."""
    return replace(life, phase="queued", since=now, due=latest)


def stopped(life: Life, now: float) -> Life:
    """The service was stopped on purpose at `now`."""
    return replace(life, phase="stopped", since=now)


def is_due(life: Life, now: float) -> bool:
    """Whether it is time to start the service again."""
    return life.phase == "waiting" and now >= life.due


def _delay(quick_ends: int, jitter: float, policy: Policy) -> float:
    most = min(policy.longest, policy.shortest * 2.0 ** min(quick_ends, 30))
    return policy.shortest + (most - policy.shortest) * jitter
