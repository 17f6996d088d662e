"""The exits service: a Faust app that folds prices and the rules that watch them into triggers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from processors.columns.app import ColumnApp
from processors.exits.agents import STAGE, Exits
from processors.worker import Plan, Worker
from schemas import catalogue as topics
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from tidewire import service
from tidewire.clock import now_ns
from tidewire.config import Settings
from tidewire.health import Health

APP_ID = "tidewire-exits"
PRICES = {
    topics.STOCK_TRADES: "stock_trade",
    topics.STOCK_QUOTES: "stock_quote",
    topics.OPTION_TRADES: "option_trade",
    topics.OPTION_QUOTES: "option_quote",
    topics.CRYPTO_TRADES: "crypto_trade",
    topics.CRYPTO_QUOTES: "crypto_quote",
}
EVENTS = {
    topics.EXIT_WATCH: "exit_watch",
    topics.STOCK_STATUSES: "stock_status",
    topics.STOCK_LULDS: "stock_luld",
    topics.CORPORATE_ACTIONS: "corporate_action",
    topics.SIGNALS: "signal",
}
OUTPUTS = (topics.EXIT_TRIGGERS, topics.EXIT_EVENTS, topics.ORDER_INTENTS)
WHOLE = (topics.GAPS, topics.CONNECTIONS)


def main(settings: Settings) -> int:
    """Run the exits service until SIGINT or SIGTERM; returns its exit code."""
    exits = ExitsService(settings)
    return service.run("exits", settings, exits.run, exits.details)


class ExitsService:
    """One run of the service."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalogue = Catalogue(settings.tidewire_topic_prefix, settings.tidewire_partitions or 4)
        self._worker = Worker(settings, self._plan(), self._build)
        self._exits: Exits | None = None

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """Fold until `stop` is set.

        Raises:
            UnreachableError: Kafka was never there.
            TidewireError: the worker crashed; the message says of what.
        """
        await self._worker.run(health, stop)

    def _plan(self) -> Plan:
        name = self._catalogue.name
        return Plan(
            name="exits",
            app_id=APP_ID,
            stage=STAGE,
            inputs=tuple(map(name, (*PRICES, *EVENTS))),
            outputs=tuple(map(name, OUTPUTS)),
            others=tuple(map(name, WHOLE)),
        )

    def _build(self, app: ColumnApp, codec: Codec) -> None:
        self._exits = exits = Exits(app, self._settings, self._catalogue, codec, now_ns)
        # What comes in one fetch is folded in this order. After a crash a rule just set is read again
        # beside the prices that it has seen: they must not go before it, or its high water would be lost.
        for topic, stem in EVENTS.items():
            exits.read_events(topic, stem)
        for topic, stem in PRICES.items():
            exits.read_prices(topic, stem)
        app.task(exits.follow)

    def details(self) -> Mapping[str, object]:
        """For /health: what the worker says; symbols watched, triggers that wait, intents published."""
        found = self._worker.details()
        if not found or self._exits is None:
            return found
        return {**found, "exits": self._exits.details()}
