-- Account activities that are no fills (fees, dividends, splits, expiries, transfers): one row a status of each. One
-- that was corrected or canceled in place has a row for each; `previous_id` names one that this row revises.
CREATE TABLE account_activities (
    event_id         bytea NOT NULL,
    account          text COLLATE "C" NOT NULL,
    activity_id      text COLLATE "C" NOT NULL,
    activity_type    text COLLATE "C" NOT NULL,
    subtype          text,
    ts               timestamptz NOT NULL,
    ts_nanos         smallint NOT NULL,
    date             text,
    created_ts       bigint,
    symbol           text COLLATE "C",
    quantity         numeric(38,18),
    price            numeric(38,18),
    net_amount       numeric(38,18),
    per_share_amount numeric(38,18),
    group_id         text,
    status           text,
    previous_id      text,
    description      text,
    extra            text,
    received_ts      bigint NOT NULL,
    source           text NOT NULL,
    k_part           int4 NOT NULL,
    k_offset         int8 NOT NULL,
    PRIMARY KEY (event_id)
);
CREATE INDEX account_activities_account ON account_activities (account, ts);

-- The ids of activities that a snapshot is the first to contain; null: they were not looked for.
ALTER TABLE account_snapshots ADD COLUMN contained_activities text[];

-- What a position costs by the broker's rule: average within a day, FIFO of days overnight.
ALTER TABLE positions ADD COLUMN broker_rule_cost numeric(38,18);

CREATE OR REPLACE VIEW open_positions AS SELECT * FROM positions WHERE quantity <> 0;
