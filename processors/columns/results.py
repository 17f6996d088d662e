"""What became of the records of a batch: each result has a name, and every record is counted under one."""

from __future__ import annotations

from collections.abc import Mapping

from tidewire.metrics import RECORDS_APPLIED, RECORDS_SKIPPED

_APPLIED = "applied"  # as every fold calls it; any other name says why a record was not folded


def count(stage: str, topic: str, results: Mapping[str, int]) -> None:
    """Count the records of each result."""
    for result, records in results.items():
        if not records:
            continue
        if result == _APPLIED:
            RECORDS_APPLIED.labels(stage, topic).inc(records)
        else:
            RECORDS_SKIPPED.labels(stage, topic, result).inc(records)
