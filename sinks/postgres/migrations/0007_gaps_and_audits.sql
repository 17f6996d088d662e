-- Gaps as their newest records leave them (the way there is in alpaca.gaps), and every comparison with history.

CREATE TABLE gaps (
    id            text COLLATE "C" NOT NULL,
    feed          text COLLATE "C" NOT NULL,
    channels      text[] NOT NULL,
    symbols       text[] NOT NULL,
    ts            timestamptz NOT NULL,
    ts_nanos      smallint NOT NULL,
    opened_ts     bigint NOT NULL,
    state         text NOT NULL,
    reason        text NOT NULL,
    from_ts       bigint NOT NULL,
    until_ts      bigint,
    found         bigint NOT NULL,
    published     bigint NOT NULL,
    unrecoverable text[] NOT NULL,
    placed        text[] NOT NULL,
    detail        text,
    received_ts   bigint NOT NULL,
    source        text NOT NULL,
    event_id      bytea NOT NULL,
    k_part        int4 NOT NULL,
    k_offset      int8 NOT NULL,
    k_topic_id    text NOT NULL,
    PRIMARY KEY (id)
) WITH (fillfactor = 70);
CREATE INDEX gaps_open ON gaps (opened_ts) WHERE state <> 'closed';

-- One row a record: the newest that lists a symbol says what holds for it.
CREATE TABLE audits (
    event_id    bytea NOT NULL,
    feed        text COLLATE "C" NOT NULL,
    channel     text COLLATE "C" NOT NULL,
    ts          timestamptz NOT NULL,
    ts_nanos    smallint NOT NULL,
    symbols     text[] NOT NULL,
    differing   text[] NOT NULL,
    expected    bigint NOT NULL,
    held        bigint NOT NULL,
    sampled     boolean NOT NULL,
    audited_ts  bigint NOT NULL,
    detail      text,
    received_ts bigint NOT NULL,
    source      text NOT NULL,
    k_part      int4 NOT NULL,
    k_offset    int8 NOT NULL,
    PRIMARY KEY (event_id)
);
CREATE INDEX audits_minute ON audits (feed, channel, ts);
