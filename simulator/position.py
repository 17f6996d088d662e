"""How far the tape has got, so that a killed simulator goes on where its ledger ends.

Before each append to the ledger the intent is written here: from which tape message to which, and where in
the ledger it goes. After a kill the ledger holds all of it (the tape goes on behind it), or not all: then
what is there is cut off and the tape repeats it. Nothing of it can have reached a client, since sockets come
after.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

_RECORD = 512


@dataclass(frozen=True, slots=True)
class Intent:
    """One append: tape messages [before, after), ledger file and offsets [start, stop)."""

    tape_before: int
    tape_after: int
    file: int
    start: int
    stop: int
    finished: bool = False


class PositionFile:
    """The last intent, overwritten in place; the subscriptions and the tape's identity beside it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "position.json"
        self._run = folder / "run.json"
        self._descriptor = -1

    def load(self) -> Intent | None:
        """The last intent, if there is one."""
        try:
            return Intent(**json.loads(self._path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def open(self, *, fresh: bool) -> None:
        """Open for writing; `fresh` forgets the old intent."""
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if fresh else 0)
        self._descriptor = os.open(self._path, flags, 0o644)

    def write(self, intent: Intent) -> None:
        """Replace the intent with one write."""
        os.pwrite(self._descriptor, json.dumps(asdict(intent)).ljust(_RECORD).encode(), 0)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def load_run(self) -> tuple[str, dict[str, list[str]]]:
        """Identity of the tape and the last subscriptions; empty when unknown."""
        try:
            run = json.loads(self._run.read_text())
            return str(run["identity"]), dict(run["subscriptions"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", {}

    def save_run(self, identity: str, subscriptions: dict[str, list[str]]) -> None:
        """Remember the tape and the subscriptions in force."""
        new = self._run.with_suffix(".new")
        new.write_text(json.dumps({"identity": identity, "subscriptions": subscriptions}))
        new.replace(self._run)


def resume_point(intent: Intent | None, ledger_end: tuple[int, int]) -> tuple[int, int | None]:
    """(tape messages to pass over, offset at which to cut the ledger's newest file or None)."""
    if intent is None:
        return 0, None
    file, size = ledger_end
    if file == intent.file and size < intent.stop:
        return intent.tape_before, min(size, intent.start)
    return intent.tape_after, None
