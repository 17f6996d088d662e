"""The time in the id of an account activity, as Alpaca writes it. Pure.

An id is `yyyymmddHHMMSSmmm::uuid` by New York's clock: the FILL activities that were collected have a
transaction_time in UTC beside it, and differ by four hours in summer and five in winter.
"""

from __future__ import annotations

import re
from datetime import datetime
from zoneinfo import ZoneInfo

_NEW_YORK = ZoneInfo("America/New_York")
_ID = re.compile(r"(\d{14})(\d{3})(::.*)?", re.ASCII | re.DOTALL)


def moment(activity_id: str) -> int:
    """When the activity happened, ns since 1970 UTC, to the millisecond before.

    In the hour that an autumn night has twice it is the first of the two: never later than the activity, but
    perhaps an hour before it.

    Raises:
        ValueError: the id does not begin with a time.
    """
    found = _ID.fullmatch(activity_id)
    if found is None:
        raise ValueError(f"activity id {activity_id!r:.60} does not begin with yyyymmddHHMMSSmmm")
    second = datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=_NEW_YORK)
    return int(second.timestamp()) * 1_000_000_000 + int(found[2]) * 1_000_000
