"""What a user calls a topic, to its real name."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from schemas.catalogue import Catalogue
from tidewire.dead_letters import SUFFIX
from tidewire.errors import ConfigError


def resolve(asked: str, catalogue: Catalogue, existing: Collection[str]) -> str:
    """The real name of the topic that is meant.

    Taken, in this order: a name of the cluster or of the catalogue, with or without the prefix; a part of
    a name between dots that only one topic of the catalogue has (`stocks.trades`, `imbalances`).
    `.dlq` behind any of these means the dead letters.

    Raises:
        ConfigError: no topic or several are meant, with those that come close.
    """
    names = [topic.name for topic in catalogue.topics if topic.schema is not None]
    names += [topic.dead_letters for topic in catalogue.topics]
    for real in (catalogue.prefix + asked, asked):
        if real in existing or real.removeprefix(catalogue.prefix) in names:
            return real
    wants_letters = asked.endswith(SUFFIX)
    meant = [n for n in names if n.endswith(SUFFIX) == wants_letters and _is_part(asked, n)]
    if len(meant) == 1:
        return catalogue.name(meant[0])
    if meant:
        raise ConfigError([f"{asked!r} may be {', '.join(meant)}: which one?"])
    close = difflib.get_close_matches(asked, [*names, *existing], 3, 0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise ConfigError([f"no topic {asked!r}{hint} (`tidewire topics list` shows all)"])


def _is_part(asked: str, name: str) -> bool:
    return f".{asked.removesuffix(SUFFIX)}." in f".{name.removesuffix(SUFFIX)}."
