"""The functions of the C sources here, loaded once a process."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from pathlib import Path
from typing import Any

from tidewire import metrics
from tidewire.native import Library

LIBRARY = Library("decode", Path(__file__).parent, "tidewire_source")

_log = logging.getLogger(__name__)
_POINTER, _COUNT, _BITS = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "tidewire_decode": (
        ctypes.c_int32,
        # nodes, columns and how many; the header; bodies, their sizes, counts and bases, how many; offsets
        [*[_POINTER] * 2, ctypes.c_int32, ctypes.c_uint64, *[_POINTER] * 4, ctypes.c_int32, _POINTER],
    ),
    "tidewire_numbers": (_COUNT, [_POINTER, _BITS, _POINTER, _COUNT, _POINTER]),
    "tidewire_crc32c": (_COUNT, [_POINTER, _COUNT]),
    "tidewire_number": (None, [_POINTER, _BITS, _POINTER, _COUNT, _COUNT]),
    "tidewire_renumber": (None, [_POINTER, _BITS, _POINTER, _BITS]),
}
"""By name what each returns and takes, as in the C sources."""


@cache
def load() -> Any | None:
    """The library; None (said once in the log): everything goes on with Polars."""
    try:
        library = LIBRARY.open()
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, ValueError, AttributeError) as error:
        _log.warning(
            "records are decoded by Polars, with the same results and several times slower: "
            "the native decoder cannot be loaded (%s). `make setup` builds it",
            error,
        )
        metrics.NATIVE_DECODER.set(0)
        return None
    metrics.NATIVE_DECODER.set(1)
    return library
