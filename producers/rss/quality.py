"""RSS against the other sources, article by article: who was first, and who said more. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from producers.rss.similar import Article
from tidewire.clock import NS_PER_SECOND
from tidewire.metrics import RSS_FIELDS, RSS_LEAD_SECONDS, RSS_TWINS

FIELDS = ("headline", "summary", "content", "author", "symbols")


@dataclass(slots=True)
class Tally:
    """Of one feed. Seconds are sums over the articles in which that side was first."""

    twins: int = 0
    first: Counter[str] = field(default_factory=Counter)
    lead_seconds: dict[str, float] = field(default_factory=lambda: {"rss": 0.0, "other": 0.0})
    present: dict[str, Counter[str]] = field(default_factory=lambda: {"rss": Counter(), "other": Counter()})


class Quality:
    """Adds up pairs by the feed's host."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def add(self, rss: Article, other: Article, *, timed: bool = True) -> None:
        """One article that came by RSS and from another source.

        Without `timed` who was first is left open: the entry was in the feed before anybody looked.
        """
        tally = self._tallies.setdefault(rss.key[0], Tally())
        tally.twins += 1
        for side, article in (("rss", rss), ("other", other)):
            for name in article.fields:
                tally.present[side][name] += 1
                RSS_FIELDS.labels(side, name).inc()
        if timed:
            first = "rss" if rss.received_ts < other.received_ts else "other"
            lead = abs(rss.received_ts - other.received_ts) / NS_PER_SECOND
            tally.first[first] += 1
            tally.lead_seconds[first] += lead
            RSS_TWINS.labels(first).inc()
            RSS_LEAD_SECONDS.labels(first).observe(lead)

    def details(self) -> dict[str, object]:
        """For /health, by host: articles in common, how often and how much each side was first, and in how
        many of them each field was present: [rss, other].
        """
        return {host: _shown(tally) for host, tally in self._tallies.items()}


def _shown(tally: Tally) -> dict[str, object]:
    leads = {
        side: round(tally.lead_seconds[side] / tally.first[side], 1) if tally.first[side] else None
        for side in ("rss", "other")
    }
    return {
        "articles_in_common": tally.twins,
        "first": {"rss": tally.first["rss"], "other": tally.first["other"]},
        "mean_lead_seconds": leads,
        "fields_present": {n: [tally.present["rss"][n], tally.present["other"][n]] for n in FIELDS},
    }
