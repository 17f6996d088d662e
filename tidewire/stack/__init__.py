"""The local stack: Apache Kafka and PostgreSQL without Docker, Java or root, on 127.0.0.1 only."""

from __future__ import annotations

from tidewire.stack.addresses import StackAddresses, fill_in
from tidewire.stack.local import LocalStack, ServerStatus

__all__ = ["LocalStack", "ServerStatus", "StackAddresses", "fill_in"]
