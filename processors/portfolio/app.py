"""The portfolio service: a Faust app that folds events, activities, snapshots and marks into what is held,
and places the exits of what is held beside the prices that they watch."""

from __future__ import annotations

from processors.columns.app import ColumnApp
from processors.columns.pacing import Fetch
from processors.placing import agents as placing
from processors.placing.agents import Placing
from processors.portfolio.agents import STAGE, Portfolio
from processors.worker import Plan, Worker
from schemas.catalogue import (
    ACCOUNT_SNAPSHOTS,
    ACTIVITIES,
    PORTFOLIO_ACCOUNTS,
    PORTFOLIO_MARKS,
    PORTFOLIO_ORDERS,
    PORTFOLIO_POSITIONS,
    TRADE_UPDATES,
    Catalogue,
)
from schemas.codec import Codec
from tidewire import accounts, service
from tidewire.clock import now_ns
from tidewire.config import Settings

APP_ID = "tidewire-portfolio"
_FETCH = Fetch(3, 3)
"""An order event must not wait for others to come."""


def main(settings: Settings) -> int:
    """Run the portfolio until SIGINT or SIGTERM; returns its exit code."""
    catalogue = Catalogue(settings.tidewire_topic_prefix, settings.tidewire_partitions or 4)
    name = catalogue.name
    plan = Plan(
        name="portfolio",
        app_id=APP_ID,
        stage=STAGE,
        inputs=tuple(
            map(name, (TRADE_UPDATES, ACCOUNT_SNAPSHOTS, PORTFOLIO_MARKS, ACTIVITIES, *placing.INPUTS))
        ),
        outputs=tuple(
            map(name, (PORTFOLIO_ORDERS, PORTFOLIO_POSITIONS, PORTFOLIO_ACCOUNTS, *placing.OUTPUTS))
        ),
        others=tuple(map(name, placing.OTHERS)),
        fetch=_FETCH,
    )

    owners = accounts.load(settings)

    def build(app: ColumnApp, codec: Codec) -> None:
        portfolio = Portfolio(app, catalogue, codec, now_ns)
        exits = Placing(app, settings, catalogue, codec, owners, portfolio)
        portfolio.changed = exits.positions

    worker = Worker(settings, plan, build)
    return service.run("portfolio", settings, worker.run, worker.details)
