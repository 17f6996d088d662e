"""The functions of fold.c, loaded once a process."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tidewire.native import Library

LIBRARY = Library("fold", Path(__file__).parent, "tidewire_fold_source")

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
    """What fold.c has; None (said once in the log): every batch is folded in columns."""
    try:
        library = LIBRARY.open()
        return Folds(*(_bound(library, topic) for topic in Folds._fields))
    except (OSError, ValueError, AttributeError) as error:
        _log.warning(
            "trades and quotes are folded by numpy, with the same results and slower: the native fold "
            "cannot be loaded (%s). `make setup` builds it",
            error,
        )
        return None


def _bound(library: ctypes.CDLL, topic: str) -> Fold:
    look, fold = getattr(library, f"tidewire_look_at_{topic}"), getattr(library, f"tidewire_fold_{topic}")
    look.argtypes = fold.argtypes = [ctypes.c_void_p]
    look.restype, fold.restype = ctypes.c_int64, None
    return Fold(look, fold)
