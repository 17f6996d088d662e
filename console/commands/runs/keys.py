"""Single keys from the terminal while a screen is shown, without waiting for Enter."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator


def is_ours() -> bool:
    """Whether there is a terminal whose keys are for this process: not in the background, not in a pipe."""
    try:
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # stdin is closed, or the terminal is gone
        return False


@contextlib.contextmanager
def pressed(take: Callable[[str], None]) -> Iterator[None]:
    """Give every key to `take`, in the running event loop; the terminal is then as it was before.

    Ctrl-C and Ctrl-Z stay signals. A terminal that is closed gives no more keys.
    """
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            found = os.read(terminal, 64)
        except OSError:
            found = b""
        if not found:
            loop.remove_reader(terminal)
        elif not found.startswith(b"\x1b"):  # an arrow or a function key is several bytes and no letter
            for key in found.decode("utf-8", "ignore"):
                take(key)

    try:
        tty.setcbreak(terminal)
        loop.add_reader(terminal, read)
        yield
    finally:
        loop.remove_reader(terminal)
        with contextlib.suppress(termios.error, OSError):
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
