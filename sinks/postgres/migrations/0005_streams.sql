-- The other streams: options, and of stocks what the market says of itself; order books of crypto pairs. As in 0001:
-- ts is a timestamptz of microseconds and ts_nanos the rest (0..999), received_ts is ns since 1970 UTC; k_part and
-- k_offset say which Kafka record a row came from.

-- Neither option trades nor option quotes have an id of Alpaca's: the event id tells true repeats apart.

CREATE TABLE option_trades (
    symbol      text COLLATE "C" NOT NULL,
    ts          timestamptz NOT NULL,
    ts_nanos    smallint NOT NULL,
    exchange    text NOT NULL,
    price       float8 NOT NULL,
    size        bigint NOT NULL,
    condition   text NOT NULL,
    extra       text,
    received_ts bigint NOT NULL,
    source      text NOT NULL,
    event_id    bytea NOT NULL,
    k_part      int4 NOT NULL,
    k_offset    int8 NOT NULL,
    PRIMARY KEY (symbol, ts, event_id),
    CONSTRAINT option_trades_price_finite CHECK (price > '-Infinity' AND price < 'Infinity')
) PARTITION BY RANGE (ts);

CREATE TABLE option_quotes (
    symbol       text COLLATE "C" NOT NULL,
    ts           timestamptz NOT NULL,
    ts_nanos     smallint NOT NULL,
    bid_exchange text NOT NULL,
    bid_price    float8 NOT NULL,
    bid_size     bigint NOT NULL,
    ask_exchange text NOT NULL,
    ask_price    float8 NOT NULL,
    ask_size     bigint NOT NULL,
    condition    text NOT NULL,
    extra        text,
    received_ts  bigint NOT NULL,
    source       text NOT NULL,
    event_id     bytea NOT NULL,
    k_part       int4 NOT NULL,
    k_offset     int8 NOT NULL,
    PRIMARY KEY (symbol, ts, event_id),
    CONSTRAINT option_quotes_prices_finite CHECK (bid_price > '-Infinity' AND bid_price < 'Infinity'
                                              AND ask_price > '-Infinity' AND ask_price < 'Infinity')
) PARTITION BY RANGE (ts);

-- Rare events of stocks. Alpaca keeps no history of them: what is not here cannot be asked for again.

CREATE TABLE stock_statuses (
    symbol         text COLLATE "C" NOT NULL,
    ts             timestamptz NOT NULL,
    ts_nanos       smallint NOT NULL,
    status_code    text NOT NULL,
    status_message text NOT NULL,
    reason_code    text NOT NULL,
    reason_message text NOT NULL,
    tape           text NOT NULL,
    extra          text,
    received_ts    bigint NOT NULL,
    source         text NOT NULL,
    event_id       bytea NOT NULL,
    k_part         int4 NOT NULL,
    k_offset       int8 NOT NULL,
    PRIMARY KEY (symbol, ts, event_id)
);

CREATE TABLE stock_lulds (
    symbol           text COLLATE "C" NOT NULL,
    ts               timestamptz NOT NULL,
    ts_nanos         smallint NOT NULL,
    limit_up_price   float8 NOT NULL,
    limit_down_price float8 NOT NULL,
    indicator        text NOT NULL,
    tape             text NOT NULL,
    extra            text,
    received_ts      bigint NOT NULL,
    source           text NOT NULL,
    event_id         bytea NOT NULL,
    k_part           int4 NOT NULL,
    k_offset         int8 NOT NULL,
    PRIMARY KEY (symbol, ts, event_id)
);

CREATE TABLE stock_imbalances (
    symbol      text COLLATE "C" NOT NULL,
    ts          timestamptz NOT NULL,
    ts_nanos    smallint NOT NULL,
    price       float8 NOT NULL,
    tape        text NOT NULL,
    extra       text,
    received_ts bigint NOT NULL,
    source      text NOT NULL,
    event_id    bytea NOT NULL,
    k_part      int4 NOT NULL,
    k_offset    int8 NOT NULL,
    PRIMARY KEY (symbol, ts, event_id)
);

-- What became of a trade: kind correction (replaced by another), cancel or error. The trade's own row stays.
CREATE TABLE stock_corrections (
    symbol               text COLLATE "C" NOT NULL,
    ts                   timestamptz NOT NULL,
    ts_nanos             smallint NOT NULL,
    kind                 text NOT NULL,
    exchange             text COLLATE "C" NOT NULL,
    original_id          bigint NOT NULL,
    original_price       float8 NOT NULL,
    original_size        bigint NOT NULL,
    original_conditions  text[] NOT NULL,
    corrected_id         bigint,
    corrected_price      float8,
    corrected_size       bigint,
    corrected_conditions text[] NOT NULL,
    tape                 text NOT NULL,
    extra                text,
    received_ts          bigint NOT NULL,
    source               text NOT NULL,
    event_id             bytea NOT NULL,
    k_part               int4 NOT NULL,
    k_offset             int8 NOT NULL,
    PRIMARY KEY (symbol, ts, event_id)
);
CREATE INDEX stock_corrections_trade ON stock_corrections (symbol, original_id, exchange);

-- Whole books (reset) and the changes that follow them, as sent: the size at a place belongs to the price at the same
-- place, and 0 removes a level.
CREATE TABLE crypto_orderbooks (
    symbol      text COLLATE "C" NOT NULL,
    ts          timestamptz NOT NULL,
    ts_nanos    smallint NOT NULL,
    reset       boolean NOT NULL,
    bid_prices  float8[] NOT NULL,
    bid_sizes   float8[] NOT NULL,
    ask_prices  float8[] NOT NULL,
    ask_sizes   float8[] NOT NULL,
    extra       text,
    received_ts bigint NOT NULL,
    source      text NOT NULL,
    event_id    bytea NOT NULL,
    k_part      int4 NOT NULL,
    k_offset    int8 NOT NULL,
    PRIMARY KEY (symbol, ts, event_id)
);
