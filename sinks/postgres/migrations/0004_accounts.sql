-- The account side, news and crypto. As in 0001: ts is a timestamptz of microseconds and ts_nanos the rest (0..999),
-- every other time is ns since 1970 UTC; k_part and k_offset say which Kafka record a row came from. Money and
-- quantities are numeric(38,18), the decimals of the Avro schemas. extra and detail are JSON as it was received.

-- Crypto market data, a partition a day as for stocks.

CREATE TABLE crypto_trades (
    symbol      text COLLATE "C" NOT NULL,
    ts          timestamptz NOT NULL,
    ts_nanos    smallint NOT NULL,
    trade_id    bigint NOT NULL,
    price       float8 NOT NULL,
    size        float8 NOT NULL,
    taker_side  text NOT NULL,
    extra       text,
    received_ts bigint NOT NULL,
    source      text NOT NULL,
    event_id    bytea NOT NULL,
    k_part      int4 NOT NULL,
    k_offset    int8 NOT NULL,
    PRIMARY KEY (symbol, ts, ts_nanos, trade_id),
    CONSTRAINT crypto_trades_finite CHECK (price > '-Infinity' AND price < 'Infinity'
        AND size > '-Infinity' AND size < 'Infinity')
) PARTITION BY RANGE (ts);

CREATE TABLE crypto_quotes (
    symbol      text COLLATE "C" NOT NULL,
    ts          timestamptz NOT NULL,
    ts_nanos    smallint NOT NULL,
    bid_price   float8 NOT NULL,
    bid_size    float8 NOT NULL,
    ask_price   float8 NOT NULL,
    ask_size    float8 NOT NULL,
    extra       text,
    received_ts bigint NOT NULL,
    source      text NOT NULL,
    event_id    bytea NOT NULL,
    k_part      int4 NOT NULL,
    k_offset    int8 NOT NULL,
    PRIMARY KEY (symbol, ts, event_id),
    CONSTRAINT crypto_quotes_finite CHECK (bid_price > '-Infinity' AND bid_price < 'Infinity'
        AND bid_size > '-Infinity' AND bid_size < 'Infinity'
        AND ask_price > '-Infinity' AND ask_price < 'Infinity'
        AND ask_size > '-Infinity' AND ask_size < 'Infinity')
) PARTITION BY RANGE (ts);

CREATE TABLE crypto_bars (
    symbol       text COLLATE "C" NOT NULL,
    ts           timestamptz NOT NULL,
    ts_nanos     smallint NOT NULL,
    bar_interval text COLLATE "C" NOT NULL,
    revision     bigint NOT NULL,
    open         float8 NOT NULL,
    high         float8 NOT NULL,
    low          float8 NOT NULL,
    close        float8 NOT NULL,
    volume       float8 NOT NULL,
    trade_count  bigint NOT NULL,
    vwap         float8 NOT NULL,
    extra        text,
    received_ts  bigint NOT NULL,
    source       text NOT NULL,
    event_id     bytea NOT NULL,
    k_part       int4 NOT NULL,
    k_offset     int8 NOT NULL,
    PRIMARY KEY (symbol, bar_interval, ts, revision),
    CONSTRAINT crypto_bars_finite CHECK (open > '-Infinity' AND open < 'Infinity'
        AND high > '-Infinity' AND high < 'Infinity'
        AND low > '-Infinity' AND low < 'Infinity'
        AND close > '-Infinity' AND close < 'Infinity'
        AND volume > '-Infinity' AND volume < 'Infinity'
        AND vwap > '-Infinity' AND vwap < 'Infinity')
) PARTITION BY RANGE (ts);

CREATE VIEW crypto_bars_latest AS
    SELECT DISTINCT ON (symbol, bar_interval, ts) *
    FROM crypto_bars
    ORDER BY symbol, bar_interval, ts, revision DESC;

-- Every event of every order, once, and what each filled.

CREATE TABLE order_events (
    event_id              bytea NOT NULL,
    account               text COLLATE "C" NOT NULL,
    order_id              text COLLATE "C" NOT NULL,
    client_order_id       text,
    ts                    timestamptz NOT NULL,
    ts_nanos              smallint NOT NULL,
    event                 text NOT NULL,
    status                text NOT NULL,
    execution_id          text,
    previous_execution_id text,
    alpaca_event_id       text,
    symbol                text NOT NULL,
    asset_class           text NOT NULL,
    side                  text NOT NULL,
    order_type            text NOT NULL,
    order_class           text NOT NULL,
    time_in_force         text NOT NULL,
    order_quantity        numeric(38,18),
    notional              numeric(38,18),
    limit_price           numeric(38,18),
    stop_price            numeric(38,18),
    trail_price           numeric(38,18),
    trail_percent         numeric(38,18),
    cumulative_quantity   numeric(38,18) NOT NULL,
    average_price         numeric(38,18),
    quantity              numeric(38,18),
    price                 numeric(38,18),
    position_quantity     numeric(38,18),
    legs                  jsonb NOT NULL,
    replaces              text,
    replaced_by           text,
    submitted_ts          bigint,
    filled_ts             bigint,
    extended_hours        boolean NOT NULL,
    reason                text,
    extra                 text,
    received_ts           bigint NOT NULL,
    source                text NOT NULL,
    k_part                int4 NOT NULL,
    k_offset              int8 NOT NULL,
    PRIMARY KEY (event_id)
);
CREATE INDEX order_events_order ON order_events (account, order_id, ts);

-- One row an execution, each leg of a multi-leg order for itself. A bust or a correction is a row of its own that
-- names the execution which it undoes or replaces.
CREATE TABLE fills (
    event_id              bytea NOT NULL,
    account               text COLLATE "C" NOT NULL,
    order_id              text COLLATE "C" NOT NULL,
    kind                  text NOT NULL,
    execution_id          text COLLATE "C",
    previous_execution_id text COLLATE "C",
    ts                    timestamptz NOT NULL,
    ts_nanos              smallint NOT NULL,
    symbol                text COLLATE "C" NOT NULL,
    asset_class           text NOT NULL,
    side                  text NOT NULL,
    quantity              numeric(38,18) NOT NULL,
    price                 numeric(38,18) NOT NULL,
    cumulative_quantity   numeric(38,18) NOT NULL,
    position_quantity     numeric(38,18),
    received_ts           bigint NOT NULL,
    source                text NOT NULL,
    k_part                int4 NOT NULL,
    k_offset              int8 NOT NULL,
    PRIMARY KEY (event_id),
    CONSTRAINT fills_kind CHECK (kind IN ('fill', 'bust', 'correct'))
);
CREATE INDEX fills_symbol ON fills (account, symbol, ts);
CREATE INDEX fills_execution ON fills (account, execution_id) WHERE execution_id IS NOT NULL;
CREATE INDEX fills_revised ON fills (account, previous_execution_id) WHERE previous_execution_id IS NOT NULL;

-- What did happen in the end: without busted executions, corrected ones as corrected (however often; of several
-- revisions of one execution the last counts). A correction of an execution that is not here is left out, as what it
-- replaces is not known.
CREATE VIEW fills_effective AS
    SELECT f.* FROM fills f
    WHERE f.kind <> 'bust'
      AND NOT EXISTS (SELECT FROM fills r
                      WHERE r.account = f.account AND r.kind <> 'fill'
                        AND r.previous_execution_id IN (f.execution_id, f.previous_execution_id)
                        AND (f.kind = 'fill' OR (r.ts, r.ts_nanos, r.event_id) > (f.ts, f.ts_nanos, f.event_id)))
      AND (f.kind = 'fill'
           OR EXISTS (SELECT FROM fills p
                      WHERE p.account = f.account AND p.execution_id = f.previous_execution_id
                        AND p.event_id <> f.event_id));

-- The state of things: one row a key, replaced by newer records only. Within one partition of one topic
-- (k_topic_id is Kafka's id of it) the greater offset is newer, else the later ts.

CREATE TABLE orders (
    account         text COLLATE "C" NOT NULL,
    order_id        text COLLATE "C" NOT NULL,
    ts              timestamptz NOT NULL,
    ts_nanos        smallint NOT NULL,
    client_order_id text,
    symbol          text NOT NULL,
    side            text NOT NULL,
    order_type      text NOT NULL,
    order_class     text NOT NULL,
    time_in_force   text NOT NULL,
    status          text NOT NULL,
    quantity        numeric(38,18),
    notional        numeric(38,18),
    filled_quantity numeric(38,18) NOT NULL,
    average_price   numeric(38,18),
    limit_price     numeric(38,18),
    stop_price      numeric(38,18),
    trail_price     numeric(38,18),
    trail_percent   numeric(38,18),
    submitted_ts    bigint NOT NULL,
    filled_ts       bigint,
    reason          text,
    event           text,
    replaced_by     text,
    replaces        text,
    received_ts     bigint NOT NULL,
    source          text NOT NULL,
    event_id        bytea NOT NULL,
    k_part          int4 NOT NULL,
    k_offset        int8 NOT NULL,
    k_topic_id      text NOT NULL,
    PRIMARY KEY (account, order_id)
) WITH (fillfactor = 70);

-- Orders that may still be filled. Alpaca ends an order in one of five states; a status that it may add counts as
-- pending, so that such an order is seen rather than missed.
CREATE VIEW pending_orders AS
    SELECT * FROM orders WHERE status NOT IN ('filled', 'canceled', 'expired', 'replaced', 'rejected');

CREATE TABLE positions (
    account              text COLLATE "C" NOT NULL,
    symbol               text COLLATE "C" NOT NULL,
    epoch                bigint NOT NULL,
    ts                   timestamptz NOT NULL,
    ts_nanos             smallint NOT NULL,
    asset_class          text NOT NULL,
    quantity             numeric(38,18) NOT NULL,
    average_price        numeric(38,18) NOT NULL,
    cost_basis           numeric(38,18) NOT NULL,
    multiplier           numeric(38,18) NOT NULL,
    realized_pnl         numeric(38,18) NOT NULL,
    mark_price           numeric(38,18),
    mark_ts              bigint,
    market_value         numeric(38,18),
    unrealized_pnl       numeric(38,18),
    broker_quantity      numeric(38,18),
    broker_average_price numeric(38,18),
    opened_ts            bigint NOT NULL,
    strategy             text,
    received_ts          bigint NOT NULL,
    source               text NOT NULL,
    event_id             bytea NOT NULL,
    k_part               int4 NOT NULL,
    k_offset             int8 NOT NULL,
    k_topic_id           text NOT NULL,
    PRIMARY KEY (account, symbol, epoch)
) WITH (fillfactor = 70);

CREATE VIEW open_positions AS SELECT * FROM positions WHERE quantity <> 0;

CREATE TABLE accounts (
    account         text COLLATE "C" NOT NULL,
    ts              timestamptz NOT NULL,
    ts_nanos        smallint NOT NULL,
    cash            numeric(38,18) NOT NULL,
    equity          numeric(38,18) NOT NULL,
    buying_power    numeric(38,18) NOT NULL,
    portfolio_value numeric(38,18) NOT NULL,
    day_pnl         numeric(38,18) NOT NULL,
    last_equity     numeric(38,18) NOT NULL,
    blocked         boolean NOT NULL,
    activity_cursor text,
    received_ts     bigint NOT NULL,
    source          text NOT NULL,
    event_id        bytea NOT NULL,
    k_part          int4 NOT NULL,
    k_offset        int8 NOT NULL,
    k_topic_id      text NOT NULL,
    PRIMARY KEY (account)
) WITH (fillfactor = 70);

-- What the broker says of an account, each time that it is asked.

CREATE TABLE account_snapshots (
    event_id           bytea NOT NULL,
    account            text COLLATE "C" NOT NULL,
    broker_account     text,
    ts                 timestamptz NOT NULL,
    ts_nanos           smallint NOT NULL,
    status             text NOT NULL,
    currency           text NOT NULL,
    cash               numeric(38,18) NOT NULL,
    equity             numeric(38,18) NOT NULL,
    last_equity        numeric(38,18) NOT NULL,
    buying_power       numeric(38,18) NOT NULL,
    long_market_value  numeric(38,18) NOT NULL,
    short_market_value numeric(38,18) NOT NULL,
    trading_blocked    boolean NOT NULL,
    orders             jsonb NOT NULL,
    activity_cursor    text,
    contained_fills    text[] NOT NULL,
    extra              text,
    received_ts        bigint NOT NULL,
    source             text NOT NULL,
    k_part             int4 NOT NULL,
    k_offset           int8 NOT NULL,
    PRIMARY KEY (event_id)
);
CREATE INDEX account_snapshots_account ON account_snapshots (account, ts);

CREATE TABLE snapshot_positions (
    event_id      bytea NOT NULL,
    ordinal       int4 NOT NULL,
    account       text COLLATE "C" NOT NULL,
    ts            timestamptz NOT NULL,
    ts_nanos      smallint NOT NULL,
    symbol        text NOT NULL,
    asset_class   text NOT NULL,
    quantity      numeric(38,18) NOT NULL,
    average_price numeric(38,18) NOT NULL,
    market_value  numeric(38,18),
    cost_basis    numeric(38,18),
    current_price numeric(38,18),
    PRIMARY KEY (event_id, ordinal)
);

-- News: every revision of an article, what analyzers say of it, and the decayed score of each symbol.

CREATE TABLE news (
    provider    text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    revision    bigint NOT NULL,
    ts          timestamptz NOT NULL,
    ts_nanos    smallint NOT NULL,
    created_ts  bigint NOT NULL,
    headline    text NOT NULL,
    summary     text NOT NULL,
    content     text NOT NULL,
    author      text NOT NULL,
    url         text NOT NULL,
    symbols     text[] NOT NULL,
    extra       text,
    received_ts bigint NOT NULL,
    source      text NOT NULL,
    event_id    bytea NOT NULL,
    k_part      int4 NOT NULL,
    k_offset    int8 NOT NULL,
    PRIMARY KEY (provider, id, revision)
);
CREATE INDEX news_ts ON news (ts);

CREATE VIEW news_latest AS
    SELECT DISTINCT ON (provider, id) * FROM news ORDER BY provider, id, revision DESC;

CREATE TABLE news_sentiment (
    event_id    bytea NOT NULL,
    symbol      text COLLATE "C" NOT NULL,
    ts          timestamptz NOT NULL,
    ts_nanos    smallint NOT NULL,
    provider    text NOT NULL,
    article_id  text NOT NULL,
    revision    bigint NOT NULL,
    analyzer    text NOT NULL,
    score       float8 NOT NULL,
    confidence  float8,
    detail      text,
    received_ts bigint NOT NULL,
    source      text NOT NULL,
    k_part      int4 NOT NULL,
    k_offset    int8 NOT NULL,
    PRIMARY KEY (event_id),
    CONSTRAINT news_sentiment_finite CHECK (score > '-Infinity' AND score < 'Infinity'
        AND confidence > '-Infinity' AND confidence < 'Infinity')
);
CREATE INDEX news_sentiment_symbol ON news_sentiment (symbol, ts);

CREATE TABLE watchlist_scores (
    symbol       text COLLATE "C" NOT NULL,
    ts           timestamptz NOT NULL,
    ts_nanos     smallint NOT NULL,
    score        float8 NOT NULL,
    half_life_ns bigint NOT NULL,
    articles     bigint NOT NULL,
    received_ts  bigint NOT NULL,
    source       text NOT NULL,
    event_id     bytea NOT NULL,
    k_part       int4 NOT NULL,
    k_offset     int8 NOT NULL,
    k_topic_id   text NOT NULL,
    PRIMARY KEY (symbol),
    CONSTRAINT watchlist_scores_finite CHECK (score > '-Infinity' AND score < 'Infinity')
) WITH (fillfactor = 70);
