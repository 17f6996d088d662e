"""The functions of copy.c, loaded once a process."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tidewire.native import Library

LIBRARY = Library("copy", Path(__file__).parent, "tidewire_copy_source")

_log = logging.getLogger(__name__)
_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_int64


class Functions(NamedTuple):
    """Those of copy.c; all addresses are numbers."""

    sizes: Any
    order: Any
    rows: Any


@cache
def functions() -> Functions | None:
    """What copy.c has; None (said once in the log): pgpq makes the rows instead."""
    try:
        return _bound(LIBRARY.open())
    except (OSError, ValueError, AttributeError) as error:
        _log.warning(
            "rows are made by pgpq, the same ones and several times slower: the native encoder cannot be "
            "loaded (%s). `make setup` builds it",
            error,
        )
        return None


def _bound(library: ctypes.CDLL) -> Functions:
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
