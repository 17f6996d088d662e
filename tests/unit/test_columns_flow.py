"""What Faust empties when records flow: a standby with a hole would take over with wrong volumes."""

from __future__ import annotations

import asyncio

from mode.utils.queues import FlowControlQueue

from processors.columns.app import _Flow


async def test_changelogs_that_are_being_read_are_not_thrown_away() -> None:
    """Faust resumes once more when its recovery ends: by then a standby's records may stand in the queue."""
    made: list[FlowControlQueue] = []
    flow = _Flow(lambda: made[0], asyncio.get_running_loop())
    made += [FlowControlQueue(flow_control=flow, clear_on_resume=True) for _ in range(2)]
    changelogs, stream = made
    changelogs.put_nowait("of an older generation")
    flow.resume()
    assert changelogs.empty()
    for queue in made:
        queue.put_nowait("read since")
    flow.resume()
    assert flow.is_active()
    assert changelogs.qsize() == 1
    assert stream.empty()  # it is read again: the offsets were sought back
    flow.suspend()
    flow.resume()
    assert changelogs.empty()
