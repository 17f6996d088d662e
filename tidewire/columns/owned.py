"""Decoded records without those of stale owners."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from tidewire.columns.decoded import Decoded
from tidewire.fence import LogFence


def owned(fence: LogFence, decoded: Decoded) -> tuple[Decoded, int]:
    """The records that are no stale owner's, and how many were left out.

    The frame needs the columns owner_epoch and source.
    """
    frame = decoded.frame
    epochs = frame.get_column("owner_epoch").to_numpy()
    stale = fence.stale_rows(epochs, frame.get_column("source"), decoded.offsets)
    if stale is None:
        return decoded, 0
    rest = frame.filter(pl.Series(~stale))
    return replace(decoded, frame=rest, offsets=decoded.offsets[~stale]), int(stale.sum())
