"""Which topics have owners whose records may be stale, and within what. Pure.

Market data and news have one owner a topic; order events and snapshots one an account. All other topics are
written by many, or by nobody that owns a feed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.catalogue import ACCOUNT_SNAPSHOTS, NEWS, TRADE_UPDATES

_MARKETS = ("alpaca.stocks.", "alpaca.options.", "alpaca.crypto.")
WHOLE_PARTITION = ""


def is_fenced(topic: str) -> bool:
    """Whether records of this catalogue topic may be a stale owner's."""
    return topic.startswith(_MARKETS) or topic in (NEWS, TRADE_UPDATES, ACCOUNT_SNAPSHOTS)


def fence_key(topic: str, record: Mapping[str, Any]) -> str:
    """Within what a record of a fenced topic is compared: its account, or the whole partition."""
    if topic in (TRADE_UPDATES, ACCOUNT_SNAPSHOTS):
        account: str = record["account"]
        return account
    return WHOLE_PARTITION
