"""Places where tests of reliability kill this process: nothing unless TIDEWIRE_TEST_FAILPOINT names one.

`TIDEWIRE_TEST_FAILPOINT=post.after:3` kills with SIGKILL when the third order has been answered;
`post.before:3:stop` stops there with SIGSTOP, as a machine that hangs, and goes on when it is woken.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from tidewire.errors import ConfigError

VARIABLE = "TIDEWIRE_TEST_FAILPOINT"
NAMES = (
    "intent.before",
    "intent.after",
    "risk.before",
    "risk.after",
    "sending.before",
    "post.before",
    "post.checked",
    "post.after",
    "answer.after",
    "commit.before",
    "commit.after",
)
"""Around the durable intent, the checks, the durable order, its POST (`checked`: after the last look), the
durable answer, Kafka's commit."""

Failpoint = Callable[[str], None]


def none(_: str) -> None:
    """No test wants anything."""


def from_environment() -> Failpoint:
    """What the environment asks for.

    Raises:
        ConfigError: it names no failpoint.
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return none
    name, _, rest = wanted.partition(":")
    count, _, how = rest.partition(":")
    if name not in NAMES or not (count or "1").isdigit() or how not in ("", "stop"):
        raise ConfigError([f"{VARIABLE}: name:count[:stop] expected, names are {', '.join(NAMES)}"])
    return _Countdown(name, int(count or "1"), signal.SIGSTOP if how else signal.SIGKILL)


class _Countdown:
    def __init__(self, name: str, count: int, how: signal.Signals) -> None:
        self._name, self._left, self._how = name, count, how

    def __call__(self, name: str) -> None:
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._how)
