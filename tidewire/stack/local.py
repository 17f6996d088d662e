"""Kafka and PostgreSQL together: one folder, one lock, one file that says where they listen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StackAddresses:
    """Where the servers of a running stack listen."""

    kafka_bootstrap: str
    database_url: str


class LocalStack:
    """The servers of one home folder."""

    def __init__(self, home: Path, brokers: int = 1) -> None:
        self.home = home
        self._brokers = brokers

    def start_kafka(self) -> str:
        """Start Kafka; returns its bootstrap servers."""
        return ""

    def start_postgres(self) -> str:
        """Start PostgreSQL; returns its URL."""
        return ""

    def down(self) -> None:
        """Stop everything."""
