"""`tidewire doctor`: what is wrong on this machine, and what to do about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from console.commands import health_checks as checks
from console.commands.health_checks import Finding
from tidewire import config
from tidewire.config import Settings
from tidewire.errors import ConfigError
from tidewire.stack import fill_in

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check keys, ports, disk, memory, servers and versions: what is wrong, and what to do.

    Exits 0 unless something failed; a warning does not stop tidewire from working.
    """
    findings = examine()
    fit = all(finding.state != "fail" for finding in findings)
    if as_json:
        print(json.dumps({"ok": fit, "checks": [asdict(f) for f in findings]}, indent=2))
    else:
        Console().print(table(findings))
    raise typer.Exit(0 if fit else 1)


def examine() -> list[Finding]:
    """Every check, in the order in which problems are best solved."""
    found = [*checks.python_version(), *checks.libraries(), checks.java(), checks.kafka_jars()]
    try:
        settings = config.load()
    except ConfigError as error:
        return [*found, *(Finding("settings", "fail", p, "correct it or unset it") for p in error.problems)]
    found.append(Finding("settings", "ok", "all readable"))
    found += [checks.home(settings), checks.disk(settings), checks.memory(), checks.ports(settings)]
    found += asyncio.run(_ask_others(fill_in(settings)))
    return found


async def _ask_others(settings: Settings) -> list[Finding]:
    asked = await asyncio.gather(
        checks.keys(settings), checks.clock(settings), checks.kafka(settings), checks.postgres(settings)
    )
    return list(asked)


def table(findings: Iterable[Finding]) -> Table:
    """The findings for a terminal; what to do stands below what was found."""
    shown = Table(title="tidewire doctor", title_justify="left")
    for heading in ("check", "", "found"):
        shown.add_column(heading, overflow="fold")
    for finding in findings:
        style = _STYLES[finding.state]
        advice = f"\n[dim]→[/dim] {escape(finding.advice)}" if finding.advice else ""
        shown.add_row(finding.check, f"[{style}]{finding.state}[/{style}]", escape(finding.found) + advice)
    return shown
