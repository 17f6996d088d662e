"""The simulator's ledger: every message that it published, whether or not a socket got it.

Files `NNNNNN.frames` hold entries of a 4-byte big-endian length and a msgpack list of messages as sent.
The last entry of a file may be cut off (the writer was killed): it was never published and is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from tidewire.errors import TidewireError
from verify.content import STOCKS_VENUE
from verify.messages import Collector

_LENGTH = 4
_PACK_EVERY = 500
"""Entries held as Python objects before they become columns."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was sent. `complete_from` > 0: the first so many messages had to be dropped from the ledger."""

    sent: Collector
    complete_from: int = 0


def read(folder: Path, venue: str = STOCKS_VENUE) -> Ledger:
    """Read a whole ledger of one venue.

    Raises:
        TidewireError: the folder is no ledger, or an entry in the middle of a file is broken.
    """
    if not folder.is_dir():
        raise TidewireError(f"no ledger at {folder}: name the simulator's with --ledger")
    collector = Collector(venue)
    for path in sorted(folder.glob("*.frames")):
        for number, frame in enumerate(frames(path)):
            collector.add(frame)
            if number % _PACK_EVERY == 0:
                collector.pack()
    return Ledger(collector, _complete_from(folder))


def frames(path: Path) -> Iterator[list[Any]]:
    """The frames of one ledger file; a cut-off last one is left out.

    Raises:
        TidewireError: an entry that is not the last cannot be read.
    """
    with path.open("rb") as file:
        while True:
            head = file.read(_LENGTH)
            length = int.from_bytes(head, "big")
            body = file.read(length) if len(head) == _LENGTH else b""
            if len(head) < _LENGTH or len(body) < length:
                return
            try:
                messages = msgpack.unpackb(body, strict_map_key=False)
            except (ValueError, msgpack.UnpackException) as error:
                raise TidewireError(f"{path} is broken at byte {file.tell() - length}: {error}") from error
            yield messages if isinstance(messages, list) else [messages]


def _complete_from(folder: Path) -> int:
    try:
        return int(json.loads((folder / "ledger.json").read_text("utf-8")).get("complete_from", 0))
    except (OSError, ValueError, AttributeError):
        return 0
