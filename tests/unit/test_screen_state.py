"""Counts, lags, rates and metrics behind the screen and behind the end of a demo."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from console.screen import exposition
from console.screen.rates import Rates
from console.screen.state import Observation

_AT = st.tuples(st.sampled_from(["trades", "quotes", "bars"]), st.integers(0, 3))
_OFFSETS = st.dictionaries(_AT, st.integers(0, 1_000))


@given(begins=_OFFSETS, kept=_OFFSETS, stored=_OFFSETS)
def test_the_sink_is_behind_by_the_records_it_has_not_reached(
    begins: dict[tuple[str, int], int], kept: dict[tuple[str, int], int], stored: dict[tuple[str, int], int]
) -> None:
    """Counted one too few, a demo would end before the last record is stored and call itself incomplete."""
    ends = {at: begins.get(at, 0) + count for at, count in kept.items()}
    seen = Observation(at=0.0, ends=ends, begins=begins, stored=stored)
    unread = {
        (at, offset)
        for at, end in ends.items()
        for offset in range(begins.get(at, 0), end)
        if offset >= stored.get(at, 0)
    }
    assert seen.sink_lag() == len(unread)
    assert sum(seen.sink_lag([channel]) for channel in ("trades", "quotes", "bars")) == len(unread)
    assert seen.topic("trades") == sum(count for at, count in kept.items() if at[0] == "trades")


def test_rates_are_over_the_last_seconds_only() -> None:
    """A rate since the start would hide that a feed has gone silent."""
    rates = Rates(["trades"], window=3.0)
    assert rates.add(0.0, {"trades": 0}) == {"trades": 0.0}
    assert rates.add(1.0, {"trades": 100}) == {"trades": 100.0}
    for second in range(2, 6):
        latest = rates.add(float(second), {"trades": 100})
    assert latest == {"trades": 0.0}


def test_a_topic_that_was_emptied_gives_no_negative_rate() -> None:
    """After a reset the counters start anew."""
    rates = Rates(["trades"])
    rates.add(0.0, {"trades": 1_000})
    assert rates.add(1.0, {"trades": 10}) == {"trades": 0.0}


def test_the_samples_that_the_screen_takes() -> None:
    """A renamed metric must show here, not as a dash on the screen."""
    text = (
        "# TYPE tidewire_connection_state gauge\n"
        'tidewire_connection_state{feed="iex",state="CONNECTING"} 0\n'
        'tidewire_connection_state{feed="iex",state="CONNECTED"} 1\n'
        "# TYPE lat histogram\n"
        'lat_bucket{le="0.01"} 90\nlat_bucket{le="0.1"} 99\nlat_bucket{le="+Inf"} 100\n'
        "lat_count 100\nlat_sum 5\n"
        "# TYPE x counter\n"
        'x_total{a="1"} 2\nx_total{a="2"} 3\n'
    )
    samples = exposition.parse(text)
    assert exposition.active_label(samples, "tidewire_connection_state", "state", {}) == "CONNECTED"
    assert exposition.quantile(samples, "lat", 0.99) == 0.1
    assert exposition.quantile(samples, "none", 0.99) is None
    assert exposition.total(samples, "x_total") == 5


def test_the_metrics_that_the_screen_names_exist() -> None:
    """The names are texts: a rename in tidewire/metrics.py would silence the screen."""
    from tidewire import metrics

    assert metrics.CONNECTION_STATE._name == "tidewire_connection_state"
    assert metrics.PRODUCER_BUFFERED_BYTES._name == "tidewire_producer_buffered_bytes"
