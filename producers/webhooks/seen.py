"""Which events and signatures were accepted, so that none is accepted twice: in memory and in a file.

The file is `<TIDEWIRE_HOME>/webhooks/seen`: one line an event, written to the disk before the sender is told
202, read back at the start. It is a file and not a topic because it belongs to the one process that listens:
a look must be over before the answer, and needs no server but this one. Where the file is lost with its
machine, a recorded request can be sent again for at most ten minutes, and its news and trades are then known
to the log by their event ids.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from producers.webhooks.signature import WINDOW_SECONDS, Claims
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.errors import TidewireError

KEEP_NS = 2 * WINDOW_SECONDS * NS_PER_SECOND
"""One signed 300 s ahead can be sent again for 600 s."""
MOST = 200_000
"""Keys in memory, two an event; more are not accepted until some have expired."""
_COMPACT_LINES = 50_000


class Seen:
    """Keys with their expiry. `open` before anything else, `close` at the end."""

    def __init__(self, folder: Path, clock: Clock, *, most: int = MOST) -> None:
        self._path, self._clock, self._most = folder / "seen", clock, most
        self._expiry: dict[str, int] = {}
        self._claimed: set[str] = set()
        self._lines = 0
        self._file: IO[str] | None = None
        self._lock: IO[str] | None = None
        self._writing = asyncio.Lock()

    def open(self) -> None:
        """Read the file back and keep it for this process alone.

        Raises:
            TidewireError: another process has it, or the folder cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._path.with_suffix(".lock").open("a")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._path.exists():
                self._expiry = dict(_read(self._path.read_text("ascii", "replace").splitlines()))
            self._compact()
        except BlockingIOError:
            raise TidewireError("another webhook service of this TIDEWIRE_HOME runs; one is enough") from None
        except OSError as error:
            raise TidewireError(f"cannot write {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Let the file go."""
        for file in (self._file, self._lock):
            if file is not None:
                file.close()

    def known(self, claimed: Claims) -> bool:
        """Whether the event or the signature was accepted before, or is being worked on."""
        self._sweep()
        return any(key in self._expiry or key in self._claimed for key in _keys(claimed))

    @property
    def full(self) -> bool:
        """Whether no more can be remembered for now."""
        return len(self._expiry) + len(self._claimed) >= self._most

    def claim(self, claimed: Claims) -> None:
        """Work on it begins; others like it are repeats."""
        self._claimed.update(_keys(claimed))

    def give_up(self, claimed: Claims) -> None:
        """It failed before anything was done: the sender may try again."""
        self._claimed.difference_update(_keys(claimed))

    async def accept(self, claimed: Claims, *, done: bool = True) -> None:
        """Remember it on the disk; without `done`, its signature only. Raises OSError."""
        keys, expiry = _keys(claimed)[0 if done else 1 :], self._clock() + KEEP_NS
        async with self._writing:
            await asyncio.to_thread(self._append, keys, expiry)
        self._expiry |= dict.fromkeys(keys, expiry)
        self._claimed.difference_update(keys)

    def _append(self, keys: Iterable[str], expiry: int) -> None:
        if self._lines > _COMPACT_LINES and self._lines > 2 * len(self._expiry):
            self._compact()
        assert self._file is not None
        for key in keys:
            self._file.write(f"{expiry} {key}\n")
            self._lines += 1
        self._file.flush()
        os.fsync(self._file.fileno())

    def _compact(self) -> None:
        now = self._clock()
        live = {key: expiry for key, expiry in list(self._expiry.items()) if expiry > now}
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            file.writelines(f"{expiry} {key}\n" for key, expiry in live.items())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        if self._file is not None:
            self._file.close()
        self._file, self._lines = self._path.open("a"), len(live)

    def _sweep(self) -> None:
        """Entries stand in the order in which they expire, but for those of a clock that was set back."""
        now = self._clock()
        while self._expiry and (first := next(iter(self._expiry.items())))[1] <= now:
            del self._expiry[first[0]]


def _keys(claimed: Claims) -> tuple[str, str]:
    event = hashlib.sha256(claimed.event_id.encode()).hexdigest()[:32]
    return f"e{event}", f"s{claimed.signature[:32]}"


def _read(lines: Iterable[str]) -> Iterable[tuple[str, int]]:
    for line in lines:  # the last may be torn: its sender was not told 202
        expiry, _, key = line.partition(" ")
        if expiry.isdigit() and len(key) == 33:
            yield key, int(expiry)
