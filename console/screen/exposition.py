"""The few numbers that the screen takes from a service's /metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from prometheus_client.parser import text_string_to_metric_families

Sample = tuple[str, dict[str, str], float]


def parse(text: str) -> list[Sample]:
    """Every sample as (name, labels, value)."""
    return [(s.name, s.labels, s.value) for f in text_string_to_metric_families(text) for s in f.samples]


def total(samples: Iterable[Sample], name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(value for sample, _, value in samples if sample == name)


def active_label(
    samples: Iterable[Sample], name: str, label: str, among: Mapping[str, Collection[str]]
) -> str | None:
    """The label value of the sample that is 1 among those with the labels of `among`: a state metric."""
    for sample, labels, value in samples:
        if sample == name and value == 1 and all(labels.get(k) in v for k, v in among.items()):
            return labels[label]
    return None


def quantile(samples: Iterable[Sample], name: str, q: float) -> float | None:
    """The upper edge of the histogram bucket that holds the quantile; None without observations."""
    edges = [(float(labels["le"]), value) for sample, labels, value in samples if sample == f"{name}_bucket"]
    edges.sort()
    if not edges or edges[-1][1] == 0:
        return None
    return next(edge for edge, count in edges if count >= q * edges[-1][1])
