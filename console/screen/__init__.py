"""The live screen: what the services, Kafka and PostgreSQL say (observe), and how it is shown (layout)."""

from __future__ import annotations
