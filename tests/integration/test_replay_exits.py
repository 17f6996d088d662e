"""Exits folded anew beside what the service made of them: if these fail, a backtest or a check tells lies.

Invariant 5: two replays of one log give byte-identical triggers; every live trigger, evaluated again from the
inputs that it names, gives itself.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from console import cli
from replay import exit_run, recheck
from replay.exit_run import Request
from schemas.catalogue import EXIT_TRIGGERS, ORDER_INTENTS, STOCK_QUOTES, Catalogue
from schemas.codec import Codec, load_codec
from tests.integration.exits_world import outcome
from tests.integration.processor_process import read_all
from tests.integration.replay_world import a_market, served, wandering
from tests.integration.topic_content import decoded
from tidewire.config import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


@pytest.fixture
def codec(settings: Settings) -> Codec:
    return load_codec(settings)


@pytest.fixture
def catalogue(settings: Settings) -> Catalogue:
    return Catalogue(settings.tidewire_topic_prefix, 4)


@pytest.fixture
def installation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A process environment that leads the command to this test's topics."""
    assert settings.kafka_bootstrap_servers is not None
    monkeypatch.chdir(settings.tidewire_home)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.kafka_bootstrap_servers)
    monkeypatch.setenv("TIDEWIRE_TOPIC_PREFIX", settings.tidewire_topic_prefix)
    monkeypatch.setenv("TIDEWIRE_HOME", str(settings.tidewire_home))
    return settings


async def test_invariant_5_replays_are_byte_identical_and_find_what_the_service_found(
    settings: Settings, codec: Codec, catalogue: Catalogue
) -> None:
    """A backtest that gives another answer each time is worth nothing; nor one that the market contradicts."""
    async with a_market(settings, codec) as market:
        await served(settings, market, wandering(1_800))
    live = {t["trigger_id"]: t for t in (await outcome(settings, codec)).triggers}
    assert len(live) == 6
    runs = [
        await exit_run.replay(settings, catalogue, codec, Request(), piece_bytes=size)
        for size in (1, 20_000, 1 << 20)
    ]
    first = runs[0]
    assert first.encoded(codec) == runs[1].encoded(codec) == runs[2].encoded(codec)
    assert first.run_id == runs[1].run_id == runs[2].run_id
    assert first.counts == runs[2].counts
    assert first.counts["read"] == sum(n for name, n in first.counts.items() if name != "read")
    assert {t["trigger_id"] for t in first.triggers} == live.keys()
    assert not first.missing
    for trigger in first.triggers:
        assert first.as_live(trigger) == "same"
        assert {**trigger, "state": "sent"} == live[trigger["trigger_id"]]
    checked = await recheck.check(settings, catalogue, codec)
    assert (checked.same, checked.triggers, checked.told) == (True, 6, 12)
    assert checked.inputs >= 6
