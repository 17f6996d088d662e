"""A round that Kafka interrupts: what it found must not be forgotten by the next one."""

from __future__ import annotations

from producers.accounts.comparison import Found


def test_what_an_interrupted_round_found_is_part_of_the_next() -> None:
    """The events are told by then and the orders known: without it a gap would close as if nothing had been
    missing, and the report would call the states between lost without a reason.

    Seen with Kafka killed three seconds after the trading stream was cut.
    """
    first = Found(known={"fill": 5, "end": 6}, moving=1, unsaid=1, open_orders=1)
    second = Found(known={"fill": 5, "later": 9}, moving=0, open_orders=0, positions=2, differing=("A",))
    both = second.after(first)
    assert both.known == {"fill": 5, "end": 6, "later": 9}
    assert (both.moving, both.unsaid, both.since) == (1, 1, 0)
    assert (both.open_orders, both.positions, both.differing) == (0, 2, ("A",))


def test_the_first_loss_says_since_when() -> None:
    """A round without a loss has no beginning: its 0 would make the gap reach back to 1970."""
    event = {"order_id": "o", "event": "fill", "ts": 7}
    lost = Found(lost=(event,), told=(event,), since=7)
    assert Found().after(lost).since == 7
    assert lost.after(Found()).since == 7
    assert Found(lost=(event,), since=3).after(lost).since == 3
