-- The executor's ledger. Every change of an account's rows is made in a transaction that first holds the
-- account's owner row with the fence that the writer knows: one whose account was taken over writes nothing.
CREATE TABLE executor_owners (
    account text PRIMARY KEY,
    fence int8 NOT NULL CHECK (fence > 0),
    owner text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);

-- One row an intent, written before anything is asked of the broker. `record` is the intent's own bytes, `state`
-- where it is; `version` counts its changes.
CREATE TABLE order_intents_ledger (
    intent_id text PRIMARY KEY,
    account text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('exit', 'order')),
    symbol text NOT NULL,
    position_epoch int8,
    exit_epoch int8,
    record bytea NOT NULL,
    version int8 NOT NULL DEFAULT 0,
    phase text NOT NULL,
    state jsonb NOT NULL,
    outcome text,
    reason text,
    taken_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CHECK ((kind = 'exit') = (exit_epoch IS NOT NULL)),
    CHECK (kind <> 'exit' OR position_epoch IS NOT NULL),
    CHECK ((phase = 'done') = (ended_at IS NOT NULL))
);
CREATE UNIQUE INDEX order_intents_ledger_exit ON order_intents_ledger (account, symbol, position_epoch, exit_epoch)
    WHERE kind = 'exit';
CREATE INDEX order_intents_ledger_open ON order_intents_ledger (account) WHERE phase <> 'done';

-- One row an order that the broker may have got: written before it is sent. Numbers of one intent follow each other.
CREATE TABLE order_attempts (
    account text NOT NULL,
    intent_id text NOT NULL REFERENCES order_intents_ledger,
    attempt int4 NOT NULL CHECK (attempt >= 0),
    client_order_id text NOT NULL UNIQUE,
    kind text NOT NULL,
    symbol text NOT NULL,
    side text NOT NULL,
    order_type text NOT NULL,
    quantity numeric,
    notional numeric,
    limit_price numeric,
    fence int8 NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT now(),
    order_id text,
    status text,
    filled_quantity numeric NOT NULL DEFAULT 0,
    average_price numeric,
    UNIQUE (account, intent_id, attempt)
);
CREATE INDEX order_attempts_recent ON order_attempts (account, sent_at);

-- What is to be published to orders.results, written with the change that it tells of.
CREATE TABLE order_results_outbox (
    id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL,
    event_id bytea NOT NULL,
    value bytea NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz
);
CREATE INDEX order_results_outbox_waiting ON order_results_outbox (account, id) WHERE published_at IS NULL;
