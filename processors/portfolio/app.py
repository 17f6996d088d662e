"""The portfolio service: a Faust app that folds order events, snapshots and marks into what is held."""

from __future__ import annotations

from processors.columns.app import ColumnApp
from processors.columns.consumer import Fetch
from processors.portfolio.agents import STAGE, Portfolio
from processors.worker import Plan, Worker
from schemas.catalogue import (
    ACCOUNT_SNAPSHOTS,
    PORTFOLIO_ACCOUNTS,
    PORTFOLIO_MARKS,
    PORTFOLIO_ORDERS,
    PORTFOLIO_POSITIONS,
    TRADE_UPDATES,
    Catalogue,
)
from schemas.codec import Codec
from tidewire import service
from tidewire.clock import now_ns
from tidewire.config import Settings

APP_ID = "tidewire-portfolio"
_FETCH = Fetch(wait_ms=20, min_bytes=1)
"""An order event must not wait for others to come; nor, if it follows another of its partition, for the fetch
that is in flight without that partition to time out."""


def main(settings: Settings) -> int:
    """Run the portfolio until SIGINT or SIGTERM; returns its exit code."""
    catalogue = Catalogue(settings.tidewire_topic_prefix, settings.tidewire_partitions or 4)
    name = catalogue.name
    plan = Plan(
        name="portfolio",
        app_id=APP_ID,
        stage=STAGE,
        inputs=(name(TRADE_UPDATES), name(ACCOUNT_SNAPSHOTS), name(PORTFOLIO_MARKS)),
        outputs=(name(PORTFOLIO_ORDERS), name(PORTFOLIO_POSITIONS), name(PORTFOLIO_ACCOUNTS)),
        fetch=_FETCH,
    )

    def build(app: ColumnApp, codec: Codec) -> None:
        Portfolio(app, catalogue, codec, now_ns)

    worker = Worker(settings, plan, build)
    return service.run("portfolio", settings, worker.run, worker.details)
