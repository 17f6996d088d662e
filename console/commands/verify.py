"""`tidewire verify`: the completeness report of what this home's services have done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tidewire import config, stack


def verify(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ledger: Annotated[
        Path | None, typer.Option(help="Folder of the simulator's ledger; by default the last demo's.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Missing events to list (all are counted).")] = 100,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds without progress after which waiting for services ends.")
    ] = 10.0,
) -> None:
    """Compare what was sent, what the topics hold, what the table folded and what PostgreSQL holds.

    Exits 0 if everything is complete, 1 if not.
    """
    from verify import report, screen

    settings = stack.fill_in(config.load())
    found = report.build(settings, ledger_folder=ledger, limit=limit, wait_seconds=wait)
    if as_json:
        print(found.text())
    else:
        Console().print(screen.render(found))
    raise typer.Exit(0 if found.complete else 1)
