"""The encoder of each kind of feed."""

from __future__ import annotations

from producers.channel import Encoder
from producers.crypto import CryptoEncoder
from producers.encoder import Encoder as StockEncoder
from producers.entrance import Bars, Window
from producers.news import NewsEncoder
from producers.options import OptionEncoder
from schemas.codec import Codec


def encoder(kind: str, codec: Codec, epoch: int, source: str = "ws") -> Encoder:
    """A new one for stocks, options, crypto or news, that knows nothing of the log yet.

    Raises:
        KeyError: no such kind.
    """
    if kind == "stocks":
        return StockEncoder(codec, Window(), Bars(), owner_epoch=epoch, source=source)
    if kind == "options":
        return OptionEncoder(codec, owner_epoch=epoch, source=source)
    if kind == "crypto":
        return CryptoEncoder(codec, owner_epoch=epoch, source=source)
    if kind == "news":
        return NewsEncoder(codec, owner_epoch=epoch, source=source)
    raise KeyError(kind)
