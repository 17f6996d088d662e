"""The simulator's ledgers, read without its code: what a venue published, message by message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack


def messages(folder: Path) -> Iterator[dict[str, Any]]:
    """Every message of a ledger's files: frames of a length (4 bytes, big endian) and a msgpack list."""
    for path in sorted(folder.glob("*.frames")):
        raw = path.read_bytes()
        at = 0
        while at < len(raw):
            length = int.from_bytes(raw[at : at + 4], "big")
            yield from msgpack.unpackb(raw[at + 4 : at + 4 + length])
            at += 4 + length
