"""The table and the agents of exits: records in, each to the fold of its partition, in the order of the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from processors.columns.app import ColumnApp
from processors.exits.bulletins import Bulletins
from processors.exits.desk import Desk
from processors.exits.fold import Coordinates
from processors.exits.publishing import Publisher
from processors.exits.reading import PriceReader
from schemas.catalogue import Catalogue
from schemas.codec import Codec, Record
from tidewire.clock import Clock
from tidewire.columns.poison import PoisonLimit
from tidewire.config import Settings

STAGE = "exits"
TABLE = "exits"
VERSION = 1
_MOST_RECORDS = 1_000
"""Records of a batch: a trigger leaves at the end of the batch in which it fired."""

Fold = Callable[[Desk, Record, Coordinates], object]


@dataclass(slots=True)
class Input:
    """One input topic and the schema of its records."""

    topic: str
    stem: str
    poison: PoisonLimit = field(init=False)

    def __post_init__(self) -> None:
        self.poison = PoisonLimit(self.topic)


class Exits:
    """Wires the table, its inputs and its outputs into an app."""

    def __init__(
        self, app: ColumnApp, settings: Settings, catalogue: Catalogue, codec: Codec, clock: Clock
    ) -> None:
        self._app, self._catalogue, self._codec = app, catalogue, codec
        self._table = app.record_table(TABLE, version=VERSION)
        self._desks: dict[int, Desk] = {}
        self._bulletins = Bulletins(settings, catalogue, codec, STAGE, self._bulletin)
        self._publisher = Publisher(app, self._table, catalogue, codec, clock, self._our_desks)
        app.before_commit.append(self._publisher.flush_events)

    def read_prices(self, topic: str, stem: str) -> None:
        """Fold the trades or quotes of this topic that somebody watches."""
        self._agent(
            Input(self._catalogue.name(topic), stem), partial(self._prices, PriceReader(self._codec, stem))
        )

    def read_events(self, topic: str, stem: str) -> None:
        """Fold every record of this topic."""
        self._agent(Input(self._catalogue.name(topic), stem), self._events)
