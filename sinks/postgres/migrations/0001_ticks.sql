-- Market data, a table a topic, a partition a day of ts (UTC). PostgreSQL keeps microseconds: ts_nanos holds
-- the rest (0..999). k_part and k_offset say which Kafka record a row came from. Text of the keys compares by
-- bytes (COLLATE "C"): the same order everywhere, and the quickest.
-- NaN and infinity are refused in columns before COPY; the CHECKs are the last net (NaN = NaN in PostgreSQL).

CREATE TABLE trades (
    symbol      text COLLATE "C" NOT NULL,
    ts          timestamptz      NOT NULL,
    ts_nanos    smallint         NOT NULL,
    trade_id    bigint           NOT NULL,
    exchange    text COLLATE "C" NOT NULL,
    price       float8           NOT NULL,
    size        bigint           NOT NULL,
    conditions  text[]           NOT NULL,
    tape        text             NOT NULL,
    extra       text,
    received_ts bigint           NOT NULL,
    source      text             NOT NULL,
    event_id    bytea            NOT NULL,
    k_part      int4             NOT NULL,
    k_offset    int8             NOT NULL,
    PRIMARY KEY (symbol, ts, ts_nanos, trade_id, exchange),
    CONSTRAINT trades_price_finite CHECK (price > '-Infinity' AND price < 'Infinity')
) PARTITION BY RANGE (ts);

CREATE TABLE quotes (
    symbol       text COLLATE "C" NOT NULL,
    ts           timestamptz      NOT NULL,
    ts_nanos     smallint         NOT NULL,
    bid_exchange text             NOT NULL,
    bid_price    float8           NOT NULL,
    bid_size     bigint           NOT NULL,
    ask_exchange text             NOT NULL,
    ask_price    float8           NOT NULL,
    ask_size     bigint           NOT NULL,
    conditions   text[]           NOT NULL,
    tape         text             NOT NULL,
    extra        text,
    received_ts  bigint           NOT NULL,
    source       text             NOT NULL,
    event_id     bytea            NOT NULL,
    k_part       int4             NOT NULL,
    k_offset     int8             NOT NULL,
    PRIMARY KEY (symbol, ts, event_id),
    CONSTRAINT quotes_prices_finite CHECK (bid_price > '-Infinity' AND bid_price < 'Infinity'
                                       AND ask_price > '-Infinity' AND ask_price < 'Infinity')
) PARTITION BY RANGE (ts);

CREATE TABLE bars (
    symbol       text COLLATE "C" NOT NULL,
    ts           timestamptz      NOT NULL,
    ts_nanos     smallint         NOT NULL,
    bar_interval text COLLATE "C" NOT NULL,
    revision     bigint           NOT NULL,
    open         float8           NOT NULL,
    high         float8           NOT NULL,
    low          float8           NOT NULL,
    close        float8           NOT NULL,
    volume       bigint           NOT NULL,
    trade_count  bigint           NOT NULL,
    vwap         float8           NOT NULL,
    extra        text,
    received_ts  bigint           NOT NULL,
    source       text             NOT NULL,
    event_id     bytea            NOT NULL,
    k_part       int4             NOT NULL,
    k_offset     int8             NOT NULL,
    PRIMARY KEY (symbol, bar_interval, ts, revision),
    CONSTRAINT bars_prices_finite CHECK (open > '-Infinity' AND open < 'Infinity'
                                     AND high > '-Infinity' AND high < 'Infinity'
                                     AND low > '-Infinity' AND low < 'Infinity'
                                     AND close > '-Infinity' AND close < 'Infinity'
                                     AND vwap > '-Infinity' AND vwap < 'Infinity')
) PARTITION BY RANGE (ts);

-- Each revision of a bar is a row; most readers want the newest.
CREATE VIEW bars_latest AS
    SELECT DISTINCT ON (symbol, bar_interval, ts) *
    FROM bars
    ORDER BY symbol, bar_interval, ts, revision DESC;
