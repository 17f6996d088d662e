"""Where a running stack listens, and how a process without named servers finds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import SecretStr

from tidewire.config import Settings
from tidewire.stack.layout import write_private


@dataclass(frozen=True, slots=True)
class StackAddresses:
    """Where the servers of a running stack listen. `database_url` holds the password."""

    kafka_bootstrap: str
    database_url: str


def stack_file(home: Path) -> Path:
    """The file of `home` that says a stack is up; the same as `Settings.stack_file`."""
    return home / "run" / "stack.json"


def write(addresses: StackAddresses, path: Path) -> None:
    """Say that a stack is up; only its owner may read where."""
    write_private(path, json.dumps(asdict(addresses), indent=2) + "\n")


def read(path: Path) -> StackAddresses | None:
    """The addresses of the stack that is up; None when there is none."""
    try:
        return StackAddresses(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def fill_in(settings: Settings) -> Settings:
    """The settings, with the local stack's servers where the environment names none.

    Unchanged when no stack is up; a server of it that is just being restarted counts as up.
    """
    found = read(settings.stack_file)
    if found is None:
        return settings
    update: dict[str, object] = {}
    if not settings.kafka_bootstrap_servers:
        update |= {
            "kafka_bootstrap_servers": found.kafka_bootstrap,
            "kafka_security_protocol": "PLAINTEXT",
        }
    if settings.database_url is None:
        update["database_url"] = SecretStr(found.database_url)
    return settings.model_copy(update=update)
