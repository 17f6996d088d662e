"""The local stack: Apache Kafka and PostgreSQL without Docker, Java or root, on 127.0.0.1 only."""

from __future__ import annotations

from tidewire.stack.local import LocalStack, StackAddresses

__all__ = ["LocalStack", "StackAddresses"]
