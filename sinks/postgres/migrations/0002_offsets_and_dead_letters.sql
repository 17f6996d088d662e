-- Where each partition goes on. Advanced in the transaction that writes the rows, and only from the value that
-- the writer expects: that is what makes every record count once and stops a sink that lost its partitions.
-- cluster_topic_id is Kafka's own id of the topic: a topic deleted and made again starts over at offset 0.
CREATE TABLE kafka_offsets (
    sink_group       text   NOT NULL,
    topic            text   NOT NULL,
    part             int4   NOT NULL,
    next_offset      int8   NOT NULL,
    cluster_topic_id text   NOT NULL,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink_group, topic, part)
) WITH (fillfactor = 50);

-- Records given up, with their bytes. Written in the transaction that passes them; the outbox of <topic>.dlq:
-- published_at is set once Kafka has acknowledged the copy there.
CREATE TABLE dead_letters (
    id               int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sink_group       text NOT NULL,
    topic            text NOT NULL,
    part             int4 NOT NULL,
    k_offset         int8 NOT NULL,
    cluster_topic_id text NOT NULL,
    kafka_ms         int8 NOT NULL,
    key              bytea,
    value            bytea,
    stage            text NOT NULL,
    error            text NOT NULL,
    reason           text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    published_at     timestamptz,
    publish_error    text,
    UNIQUE (sink_group, topic, cluster_topic_id, part, k_offset)
);
CREATE INDEX dead_letters_unsent ON dead_letters (id) WHERE published_at IS NULL AND publish_error IS NULL;
