"""A lasting name within a consumer group, so that a process that was killed gets its part back at once.

Kafka gives a group member's partitions away only after its session has timed out. A member with a fixed
instance id takes its predecessor's place without that wait. The id belongs to a slot, a file below
TIDEWIRE_HOME that is locked for as long as the process lives: several on one machine take several.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path

SLOTS = 256


class Slot:
    """The first free slot of a kind (`sink`) in a folder; `instance` is its lasting id.

    Raises:
        OSError: the folder cannot be written, or all slots are taken.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self._kind = kind
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(SLOTS):
            # Not inherited by children (O_CLOEXEC is Python's default): the lock ends with this process.
            self._file = os.open(folder / f"{kind}-{number}.slot", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._file)
                continue
            self.instance = self._name()
            return
        raise OSError(f"all {SLOTS} slots in {folder} are taken")

    def _name(self) -> str:
        text = os.read(self._file, 100).decode("ascii", "replace").strip()
        if not text:
            text = f"{self._kind}-{uuid.uuid4()}"
            os.write(self._file, text.encode())
        return text

    def release(self) -> None:
        """Leave the slot to another process."""
        os.close(self._file)
