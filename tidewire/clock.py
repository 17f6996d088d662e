"""The two clocks, in one place so that tests can pass their own."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns nanoseconds since 1970-01-01 UTC."""

NS_PER_SECOND = 1_000_000_000
NS_PER_DAY = 86_400 * NS_PER_SECOND
NS_PER_MS = 1_000_000

now_ns: Clock = time.time_ns
