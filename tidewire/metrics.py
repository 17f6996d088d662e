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
    ["feed", "channel"],
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
SYMBOLS_REFUSED = Gauge(
    "tidewire_symbols_refused", "Symbols that Alpaca would not take, by channel", ["feed", "channel"]
)
FEED_REFUSED = Gauge(
    "tidewire_feed_refused", "1 when Alpaca refuses a feed for good; it is not tried again", ["feed"]
)
SUBSCRIPTION_ENTRIES = Counter(
    "tidewire_subscription_entries_total",
    "Records read from control.subscriptions: held, released (tombstones), expired, unknown (no such feed or "
    "channel here), unreadable",
    ["outcome"],
)
LAST_MESSAGE_TIME = Gauge(
    "tidewire_last_message_timestamp_seconds", "Receive time of the last market-data message", ["feed"]
)
PRODUCER_BUFFERED_BYTES = Gauge(
    "tidewire_producer_buffered_bytes", "Bytes of records that Kafka has not yet acknowledged"
)

# ---------------------------------------------------------------- producers: accounts, never by account

TRADING_CONNECTIONS = Gauge(
    "tidewire_trading_connections", "Accounts whose trading stream is in this state", ["state"]
)
TRADE_UPDATES_RECOVERED = Counter(
    "tidewire_trade_updates_recovered_total",
    "Order events that the stream did not tell and REST did, by event",
    ["event"],
)
ACCOUNT_SNAPSHOTS = Counter(
    "tidewire_account_snapshots_total",
    "Attempts at a snapshot: published, moved (a fill came between: tried again), failed (REST)",
    ["outcome"],
)
TRADING_REST_REQUESTS = Counter(
    "tidewire_trading_rest_requests_total",
    "Requests to Alpaca's trading API, by first part of the path and HTTP status (none: no answer)",
    ["path", "status"],
)

# ---------------------------------------------------------------- all stages

RECORDS_APPLIED = Counter(
    "tidewire_records_applied_total",
    "Records folded into a table or written to PostgreSQL",
    ["stage", "topic"],
)
RECORDS_SKIPPED = Counter(
    "tidewire_records_skipped_total",
    "Records not applied on purpose: duplicate (already applied), late, filtered, superseded, tombstone",
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

CHANGELOG_READ = Counter(
    "tidewire_changelog_read_total",
    "Records read from a table's changelog, of partitions served (recovery) or stood by for",
    ["table", "kind"],
)
CHANGELOG_FOREIGN = Counter(
    "tidewire_changelog_foreign_total",
    "Times that another process had written to the changelog of a partition of ours, which was written anew",
    ["table"],
)

# ---------------------------------------------------------------- processors: news and marks

SENTIMENT_RECORDS = Counter("tidewire_sentiment_records_total", "Scores of articles sent to news.sentiment")
SENTIMENT_HANGING = Gauge(
    "tidewire_sentiment_hanging_threads", "Calls of an analyzer that have outlasted their time", ["analyzer"]
)
MARKS_SENT = Counter(
    "tidewire_marks_sent_total", "Marks sent to portfolio.marks, one for each partition that gets it"
)
SYMBOLS_HELD = Gauge("tidewire_symbols_held", "Symbols in which any account has a position")

# ---------------------------------------------------------------- processors: the portfolio

PORTFOLIO_LATENCY = Histogram(
    "tidewire_portfolio_latency_seconds",
    "From the receive time of an order event to the send of what follows from it",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
PORTFOLIO_DIFFERENCES = Counter(
    "tidewire_portfolio_differences_total",
    "Quantities and cash in a broker's snapshot that differ from the fold as of that moment",
    ["what"],
)
PORTFOLIO_POSITIONS_DIFFERING = Gauge(
    "tidewire_portfolio_positions_differing", "Positions that differed in the newest snapshots"
)
PORTFOLIO_FILLS_WAITING = Gauge(
    "tidewire_portfolio_fills_waiting", "Fills of accounts whose opening balance is not known yet"
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
POSTGRES_PARTITIONS_DROPPED = Counter(
    "tidewire_postgres_partitions_dropped_total", "Day partitions dropped past their retention", ["table"]
)
POSTGRES_FENCED = Counter(
    "tidewire_postgres_fenced_total", "Batches given up because another sink had moved the stored offsets"
)

# ---------------------------------------------------------------- simulator

SIMULATOR_PUBLISHED = Counter(
    "tidewire_simulator_published_total", "Messages that the simulated market published", ["channel"]
)
SIMULATOR_CLIENTS = Gauge("tidewire_simulator_clients", "Authenticated sockets")

# ---------------------------------------------------------------- gateway

GATEWAY_CONNECTIONS = Gauge("tidewire_gateway_connections", "Open WebSockets of clients", ["socket"])
GATEWAY_FRAMES = Counter("tidewire_gateway_frames_total", "Frames written to clients, by type", ["type"])
GATEWAY_BYTES = Counter("tidewire_gateway_bytes_total", "Bytes of those frames", ["socket"])
GATEWAY_CONFLATED = Counter(
    "tidewire_gateway_conflated_total",
    "Messages not sent to a slow client because a newer one of the same key replaced them",
    ["socket"],
)
GATEWAY_CLOSED = Counter(
    "tidewire_gateway_closed_total",
    "Connections that ended, by reason: left, slow, stalled, silent, signed_out, limit, too_big, accounts, "
    "shutdown",
    ["socket", "reason"],
)
GATEWAY_REFUSED = Counter(
    "tidewire_gateway_refused_total",
    "Requests refused, by reason: disabled, origin, session, connections, starting, database, rate, request, "
    "password, attempts",
    ["reason"],
)
GATEWAY_DELIVERY_SECONDS = Histogram(
    "tidewire_gateway_delivery_seconds",
    "From the receive time of a record to the write of its frame; batched ones wait up to a second",
    ["type"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
GATEWAY_WATCHED = Gauge("tidewire_gateway_watched_symbols", "Symbols whose tape somebody watches", ["feed"])

# ---------------------------------------------------------------- producers: order books

ORDER_BOOK_ODDITIES = Counter(
    "tidewire_order_book_oddities_total",
    "Order-book messages that were published though something is odd: delta_first (a change before any whole "
    "book), crossed (a bid not below the ask), unsorted (levels of a whole book out of order)",
    ["oddity"],
)

# ---------------------------------------------------------------- producers: history over REST, backfill

HISTORY_REQUESTS = Counter(
    "tidewire_history_requests_total",
    "Requests to Alpaca's market-data REST API, by HTTP status (none: no answer)",
    ["status"],
)
HISTORY_ROWS = Counter(
    "tidewire_history_rows_total",
    "Rows that those requests brought, by kind and channel",
    ["kind", "channel"],
)
BACKFILL_MESSAGES = Counter(
    "tidewire_backfill_messages_total",
    "Messages of history that a backfill looked at: held (the log has them), published, dead_lettered",
    ["channel", "outcome"],
)
BACKFILL_GAPS = Counter(
    "tidewire_backfill_gaps_total",
    "Work on gaps that ended: closed, unrecoverable (closed without its history), failed (is tried again), "
    "revoked (another worker has it)",
    ["outcome"],
)
BACKFILL_WAITING = Gauge("tidewire_backfill_waiting_gaps", "Gaps of this worker that are over and not closed")

# ---------------------------------------------------------------- subscriber, RSS and webhooks

SUBSCRIPTION_CHANGES = Counter(
    "tidewire_subscription_changes_total",
    "Entries of control.subscriptions written for positions and movers: opened, renewed, released",
    ["holder", "change"],
)
SUBSCRIPTION_REPAIRS = Counter(
    "tidewire_subscription_repairs_total",
    "Entries that were missing although wanted before, or stood although not: found by comparing",
)
RSS_LOOKS = Counter(
    "tidewire_rss_looks_total",
    "Looks at RSS feeds: changed, unchanged, failed, too_big, slow, broken (no feed at all)",
    ["outcome"],
)
RSS_ARTICLES = Counter(
    "tidewire_rss_articles_total",
    "Entries of RSS feeds: published, duplicate (seen before), copy (of another source's article), old, "
    "left_out (beyond 1000 in one document), refused (dead-lettered)",
    ["outcome"],
)
RSS_TWINS = Counter(
    "tidewire_rss_twins_total",
    "Articles that came by RSS and from another source, by who was received first: rss or other",
    ["first"],
)
RSS_LEAD_SECONDS = Histogram(
    "tidewire_rss_lead_seconds",
    "How much earlier the first of two such articles was received, by who was first",
    ["first"],
    buckets=(1, 5, 15, 30, 60, 120, 300, 900, 3600, 21_600),
)
RSS_FIELDS = Counter(
    "tidewire_rss_fields_total",
    "Such articles in which a field was present, by side: rss or other",
    ["side", "field"],
)
WEBHOOKS = Counter(
    "tidewire_webhooks_total",
    "Webhook requests: accepted, repeated, unsigned, altered, stale, future, too_big, malformed, rate, busy",
    ["endpoint", "outcome"],
)

# ---------------------------------------------------------------- producers: leases, never by feed or account

LEASES_HELD = Gauge("tidewire_leases_held", "Feeds that this process owns", ["group"])
LEASES_TAKEN = Counter("tidewire_leases_taken_total", "Feeds that became this process's", ["group"])
LEASES_GIVEN_UP = Counter(
    "tidewire_leases_given_up_total",
    "Feeds that this process gave up: stopped, reassigned (by the group, or it took us for dead), superseded "
    "(another claimed it), asleep (this process did not run for seconds), unconfirmed (no word from Kafka)",
    ["group", "reason"],
)

# ---------------------------------------------------------------- accounts: what rounds over REST compared

ACCOUNT_ROUNDS = Counter(
    "tidewire_account_rounds_total",
    "Rounds over REST that compared an account with the log: equal, differing (something was missing)",
    ["outcome"],
)
ACCOUNT_GAPS = Counter(
    "tidewire_account_gaps_total",
    "Gaps of order events, by state reached: opened, closed, unrecoverable (closed without passing states)",
    ["state"],
)
TRADING_REST_POLLING = Counter(
    "tidewire_trading_rest_polling_requests_total",
    "Requests that polling account, positions and orders each second would have made in place of the stream",
)
PORTFOLIO_POSITIONS_UNEXPLAINED = Gauge(
    "tidewire_portfolio_positions_unexplained",
    "Positions that differed from the broker's in two snapshots one after the other, without an explanation",
)

# ---------------------------------------------------------------- producers: audits

AUDIT_MINUTES = Counter(
    "tidewire_audit_minutes_total",
    "Comparisons of a channel's minute with Alpaca's history, by what was found: equal, differing",
    ["kind", "channel", "outcome"],
)
AUDIT_GIVEN_UP = Counter(
    "tidewire_audit_minutes_given_up_total",
    "Minutes that stay unaudited: too many waited, or they are further back than TIDEWIRE_BACKFILL_DAYS",
    ["kind"],
)
AUDIT_REPAIRS = Counter(
    "tidewire_audit_repairs_total",
    "Symbols' minutes that differed and were given to the backfiller",
    ["kind", "channel"],
)
AUDIT_LAG = Gauge(
    "tidewire_audit_lag_seconds",
    "Event time from the end of the oldest minute that is done to the newest that was read",
    ["kind"],
)
AUDIT_FAILURES = Counter(
    "tidewire_audit_failures_total",
    "Rounds that Alpaca's history did not answer; they are repeated",
    ["kind"],
)

# ---------------------------------------------------------------- gaps and the watchdog

GAPS_LASTING = Gauge("tidewire_gaps_lasting", "Gaps of an owned feed that have no end yet", ["feed"])
GAP_STATES = Counter(
    "tidewire_gap_states_total",
    "States of gaps that a feed's owner wrote: lasts, opened (over, to be fetched), closed (too old to be "
    "fetched), by reason: disconnect, stall, slow_client, overflow, restart",
    ["feed", "reason", "state"],
)
GAP_RECORDS_LEARNED = Counter(
    "tidewire_gap_records_learned_total", "Backfilled records that a feed's entrance was told of", ["feed"]
)
WATCHDOG_LOOKS = Counter(
    "tidewire_watchdog_looks_total",
    "Silences of a feed that were settled over REST: quiet (nothing newer there), mute (the socket hid "
    "something; it is made anew), behind (what it brings is older still), unknown (REST did not answer)",
    ["feed", "verdict"],
)

# ------------------------------------------------------------- processors: exits, never by symbol or account

EXIT_TRIGGERS = Counter("tidewire_exit_triggers_total", "Exit rules that fired, by kind of rule", ["kind"])
EXIT_EVENTS = Counter(
    "tidewire_exit_events_total",
    "Turns of exit rules: armed, held, released, rescaled, triggered, published, disarmed, "
    "alert; by the gate "
    "that held or released them (empty where none is concerned)",
    ["event", "gate"],
)
EXIT_EVENTS_CONFLATED = Counter(
    "tidewire_exit_events_conflated_total",
    "Turns of a flapping gate that were not told because newer ones followed at once",
)
EXIT_RULES_ARMED = Gauge("tidewire_exit_rules_armed", "Exit rules that may fire")
EXIT_SYMBOLS_WATCHED = Gauge("tidewire_exit_symbols_watched", "Symbols whose prices exit rules watch")
EXIT_TRIGGERS_PENDING = Gauge(
    "tidewire_exit_triggers_pending", "Triggers that are durable and whose intent is not in the log yet"
)
EXIT_LATENCY = Histogram(
    "tidewire_exit_latency_seconds",
    "From the receive time of the price that fired a rule to its intent in the log",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)

# ---------------------------------------------------------------- the executor's requests, never by account

BROKER_REQUESTS = Counter(
    "tidewire_broker_requests_total",
    "Requests of the executor to the broker, by method and HTTP status (none: no answer)",
    ["method", "status"],
)

# -- placing of exits

EXIT_WATCHES = Gauge(
    "tidewire_exit_watches",
    "Rules that guard an open position; held: the account side forbids them",
    ["state"],
)
EXIT_WATCHES_WRITTEN = Counter(
    "tidewire_exit_watches_written_total", "Watches written: changed ones, released ones and their tombstones"
)
EXIT_ATTEMPTS = Counter(
    "tidewire_exit_attempts_total",
    "Attempts to close a position that have ended: closed, partly, vain, or stopped (somebody has to act)",
    ["ended"],
)

# ---------------------------------------------------------------- executor

EXECUTOR_ENDED = Counter(
    "tidewire_executor_intents_ended_total",
    "Order intents that ended, by kind (exit, order) and outcome: the broker's terminal "
    "status, closed (nothing "
    "was held), refused (by a check or the kill switch), rejected (by the broker), stale, dry_run, other",
    ["kind", "outcome"],
)
EXECUTOR_POSTS = Counter(
    "tidewire_executor_posts_total",
    "Orders that were about to be sent, by what came of it: accepted, refused, unknown, unsent "
    "(no connection), "
    "limited, stopped (kill switch), unread (the switch could not be read: tried again), stalled, stale",
    ["outcome"],
)
EXECUTOR_ALERTS = Counter(
    "tidewire_executor_alerts_total",
    "What somebody should look at: an exit refused or rejected, an order lost by the broker, "
    "an intent that an "
    "error of ours has stopped (broken) or that cannot be read, an order that turned up after its intent had "
    "ended without it (late)",
    ["kind"],
)
EXECUTOR_SECONDS = Histogram(
    "tidewire_executor_intent_seconds",
    "From the receive time of an intent's newest input to its end",
    buckets=(0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60, 600),
)
EXECUTOR_WORKING = Gauge("tidewire_executor_working_intents", "Intents of this process that have not ended")
EXECUTOR_RESULTS = Counter("tidewire_executor_results_total", "Results that Kafka has acknowledged")
EXECUTOR_OUTBOX_WAITING = Gauge(
    "tidewire_executor_outbox_waiting", "Results that the last look found unpublished (200 at most)"
)
EXECUTOR_CLAIMS = Counter(
    "tidewire_executor_claims_total",
    "Accounts that this process claimed, and claims that it lost to another: claimed, fenced",
    ["what"],
)

# -- every service

LOOP_LATE = Histogram(
    "tidewire_loop_late_seconds",
    "How much later than asked for the event loop woke a sleeper that asks ten times a second: for so long "
    "the service stood still, or waited for a core",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)

# -- corporate actions

CORPORATE_ACTION_LOOKS = Counter(
    "tidewire_corporate_action_looks_total",
    "Looks at Alpaca's corporate actions, by outcome: good, failed (asked again a minute later)",
    ["outcome"],
)
CORPORATE_ACTIONS = Counter(
    "tidewire_corporate_actions_total",
    "Announcements of corporate actions, by what was seen: announced, changed, removed (published), "
    "unchanged, filtered (of a symbol not asked for), unreadable (dead-lettered)",
    ["what"],
)
CORPORATE_ACTIONS_LOOKED = Gauge(
    "tidewire_corporate_actions_last_look_timestamp_seconds",
    "When the last good look at Alpaca's corporate actions began, seconds since 1970",
)

# -- account activities

ACCOUNT_ACTIVITIES = Counter(
    "tidewire_account_activities_total", "Account activities that are no fills, published: each once a status"
)

# -- signals

SIGNALS = Counter(
    "tidewire_signals_total", "Signals sent, by kind; after a crash one may be sent again", ["kind"]
)

# ---------------------------------------------------------------- all that read columns

NATIVE_DECODER = Gauge(
    "tidewire_native_decoder", "1: record batches are decoded by the native library; 0: by Polars, slower"
)
