"""Names of exits and of the orders that follow from them: the same wherever they are made, however often."""

from __future__ import annotations

from hashlib import blake2b

PREFIX = "tw-"
"""Every client_order_id of tidewire begins so: what does not is somebody else's order."""


def trigger_name(account: str, symbol: str, position_epoch: int, exit_epoch: int) -> str:
    """The trigger_id of an exit, also its intent_id: one a position and exit epoch, whichever rule fires.

    `symbol` is the position's. Names of accounts hold no `:`, so the parts can be told apart.
    """
    return f"{account}:{symbol}:{position_epoch}:{exit_epoch}"


def client_order_id(intent_id: str, attempt: int) -> str:
    """What the broker knows an attempt of an intent by; Alpaca refuses a second order with the same one.

    At most 128 characters (Alpaca's limit), whatever the intent is called.
    """
    return f"{PREFIX}{blake2b(intent_id.encode(), digest_size=16).hexdigest()}-{attempt}"
