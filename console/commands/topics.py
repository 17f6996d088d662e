"""`tidewire topics`: show the catalogue, make a cluster match it, check it, lock changed schemas."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from schemas import catalogue, cluster, compatibility, documents, lock
from tidewire import config
from tidewire.config import Settings
from tidewire.errors import SchemaError
from tidewire.stack import fill_in

app = typer.Typer(no_args_is_help=True, help="The topic catalogue: list, apply, check, lock, docs.")


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False) -> None:
    """Show every topic: key, partitions, schema, how long it is kept. Needs no cluster."""
    settings = config.load()
    prefix = settings.tidewire_topic_prefix
    ids = {stem: entry.id for stem, entry in lock.newest(lock.read()).items()}
    if as_json:
        rows = [
            {**asdict(topic), "name": prefix + topic.name, "schema_id": ids.get(topic.schema or "")}
            for topic in catalogue.TOPICS
        ]
        print(json.dumps(rows, indent=1))
        return
    table = Table("topic", "key", "partition by", "schema", "kept", box=box.SIMPLE_HEAD)
    for topic in catalogue.TOPICS:
        schema = topic.schema or "(dead letters only)"
        table.add_row(prefix + topic.name, topic.key, documents.spread(topic), schema, documents.kept(topic))
    _console().print(table)


@app.command()
def apply() -> None:
    """Create what is missing and align what differs. Never changes a partition count."""
    for line in asyncio.run(cluster.apply(_settings())) or ["every topic matches the catalogue already"]:
        print(line)


@app.command()
def check() -> None:
    """Say where schemas, lock file and cluster differ from the catalogue; exit code 6 when they do."""
    problems = _schema_problems() or asyncio.run(cluster.check(_settings()))
    if problems:
        raise SchemaError("\n".join(problems))
    print(f"{len(catalogue.TOPICS)} topics and {len(catalogue.stems())} schemas match the catalogue")


@app.command("lock")
def lock_() -> None:
    """Give changed schemas a new version in schemas/lock.json, if all former ones stay readable."""
    entries = lock.read()
    current = {stem: catalogue.schema(stem) for stem in catalogue.stems()}
    if problems := compatibility.problems(entries, current):
        raise SchemaError("not compatible (FULL_TRANSITIVE):\n" + "\n".join(problems))
    extended = lock.extend(entries, current)
    lock.write(extended)
    for entry in extended[len(entries) :]:
        print(f"{entry.stem} version {entry.version}: id {entry.id}")
    print(f"{lock.PATH.name}: {len(extended) - len(entries)} added, {len(extended)} in all")


@app.command()
def docs() -> None:
    """Write docs/topics from the catalogue (in a source tree)."""
    changed = documents.write(documents.source_folder())
    print(f"docs/topics: {', '.join(changed)}" if changed else "docs/topics is up to date")


def _schema_problems() -> list[str]:
    entries = lock.read()
    current = {stem: catalogue.schema(stem) for stem in catalogue.stems()}
    changed = lock.changed(entries, current)
    found = [f"{stem}.avsc differs from lock.json; run `tidewire topics lock`" for stem in changed]
    return compatibility.problems(entries, current) + found


def _settings() -> Settings:
    return fill_in(config.load())


def _console() -> Console:
    """A terminal's width; wide enough for whole lines when the output goes to a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=160)
