"""What was published, on disk: the truth that a completeness report compares with.

`<folder>/NNNNNN.frames` hold entries of [4-byte big-endian length][msgpack array of message maps as sent].
`ledger.json` says from which message on the files are complete and how many each channel had before.
An append is one write of whole entries, so a killed simulator leaves at most a torn tail, which is cut off.
"""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack

from simulator.history import Place

_LENGTH = 4
_INDEX = "ledger.json"


class Ledger:
    """Append-only files of published messages, the oldest dropped when all are larger than `total_bytes`."""

    def __init__(self, folder: Path, file_bytes: int, total_bytes: int) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._total_bytes = total_bytes
        self._files: deque[int] = deque()
        self._before: dict[int, dict[str, int]] = {}
        self._descriptor = -1
        self._readers: dict[int, int] = {}
        self.counts: Counter[str] = Counter()
        """Messages published since the ledger was last emptied, by channel."""
        self.end = (0, 0)
        """File number and offset at which the next entry is written."""

    def open(self, *, fresh: bool) -> None:
        """Open for appending; `fresh` empties it first. Call `recover` next when it is not fresh.

        Raises:
            OSError: the folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        numbers = sorted(int(path.stem) for path in self._folder.glob("[0-9]*.frames"))
        if fresh:
            for number in numbers:
                self._path(number).unlink()
            numbers = []
        self._files = deque(numbers)
        if numbers:
            self._before = self._load_index()
        for number in numbers:
            self._before.setdefault(number, {})
        self._use(numbers[-1] if numbers else 1)

    def cut(self, file: int, offset: int) -> None:
        """Drop everything of the newest file behind an offset."""
        assert file == self.end[0], "only the newest file is ever cut"
        os.ftruncate(self._descriptor, offset)
        self.end = (file, offset)

    def recover(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Every message with its place; a torn last entry is cut off. Counts are the caller's."""
        for number in list(self._files):
            data = self._path(number).read_bytes()
            offset = 0
            while (stop := _entry_end(data, offset)) is not None:
                yield from _messages(data, offset + _LENGTH, stop, number)
                offset = stop
            if number == self.end[0]:
                self.cut(number, offset)

    @property
    def counts_before(self) -> dict[str, int]:
        """Messages by channel in files that have been dropped."""
        return dict(self._before.get(self._files[0], {})) if self._files else {}

    def rotate_if_full(self) -> None:
        """Go on in a new file when the newest is large enough; drops the oldest beyond the bound."""
        if self.end[1] < self._file_bytes:
            return
        self._use(self.end[0] + 1)
        while len(self._files) > 1 and self._size() > self._total_bytes:
            dropped = self._files.popleft()
            self._before.pop(dropped, None)
            if (reader := self._readers.pop(dropped, None)) is not None:
                os.close(reader)
            self._path(dropped).unlink()
        self._save_index()

    def append(self, entries: Sequence[bytes]) -> list[int]:
        """Write entries (msgpack arrays) with one call; returns the offset of each array.

        Raises:
            OSError: the disk is full or gone; nothing of the entries counts.
        """
        file, offset = self.end
        data = b"".join(part for entry in entries for part in (len(entry).to_bytes(4, "big"), entry))
        written = os.pwrite(self._descriptor, data, offset)
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], offset + written)
        places = []
        for entry in entries:
            places.append(offset + _LENGTH)
            offset += _LENGTH + len(entry)
        self.end = (file, offset)
        return places

    def read(self, place: Place) -> dict[str, Any] | None:
        """A published message; None when its file has been dropped."""
        if not self._files or place.file < self._files[0]:
            return None
        reader = self._readers.get(place.file)
        if reader is None:
            reader = self._readers[place.file] = os.open(self._path(place.file), os.O_RDONLY)
        message: dict[str, Any] = msgpack.unpackb(os.pread(reader, place.size, place.offset))
        return message

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self._descriptor, *self._readers.values()):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = -1
        self._readers.clear()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.frames"

    def _size(self) -> int:
        return sum(self._path(number).stat().st_size for number in self._files)

    def _use(self, number: int) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = os.open(self._path(number), os.O_RDWR | os.O_CREAT, 0o644)
        self.end = (number, os.fstat(self._descriptor).st_size)
        if number not in self._files:
            self._files.append(number)
            self._before[number] = dict(self.counts)
            self._save_index()

    def _save_index(self) -> None:
        first = self._before.get(self._files[0], {})
        files = {f"{number:06d}": self._before.get(number, {}) for number in self._files}
        index = {"complete_from": sum(first.values()), "published_before": files}
        path = self._folder / _INDEX
        path.with_suffix(".new").write_text(json.dumps(index))
        path.with_suffix(".new").replace(path)

    def _load_index(self) -> dict[int, dict[str, int]]:
        try:
            index = json.loads((self._folder / _INDEX).read_text())
            return {int(name): dict(counts) for name, counts in index["published_before"].items()}
        except (OSError, ValueError, KeyError, AttributeError):
            return {}


def _entry_end(data: bytes, offset: int) -> int | None:
    """Where the entry at an offset ends; None when it is not whole."""
    if offset + _LENGTH > len(data):
        return None
    stop = offset + _LENGTH + int.from_bytes(data[offset : offset + _LENGTH], "big")
    return stop if stop <= len(data) else None


def _messages(data: bytes, start: int, stop: int, file: int) -> Iterator[tuple[Place, dict[str, Any]]]:
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, stop - start))
    unpacker.feed(memoryview(data)[start:stop])
    for _ in range(unpacker.read_array_header()):
        begin = unpacker.tell()
        message = unpacker.unpack()
        yield Place(file, start + begin, unpacker.tell() - begin), message
