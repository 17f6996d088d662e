"""The function of push.c, loaded once a process, over plain descriptors."""

from __future__ import annotations

import ctypes
import logging
import os
import socket
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from tidewire.native import Library

LIBRARY = Library("push", Path(__file__).parent, "tidewire_push_source")

_log = logging.getLogger(__name__)
_FLAGS = getattr(socket, "MSG_NOSIGNAL", 0)  # Python ignores SIGPIPE; whoever embeds it may not

Push = Callable[[Sequence[int], bytes], Sequence[int]]
"""Sends the same bytes to non-blocking sockets; returns what each has taken, negative: it failed."""


@cache
def push() -> Push:
    """The native one; without the library (said once in the log) a slower one that does the same."""
    try:
        return _bound(LIBRARY.open(), ctypes.CDLL(None))
    except (OSError, ValueError, AttributeError) as error:
        _log.warning(
            "the tape's frames are sent one by one, slower: the native library cannot be loaded (%s). "
            "`make setup` builds it",
            error,
        )
        return one_by_one


def one_by_one(descriptors: Sequence[int], data: bytes) -> Sequence[int]:
    """The same without a library."""
    sent = []
    for descriptor in descriptors:
        try:
            sent.append(os.write(descriptor, data))
        except OSError:
            sent.append(-1)
    return sent


def _bound(library: ctypes.CDLL, libc: ctypes.CDLL) -> Push:
    function, send = library.tidewire_push, ctypes.cast(libc.send, ctypes.c_void_p)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, pointer, number, ctypes.c_char_p, number, ctypes.c_int, pointer]
    function.restype = None

    def native(descriptors: Sequence[int], data: bytes) -> Sequence[int]:
        count = len(descriptors)
        sockets, sent = array("i", descriptors), array("q", bytes(8 * count))
        function(send, sockets.buffer_info()[0], count, data, len(data), _FLAGS, sent.buffer_info()[0])
        return sent

    return native
