"""Event ids: the same 8 bytes for the same event, whether it came by socket, REST, webhook or replay.

An id is the XXH3-64 digest (big-endian) of one line of UTF-8 text: a letter for the kind of event, then
the fields that make it unique, with `|` between them. Prices enter as Python's shortest repr of the
float64, so the text, and with it the id, can be made again in any language that prints doubles shortest.
Nothing is escaped: Alpaca's symbols, exchanges, conditions and order ids hold neither `|` nor `,`, so no two
events have one text. Article ids of RSS feeds may be URLs and hold either, but stand between fields that do
not. A field of free text (a headline) never enters an id.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from xxhash import xxh3_64_digest

SIZE = 8
"""Bytes of an event id."""


def digest(text: str) -> bytes:
    """The id of one event text; a lone surrogate counts as its three bytes rather than raising."""
    return xxh3_64_digest(text.encode("utf-8", "surrogatepass"))


def trade_id(symbol: str, exchange: str, id: int, ts: int) -> bytes:
    """A stock trade: ids are unique only within an exchange and a day. `ts` in ns."""
    return digest(f"t|{symbol}|{exchange}|{id}|{ts}")


def quote_id(
    symbol: str,
    ts: int,
    bx: str,
    bp: float,
    bs: int,
    ax: str,
    ap: float,
    as_: int,
    conditions: Sequence[str],
    tape: str,
    ordinal: int,
) -> bytes:
    """A stock quote: its whole content, and its place (from 0) among identical ones. `ts` in ns."""
    return digest(
        f"q|{symbol}|{ts}|{bx}|{float(bp)!r}|{bs}|{ax}|{float(ap)!r}|{as_}"
        f"|{','.join(conditions)}|{tape}|{ordinal}"
    )


def bar_id(symbol: str, interval: str, ts: int, revision: int) -> bytes:
    """A bar: one revision of one interval. `ts` is the start of the bar in ns."""
    return digest(f"b|{symbol}|{interval}|{ts}|{revision}")


def status_id(symbol: str, ts: int, status_code: str, reason_code: str) -> bytes:
    """A trading status (halt, resumption)."""
    return digest(f"s|{symbol}|{ts}|{status_code}|{reason_code}")


def luld_id(symbol: str, ts: int, limit_up: float, limit_down: float, indicator: str) -> bytes:
    """A limit-up limit-down band."""
    return digest(f"l|{symbol}|{ts}|{float(limit_up)!r}|{float(limit_down)!r}|{indicator}")


def correction_id(
    symbol: str, exchange: str, original_id: int, kind: str, corrected_id: int | None, ts: int
) -> bytes:
    """A correction (`corrected_id` is the new trade's) or a cancel or error (None) of a trade."""
    new = "" if corrected_id is None else corrected_id
    return digest(f"c|{symbol}|{exchange}|{original_id}|{kind}|{new}|{ts}")


def imbalance_id(symbol: str, ts: int, price: float, ordinal: int) -> bytes:
    """An order imbalance; `ordinal` counts identical ones from 0."""
    return digest(f"i|{symbol}|{ts}|{float(price)!r}|{ordinal}")


def option_trade_id(
    symbol: str, ts: int, exchange: str, price: float, size: int, condition: str, ordinal: int
) -> bytes:
    """An option trade has no id of its own: its content, and its place among identical ones."""
    return digest(f"ot|{symbol}|{ts}|{exchange}|{float(price)!r}|{size}|{condition}|{ordinal}")


def option_quote_id(
    symbol: str,
    ts: int,
    bx: str,
    bp: float,
    bs: int,
    ax: str,
    ap: float,
    as_: int,
    condition: str,
    ordinal: int,
) -> bytes:
    """An option quote: its whole content, and its place among identical ones."""
    return digest(f"oq|{symbol}|{ts}|{bx}|{float(bp)!r}|{bs}|{ax}|{float(ap)!r}|{as_}|{condition}|{ordinal}")


def crypto_trade_id(pair: str, id: int, ts: int) -> bytes:
    """A crypto trade: ids are unique within a pair."""
    return digest(f"ct|{pair}|{id}|{ts}")


def crypto_quote_id(pair: str, ts: int, bp: float, bs: float, ap: float, as_: float, ordinal: int) -> bytes:
    """A crypto quote: its whole content, and its place among identical ones."""
    return digest(f"cq|{pair}|{ts}|{float(bp)!r}|{float(bs)!r}|{float(ap)!r}|{float(as_)!r}|{ordinal}")


def crypto_bar_id(pair: str, interval: str, ts: int, revision: int) -> bytes:
    """A crypto bar: one revision of one interval."""
    return digest(f"cb|{pair}|{interval}|{ts}|{revision}")


def crypto_orderbook_id(
    pair: str,
    ts: int,
    reset: bool,
    bids: Sequence[tuple[float, float]],
    asks: Sequence[tuple[float, float]],
    ordinal: int,
) -> bytes:
    """A book or a change of one: every (price, size) level, and its place among identical ones."""
    levels = "|".join(
        ",".join(f"{float(price)!r}:{float(size)!r}" for price, size in side) for side in (bids, asks)
    )
    return digest(f"co|{pair}|{ts}|{int(reset)}|{levels}|{ordinal}")


def news_id(provider: str, article_id: str, revision: int) -> bytes:
    """One revision of an article of one provider; `revision` is its updated_at in ns."""
    return digest(f"n|{provider}|{article_id}|{revision}")


def plain_quantity(quantity: Decimal | str) -> str:
    """A quantity as plain decimal text, the same for the same value: no exponent, no zeros at the end."""
    text = f"{Decimal(quantity):f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def fill_id(order_id: str, cumulative_quantity: str) -> bytes:
    """A fill: FILL activities carry no execution id, the cumulative quantity names the fill.

    `cumulative_quantity` is text made by `plain_quantity`.
    """
    return digest(f"f|{order_id}|{cumulative_quantity}")


def order_event_id(order_id: str, event: str, ts: int) -> bytes:
    """Any other event of an order (new, canceled, replaced ...)."""
    return digest(f"o|{order_id}|{event}|{ts}")


def snapshot_id(account: str, ts: int) -> bytes:
    """One snapshot of one account."""
    return digest(f"a|{account}|{ts}")


def mark_id(symbol: str, ts: int, price: str) -> bytes:
    """A mark; `price` is text made by `plain_quantity`."""
    return digest(f"m|{symbol}|{ts}|{price}")


def connection_id(feed: str, ts: int, state: str) -> bytes:
    """A state of a connection at a time."""
    return digest(f"cn|{feed}|{ts}|{state}")


def subscription_id(feed: str, channel: str, symbol: str, holder: str, ts: int) -> bytes:
    """A subscription as asked for or renewed at `ts`."""
    return digest(f"sub|{feed}|{channel}|{symbol}|{holder}|{ts}")


def gap_id(gap: str, state: str, ts: int) -> bytes:
    """One state (opened, backfilled, closed) that a gap reached at `ts` (ns); `gap` is its name."""
    return digest(f"g|{gap}|{state}|{ts}")


def audit_id(feed: str, channel: str, minute_ts: int, audited_ts: int) -> bytes:
    """One comparison of one minute of a channel."""
    return digest(f"au|{feed}|{channel}|{minute_ts}|{audited_ts}")


def lease_id(feed: str, epoch: int) -> bytes:
    """One owner of a feed."""
    return digest(f"le|{feed}|{epoch}")


def request_id(kind: str, target: str, ts: int) -> bytes:
    """Something asked for at `ts` (ns)."""
    return digest(f"rq|{kind}|{target}|{ts}")


def sentiment_id(provider: str, article_id: str, revision: int, symbol: str, analyzer: str) -> bytes:
    """The score of one analyzer for one symbol in one article revision."""
    return digest(f"ns|{provider}|{article_id}|{revision}|{symbol}|{analyzer}")


def score_id(symbol: str, sentiment: bytes) -> bytes:
    """A symbol's watchlist score as the sentiment record with this event id left it."""
    return digest(f"ws|{symbol}|{sentiment.hex()}")


def trigger_id(account: str, symbol: str, position_epoch: int, exit_epoch: int) -> bytes:
    """An exit trigger, and the order intent that follows from it: one for each position and exit epoch."""
    return digest(f"x|{account}|{symbol}|{position_epoch}|{exit_epoch}")


def watch_id(account: str, symbol: str, rule: str, position_epoch: int, exit_epoch: int, ts: int) -> bytes:
    """A rule beside the prices that it watches, as the position at `ts` (ns) left it."""
    return digest(f"xw|{account}|{symbol}|{rule}|{position_epoch}|{exit_epoch}|{ts}")


def rule_id(account: str, symbol: str, rule: str, ts: int) -> bytes:
    """An exit rule as it was set or removed at `ts` (ns)."""
    return digest(f"xr|{account}|{symbol}|{rule}|{ts}")


def exit_event_id(trigger: str, rule: str, ts: int, event: str, gate: str) -> bytes:
    """A turn of a rule at `ts` (ns event time)."""
    return digest(f"xe|{trigger}|{rule}|{ts}|{event}|{gate}")


def activity_id(account: str, activity: str, status: str = "") -> bytes:
    """An account activity, by Alpaca's own id; one that was `correct`ed or `canceled` in place is another."""
    return digest(f"aa|{account}|{activity}" + (f"|{status}" if status else ""))


def corporate_action_id(symbol: str, action: str, content: str) -> bytes:
    """A corporate action as announced; `content` is its canonical JSON, so that a change is a new event."""
    return digest(f"ca|{symbol}|{action}|{content}")


def intent_event_id(account: str, intent: str) -> bytes:
    """An order intent."""
    return digest(f"oi|{account}|{intent}")


def result_event_id(account: str, intent: str, attempt: int, outcome: str, filled: str) -> bytes:
    """A state of an intent: repeated by the outbox, it has the same id."""
    return digest(f"or|{account}|{intent}|{attempt}|{outcome}|{filled}")


def signal_id(symbol: str, kind: str, ts: int, cause: str) -> bytes:
    """A signal of a kind at `ts` (ns event time); `cause` names what else made it, as an article."""
    return digest(f"sg|{symbol}|{kind}|{ts}|{cause}")
