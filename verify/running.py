"""What the running services say: counters of the producer and the state of the simulated market.

A restarted service counts from zero, so nothing that decides completeness comes from here.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tidewire.config import Settings

_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class Counters:
    """Messages by channel that the running producer dropped as repeats or left out on purpose."""

    dropped: Mapping[str, int] = field(default_factory=dict)
    filtered: Mapping[str, int] = field(default_factory=dict)


def services(settings: Settings) -> dict[str, Any]:
    """The supervisor's run file; empty when nothing has run from this home."""
    path = settings.tidewire_home / "run" / "services.json"
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def ledger_folder(settings: Settings) -> Path | None:
    """The simulator's ledger, unless the last run was against Alpaca or there is none."""
    run = services(settings)
    folder = settings.tidewire_home / "simulator" / "ledger"
    against_alpaca = "simulator" in run and run["simulator"] is None
    return folder if folder.is_dir() and not against_alpaca else None


def counters(settings: Settings) -> Counters:
    """The producer's counters; zero where it does not run."""
    text = _get(f"{_address(settings, 'producer')}/metrics")
    dropped: dict[str, int] = {}
    filtered: dict[str, int] = {}
    wanted = {"tidewire_messages_duplicate_total": dropped, "tidewire_messages_filtered_total": filtered}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in wanted:
                into, channel = wanted[sample.name], _channel(sample.labels)
                into[channel] = into.get(channel, 0) + int(sample.value)
    return Counters(dropped, filtered)


def _channel(labels: Mapping[str, str]) -> str:
    """The report's name of a channel: those of the crypto feed have the stocks' names there."""
    crypto = labels.get("feed", "").startswith("crypto")
    return f"crypto_{labels.get('channel', '')}" if crypto else labels.get("channel", "")


def _address(settings: Settings, name: str) -> str:
    service = (services(settings).get("services") or {}).get(name) or {}
    return str(service.get("http") or "")


def _get(url: str) -> str:
    if not url.startswith("http://"):
        return ""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310  (checked: http only)
            return str(answer.read().decode("utf-8", "replace"))
    except OSError:
        return ""
