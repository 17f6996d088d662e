"""The tape: every source merged by arrival time, in blocks; the order within one source is kept.

Sources of equal time keep the order of the list: files by name, trades before quotes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Protocol

from simulator import jsonl, ticks
from simulator.crypto import recording
from simulator.news import headlines
from simulator.rejects import Rejects
from simulator.wire import Message, Streams
from tidewire.errors import ConfigError

Blocks = Iterator[list[Message]]
_arrival = itemgetter(0)


class Source(Protocol):
    """One file as messages, in blocks that never end within messages of one arrival time."""

    def read(self, streams: Streams, rejects: Rejects) -> Blocks:
        """The messages from the start."""
        ...


@dataclass(frozen=True)
class _Ticks:
    file: ticks.TickFile

    def read(self, streams: Streams, rejects: Rejects) -> Blocks:
        return ticks.read(self.file, streams, rejects)


@dataclass(frozen=True)
class _JsonLines:
    path: Path

    def read(self, streams: Streams, rejects: Rejects) -> Blocks:
        return jsonl.read(self.path, streams, rejects)


@dataclass(frozen=True)
class _Recording:
    path: Path

    def read(self, streams: Streams, rejects: Rejects) -> Blocks:
        return recording.Recording(self.path, streams, rejects).read()


class Inputs:
    """The files of a run by the venue that they feed, recognised by name or first line."""

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
        self._stocks: dict[Path, Source] = {}
        self._crypto: dict[Path, Source] = {}
        self._headlines: list[Path] = []
        self._entities: list[Path] = []
        for file in self._files:
            self._sort(file)
        if not (self._stocks or self._crypto or self._headlines or self._entities):
            reasons = [f"{f['file']}: {f['reason']}" for f in rejects.skipped_files[:20]]
            raise ConfigError(["no tick file among the given paths", *reasons])

    def stocks(self) -> RecordedTape:
        """The tape of the stock venue."""
        late = [f for f, s in self._stocks.items() if isinstance(s, _Ticks) and s.file.kind == "quote"]
        first = [f for f in self._stocks if f not in late]
        return RecordedTape([*first, *late], [self._stocks[f] for f in (*first, *late)], self._rejects)

    def crypto(self) -> RecordedTape:
        """The tape of the crypto venue."""
        return RecordedTape(list(self._crypto), list(self._crypto.values()), self._rejects)

    def news(self) -> RecordedTape:
        """The tape of the news venue; files of entities feed it alone only when there are no headlines."""
        beside = [
            path.with_name(path.name.replace("headlines", "entities"))
            for path in self._headlines
            if "headlines" in path.name
        ]
        found = [path for path in beside if path.exists() and headlines.recognise(path) == "entities"]
        entities = list(dict.fromkeys([*self._entities, *found]))
        articles = self._headlines or self._entities
        sources = [headlines.Headlines(path, entities) for path in articles]
        return RecordedTape([*articles, *entities], sources, self._rejects)

    def _sort(self, path: Path) -> None:
        if recording.recognise(path):
            self._crypto[path] = _Recording(path)
        elif (shape := headlines.recognise(path)) is not None:
            (self._headlines if shape == "headlines" else self._entities).append(path)
        elif (source := self._stock_source(path)) is not None:
            self._stocks[path] = source

    def _stock_source(self, path: Path) -> Source | None:
        found = ticks.recognise(path)
        reason: str | None
        if isinstance(found, ticks.TickFile):
            reason = ticks.check_header(found)
            if reason is None:
                return _Ticks(found)
        elif jsonl.NAME.fullmatch(path.name):
            reason = jsonl.check_start(path)
            if reason is None:
                return _JsonLines(path)
        else:
            reason = f"{found}, nor *.jsonl[.gz], a crypto recording or headlines"
        self._rejects.skip(str(path), reason)
        return None


class RecordedTape:
    """The sources of one venue. Can be read again from the start: the same messages, in the same order."""

    def __init__(self, files: Sequence[Path], sources: Sequence[Source], rejects: Rejects) -> None:
        self._files = files
        self._sources = sources
        self._rejects = rejects

    @property
    def empty(self) -> bool:
        """No file feeds this venue."""
        return not self._sources

    @property
    def identity(self) -> str:
        """Changes when the tape would be another one: files, their sizes and times."""
        parts = [f"{f.resolve()}:{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in self._files]
        return "|".join(parts)

    def read(self, streams: Streams) -> Blocks:
        """All messages from the start."""
        return merge([source.read(streams, self._rejects) for source in self._sources])


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
