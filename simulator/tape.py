"""The tape: every source merged by arrival time, in blocks; the order within one source is kept.

Sources of equal time keep the order of the list: files by name, trades before quotes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path

from simulator import jsonl, ticks
from simulator.rejects import Rejects
from simulator.wire import Message, Streams
from tidewire.errors import ConfigError

Blocks = Iterator[list[Message]]
_arrival = itemgetter(0)


class TickTape:
    """The files of a run. Can be read again from the start: the same messages come in the same order."""

    def __init__(self, paths: Sequence[Path], rejects: Rejects) -> None:
        """Look at every file's name and start.

        Raises:
            ConfigError: a path does not exist, or not one file can be used.
        """
        self._rejects = rejects
        missing = [str(path) for path in paths if not path.exists()]
        if missing:
            raise ConfigError([f"no such file or folder: {path}" for path in missing])
        self._files = [file for path in paths for file in _expand(path)]
        self._sources = [source for file in self._files if (source := self._source(file))]
        if not self._sources:
            reasons = [f"{f['file']}: {f['reason']}" for f in rejects.skipped_files[:20]]
            raise ConfigError(["no tick file among the given paths", *reasons])

    @property
    def identity(self) -> str:
        """Changes when the tape would be another one: files, their sizes and times."""
        parts = [f"{f.resolve()}:{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in self._files]
        return "|".join(parts)

    def read(self, streams: Streams) -> Blocks:
        """All messages from the start."""
        ordered = sorted(self._sources, key=lambda s: isinstance(s, ticks.TickFile) and s.kind == "quote")
        return merge(
            [
                ticks.read(s, streams, self._rejects)
                if isinstance(s, ticks.TickFile)
                else jsonl.read(s, streams, self._rejects)
                for s in ordered
            ]
        )

    def _source(self, path: Path) -> ticks.TickFile | Path | None:
        found = ticks.recognise(path)
        reason: str | None
        if isinstance(found, ticks.TickFile):
            reason = ticks.check_header(found)
            if reason is None:
                return found
        elif jsonl.NAME.fullmatch(path.name):
            reason = jsonl.check_start(path)
            if reason is None:
                return path
        else:
            reason = f"{found}, nor *.jsonl[.gz]"
        self._rejects.skip(str(path), reason)
        return None


def _expand(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def merge(sources: Sequence[Blocks]) -> Blocks:
    """Merge by arrival time. A source's blocks must not end within messages of one arrival time."""
    heads = [(block, source) for source in sources if (block := next(source, None))]
    while heads:
        reach = min(block[-1][0] for block, _ in heads)
        merged: list[Message] = []
        rest = []
        for block, source in heads:
            cut = bisect_right(block, reach, key=_arrival)
            merged += block[:cut]
            remaining = block[cut:] or next(source, [])
            if remaining:
                rest.append((remaining, source))
        merged.sort(key=_arrival)
        heads = rest
        yield merged
