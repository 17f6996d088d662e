"""The built decode.c: found, checked against its source and loaded, once a process."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "decode.c"

_log = logging.getLogger(__name__)
_ARGUMENTS: list[Any] = [
    ctypes.c_void_p,  # nodes
    ctypes.c_void_p,  # columns
    ctypes.c_int32,
    ctypes.c_uint64,  # header
    ctypes.c_void_p,  # bodies
    ctypes.c_void_p,  # sizes, counts, bases
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.c_void_p,  # offsets
]


def fingerprint() -> str:
    """What a library must have been built from to be taken."""
    digest = hashlib.sha256()
    for part in sorted((SOURCE, *FOLDER.glob("*.h"))):
        digest.update(part.read_bytes())
    return digest.hexdigest()[:32]


def path() -> Path:
    """Where the library for this machine stands once it is built."""
    return FOLDER / f"decode-{sys.platform}-{platform.machine()}.so"


@cache
def decode() -> Any | None:
    """tidewire_decode of decode.c; None (said once in the log): records are read by Polars instead."""
    try:
        library = ctypes.CDLL(str(path()))
        built_from = ctypes.c_char.in_dll(library, "tidewire_source")
        if ctypes.string_at(ctypes.addressof(built_from)).decode() != fingerprint():
            raise OSError("it was built from another decode.c")
        function = library.tidewire_decode
    except (OSError, ValueError, AttributeError) as error:
        _log.warning(
            "records are decoded by Polars, with the same results and several times slower: "
            "the native decoder cannot be loaded (%s). `make setup` builds it",
            error,
        )
        return None
    function.argtypes, function.restype = _ARGUMENTS, ctypes.c_int32
    return function
