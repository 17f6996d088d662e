"""The function of frames.c, loaded once a process."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from pathlib import Path

from tidewire.native import Library

LIBRARY = Library("frames", Path(__file__).parent, "tidewire_frames_source")
COLUMNS = 6
"""Numbers that frames.c writes of each message."""

_log = logging.getLogger(__name__)


class Layout(ctypes.Structure):
    """What is the same for all records of a frame (frames.h)."""

    _fields_ = (
        ("trade", ctypes.c_char_p),
        ("quote", ctypes.c_char_p),
        ("tail", ctypes.c_char_p),
        ("tail_size", ctypes.c_int64),
    )


@cache
def load() -> ctypes.CDLL | None:
    """The library; None (said once in the log): every frame is read message by message."""
    try:
        library = LIBRARY.open()
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        library.tidewire_frame.argtypes = [
            ctypes.c_char_p, number, ctypes.POINTER(Layout), pointer, number, pointer, number,
        ]  # fmt: skip
        library.tidewire_frame.restype = number
    except (OSError, ValueError, AttributeError) as error:
        _log.warning(
            "frames are read by Python, with the same results and several times slower: the native library "
            "cannot be loaded (%s). `make setup` builds it",
            error,
        )
        return None
    return library
