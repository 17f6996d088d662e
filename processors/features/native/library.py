"""The functions of fold.c and encode.c, loaded once a process."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tidewire.native import Library

LIBRARY = Library("features", Path(__file__).parent, "tidewire_features_source")

_log = logging.getLogger(__name__)


class Fold(NamedTuple):
    """How a batch of one topic is folded; both take the address of fold.c's `batch`."""

    look: Any
    """How many states may be closed at most; -1: the batch is not one for here."""
    fold: Any


class Folds(NamedTuple):
    """Those of fold.c."""

    trades: Fold
    quotes: Fold


@cache
def folds() -> Folds | None:
    """What fold.c has; None: every batch is folded in columns."""
    library = _load()
    return None if library is None else Folds(*(_bound(library, topic) for topic in Folds._fields))


@cache
def encode_features() -> Any | None:
    """What encode.c has; None: every record is encoded by itself."""
    library = _load()
    if library is None:
        return None
    # words and how many rows; keys, their sizes; the header; the session; records and their ends
    pointers = [ctypes.c_void_p] * 2
    encode = library.tidewire_encode_features
    encode.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int64,
        *pointers,
        ctypes.c_uint64,
        ctypes.c_void_p,
        *pointers,
    ]
    encode.restype = None
    return encode


@cache
def _load() -> ctypes.CDLL | None:
    """The library; None (said once in the log)."""
    try:
        return LIBRARY.open()
    except (OSError, ValueError) as error:
        _log.warning(
            "features are folded and encoded in Python, with the same results and slower: the native library "
            "cannot be loaded (%s). `make setup` builds it",
            error,
        )
        return None


def _bound(library: ctypes.CDLL, topic: str) -> Fold:
    look, fold = getattr(library, f"tidewire_look_at_{topic}"), getattr(library, f"tidewire_fold_{topic}")
    look.argtypes = fold.argtypes = [ctypes.c_void_p]
    look.restype, fold.restype = ctypes.c_int64, None
    return Fold(look, fold)
