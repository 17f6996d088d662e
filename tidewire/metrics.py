"""Every metric of every service, named and explained here and nowhere else.

Names follow Prometheus' rules: base units (seconds, bytes), `_total` for counters. Labels have few values:
topics, channels, stages and states; never symbols, accounts or users.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

# ---------------------------------------------------------------- producers: Alpaca socket -> Kafka

FRAMES_RECEIVED = Counter(
    "tidewire_frames_received_total", "WebSocket frames read from Alpaca, control frames included", ["feed"]
)
MESSAGES_RECEIVED = Counter(
    "tidewire_messages_received_total", "Market-data messages inside those frames", ["feed", "channel"]
)
MESSAGES_PUBLISHED = Counter(
    "tidewire_messages_published_total", "Messages acknowledged by Kafka (acks=all)", ["topic"]
)
MESSAGES_DUPLICATE = Counter(
    "tidewire_messages_duplicate_total",
    "Messages dropped at the entrance to the log because the log already holds their event id",
    ["channel"],
)
MESSAGES_FILTERED = Counter(
    "tidewire_messages_filtered_total", "Messages left out on purpose, by reason", ["channel", "reason"]
)
CONNECTION_STATE = Gauge(
    "tidewire_connection_state",
    "1 for the state that a feed's connection is in: CONNECTING, AUTHENTICATING, CONNECTED, DISCONNECTED",
    ["feed", "state"],
)
CONNECTION_ATTEMPTS = Counter(
    "tidewire_connection_attempts_total", "Attempts to connect to Alpaca since the start", ["feed"]
)
CONNECTION_ERRORS = Counter(
    "tidewire_connection_errors_total",
    "Ends of a connection and error frames, by code or kind",
    ["feed", "kind"],
)
SYMBOLS_SUBSCRIBED = Gauge(
    "tidewire_symbols_subscribed", "Symbols that Alpaca has confirmed, by channel", ["feed", "channel"]
)
LAST_MESSAGE_TIME = Gauge(
    "tidewire_last_message_timestamp_seconds", "Receive time of the last market-data message", ["feed"]
)
PRODUCER_BUFFERED_BYTES = Gauge(
    "tidewire_producer_buffered_bytes", "Bytes of records that Kafka has not yet acknowledged"
)

# ---------------------------------------------------------------- all stages

RECORDS_APPLIED = Counter(
    "tidewire_records_applied_total",
    "Records folded into a table or written to PostgreSQL",
    ["stage", "topic"],
)
RECORDS_SKIPPED = Counter(
    "tidewire_records_skipped_total",
    "Records not applied on purpose: duplicate (already applied), late, filtered",
    ["stage", "topic", "reason"],
)
RECORDS_DEAD_LETTERED = Counter(
    "tidewire_records_dead_lettered_total",
    "Records given up, with their bytes kept, by reason",
    ["stage", "topic"],
)
CONSUMER_LAG = Gauge(
    "tidewire_consumer_lag_records", "End offset minus next offset to read", ["stage", "topic", "partition"]
)
BATCH_RECORDS = Histogram(
    "tidewire_batch_records",
    "Records handled at once",
    ["stage", "topic"],
    buckets=(1, 10, 50, 100, 500, 1_000, 5_000, 10_000, 50_000),
)
BATCH_SECONDS = Histogram(
    "tidewire_batch_seconds",
    "Time to handle one batch",
    ["stage", "topic"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
SLOW_DECODES = Counter(
    "tidewire_slow_decodes_total", "Batches that failed their proof and were bisected", ["stage", "topic"]
)

# ---------------------------------------------------------------- processors

FEATURE_RECORDS = Counter("tidewire_feature_records_total", "Feature vectors sent to features.stocks")
FEATURE_LATENCY = Histogram(
    "tidewire_feature_latency_seconds",
    "From the receive time of the newest record of a batch to the send of its feature records",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
TABLE_KEYS = Gauge("tidewire_table_keys", "Keys in a table", ["table"])
CHANGELOG_RECORDS = Counter(
    "tidewire_changelog_records_total", "Records written to a table's changelog", ["table"]
)

# ---------------------------------------------------------------- sinks: PostgreSQL

POSTGRES_COPIES = Counter(
    "tidewire_postgres_copies_total",
    "COPY commands, by path: direct, merge (after a duplicate), isolate",
    ["path"],
)
POSTGRES_RETRIES = Counter(
    "tidewire_postgres_retries_total", "Transactions tried again after a lost connection or a deadlock"
)
POSTGRES_FENCED = Counter(
    "tidewire_postgres_fenced_total", "Batches given up because another sink had moved the stored offsets"
)

# ---------------------------------------------------------------- simulator

SIMULATOR_PUBLISHED = Counter(
    "tidewire_simulator_published_total", "Messages that the simulated market published", ["channel"]
)
SIMULATOR_CLIENTS = Gauge("tidewire_simulator_clients", "Authenticated sockets")
