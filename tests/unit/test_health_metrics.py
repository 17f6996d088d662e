"""Without these the live screen would stop a busy service for as long as all its metrics take to write."""

from __future__ import annotations

import aiohttp

from tidewire import config, metrics
from tidewire.health import Health


async def test_only_the_samples_asked_for_are_given_and_all_without_names() -> None:
    """A screen that asks for one metric must not pay for four hundred, and Prometheus must get them all."""
    metrics.FEATURE_LATENCY.observe(0.002)
    health = Health("here")
    await health.start(config.load(tidewire_http_port=0))
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{health.port}") as session:
            name = "tidewire_feature_latency_seconds_bucket"
            async with session.get("/metrics", params=[("name[]", name)]) as answer:
                some = await answer.text()
            async with session.get("/metrics") as answer:
                everything = await answer.text()
    finally:
        await health.stop()
    given = [line for line in some.splitlines() if not line.startswith("#")]
    assert given
    assert all(line.startswith(f"{name}{{") for line in given)
    assert name in everything
    assert "tidewire_producer_buffered_bytes" in everything
