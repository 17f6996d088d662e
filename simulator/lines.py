"""Text files, gzipped or not, as blocks of whole lines."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

BLOCK_BYTES = 1 << 18
LONGEST_LINE = 1 << 24


class ReadError(Exception):
    """The file cannot be read (any further)."""


def open_text(path: Path) -> BinaryIO:
    """Open for reading bytes, unpacked when the content is gzip.

    Raises:
        ReadError: no such file, or no permission.
    """
    try:
        with path.open("rb") as file:
            head = file.read(2)
        return cast(BinaryIO, gzip.open(path, "rb")) if head == b"\x1f\x8b" else path.open("rb")
    except OSError as error:
        raise ReadError(error.strerror or str(error)) from error


def blocks(file: BinaryIO, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Whole lines, about `size` bytes at a time; only the last block may lack its final newline.

    Raises:
        ReadError: the rest cannot be read: an I/O error, broken gzip data, or a line beyond 16 MiB. What was
            read until then has been yielded.
    """
    rest = b""
    while True:
        try:
            part = file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            if rest:
                yield rest
            raise ReadError(str(error)) from error
        if not part:
            if rest:
                yield rest
            return
        cut = part.rfind(b"\n") + 1
        if cut:
            yield rest + part[:cut]
            rest = part[cut:]
        else:
            rest += part
            if len(rest) > LONGEST_LINE:
                raise ReadError(f"a line of more than {LONGEST_LINE} bytes")
