"""A worker that hangs before it serves is seen; one that gets on, waits or was stopped is left alone.

If this fails, a service that missed an event of its recovery keeps its partitions for ever and fires nothing.
"""

from __future__ import annotations

from processors.standstill import Standstill


def test_only_looks_in_a_row_without_any_change_count() -> None:
    """A slow recovery, a Kafka that is away and a long sleep are no standstill."""
    still = Standstill(looks=3)
    assert [still.look(False, 1) for _ in range(3)] == [False, False, False]
    assert still.look(False, 1)

    still = Standstill(looks=3)
    assert not any(still.look(False, read) for read in range(20))  # it reads on
    assert not any(still.look(True, 20) for _ in range(20))  # it serves, or Kafka is away
    assert [still.look(False, 20) for _ in range(3)] == [False, False, True]
