"""The built copy.c: found, checked against its source and loaded, once a process."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "copy.c"

_log = logging.getLogger(__name__)
_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_int64


class Functions(NamedTuple):
    """Those of copy.c; all addresses are numbers."""

    sizes: Any
    order: Any
    rows: Any


def fingerprint() -> str:
    """What a library must have been built from to be taken."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:32]


def path() -> Path:
    """Where the library for this machine stands once it is built."""
    return FOLDER / f"copy-{sys.platform}-{platform.machine()}.so"


@cache
def functions() -> Functions | None:
    """What copy.c has; None (said once in the log): pgpq makes the rows instead."""
    try:
        return _bound(ctypes.CDLL(str(path())))
    except (OSError, ValueError, AttributeError) as error:
        _log.warning(
            "rows are made by pgpq, the same ones and several times slower: the native encoder cannot be "
            "loaded (%s). `make setup` builds it",
            error,
        )
        return None


def _bound(library: ctypes.CDLL) -> Functions:
    built_from = ctypes.c_char.in_dll(library, "tidewire_copy_source")
    if ctypes.string_at(ctypes.addressof(built_from)).decode() != fingerprint():
        raise OSError("it was built from another copy.c")
    sizes, order, rows = library.tidewire_copy_sizes, library.tidewire_copy_order, library.tidewire_copy_rows
    sizes.argtypes = [_POINTER, _NUMBER, _NUMBER, _POINTER]
    order.argtypes = [
        *(_POINTER, _POINTER, _NUMBER, _POINTER, _NUMBER),  # symbols, rows, parts, sizes, begin
        *(_POINTER, ctypes.c_uint64, _POINTER, _POINTER, _POINTER),  # scratch
        *(_POINTER, _POINTER, _POINTER),  # order, ends, places
    ]
    rows.argtypes = [_POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER, _POINTER]
    for function in (sizes, order, rows):
        function.restype = None
    return Functions(sizes, order, rows)
