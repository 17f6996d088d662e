"""The named steps of a set-up, each with its time, on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

Progress = Callable[[str], None]
"""Takes what a step is doing just now."""


class Steps:
    """Says what is being done. On a terminal the running step has a spinner, else every message is a line."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, name: str) -> Iterator[Progress]:
        """One step; what it passes to the yielded function is shown while it runs."""
        began = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(f"{name} ...") as status:
                yield lambda doing: status.update(f"{name}: {doing}")
        else:
            yield lambda doing: self._console.print(f"  {name}: {doing}", markup=False, soft_wrap=True)
        took = time.monotonic() - began
        self._console.print(f"  [green]✓[/green] {name} [dim]{took:.1f} s[/dim]", highlight=False)

    def note(self, text: str) -> None:
        """A line between the steps."""
        self._console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)
