"""What the verbs of `tidewire replay` share: settings, the progress bar, what is said beside a result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from schemas.catalogue import Catalogue
from schemas.codec import Codec, load_codec
from tidewire import config, log
from tidewire.config import Settings
from tidewire.stack import fill_in

WIDE = 120
"""Columns of a terminal from which on all is shown."""


def ready() -> tuple[Settings, Catalogue, Codec]:
    """Settings, catalogue and codec of this installation; logs are for errors only.

    Raises:
        ConfigError, SchemaError: see the messages.
    """
    settings = fill_in(config.load())
    log.configure(settings, "replay")
    logging.getLogger().setLevel(logging.ERROR)  # the result is the output; a lost broker is tried again
    catalogue = Catalogue(settings.tidewire_topic_prefix, settings.tidewire_partitions or 4)
    return settings, catalogue, load_codec(settings)


@contextmanager
def bar(what: str) -> Iterator[tuple[Callable[[int], object], Callable[[int], object]]]:
    """A progress bar on stderr, where that is a terminal: how to tell it the whole, and what is done."""
    console = Console(stderr=True)
    with Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("records"),
        TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    ) as shown:  # fmt: skip
        line = shown.add_task(what, total=None)
        yield (
            (lambda total: shown.update(line, total=total)),
            (lambda done: shown.update(line, completed=done)),
        )


def say(text: str) -> None:
    """Something beside the result, on stderr."""
    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)
