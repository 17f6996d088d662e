"""The processor service: a Faust app that folds the stock streams into the features table."""

from __future__ import annotations

from processors.columns.app import ColumnApp
from processors.stock_features import STAGE, StockFeatures
from processors.worker import Plan, Worker
from schemas.catalogue import STOCK_FEATURES, STOCK_QUOTES, STOCK_TRADES, Catalogue
from schemas.codec import Codec
from tidewire import service
from tidewire.clock import now_ns
from tidewire.config import Settings

APP_ID = "tidewire-processor"


def main(settings: Settings) -> int:
    """Run the processor until SIGINT or SIGTERM; returns its exit code."""
    catalogue = Catalogue(settings.tidewire_topic_prefix, settings.tidewire_partitions or 4)
    name = catalogue.name
    plan = Plan(
        name="processor",
        app_id=APP_ID,
        stage=STAGE,
        inputs=(name(STOCK_TRADES), name(STOCK_QUOTES)),
        outputs=(name(STOCK_FEATURES),),
    )

    def build(app: ColumnApp, codec: Codec) -> None:
        StockFeatures(app, catalogue, codec, now_ns)

    worker = Worker(settings, plan, build)
    return service.run("processor", settings, worker.run, worker.details)
