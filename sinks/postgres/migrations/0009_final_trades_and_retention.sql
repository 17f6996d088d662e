-- Each trade as it stands in the end: with the numbers of its last correction, without those that were canceled or
-- were errors. trades and stock_corrections keep everything as it was told.
--
-- A correction names a trade by symbol, exchange and id, and ids begin anew every day: it is that of the same day in
-- New York. What it gives the trade (corrected_id) may be corrected or canceled in turn. History (REST) gives the
-- corrected trade as a row of its own; then that row stands, and the first one is left out. Where history alone told
-- of it, "u" in extra says what became of a trade.

CREATE FUNCTION new_york_day(moment timestamptz) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (moment AT TIME ZONE 'America/New_York')::date;

CREATE VIEW trades_final AS
    SELECT t.symbol, t.ts, t.ts_nanos, t.trade_id, t.exchange, t.price, t.size, t.conditions, t.tape, t.extra,
           t.received_ts, t.source, t.event_id, t.k_part, t.k_offset, false AS corrected
    FROM trades t
    WHERE NOT EXISTS (SELECT FROM stock_corrections c
                      WHERE c.symbol = t.symbol AND c.exchange = t.exchange AND c.original_id = t.trade_id
                        AND new_york_day(c.ts) = new_york_day(t.ts))
      AND (t.extra IS NULL OR coalesce(t.extra::jsonb ->> 'u', '') NOT IN ('canceled', 'incorrect'))
    UNION ALL
    SELECT t.symbol, t.ts, t.ts_nanos, last.corrected_id, t.exchange, last.corrected_price, last.corrected_size,
           last.corrected_conditions, t.tape, t.extra, t.received_ts, t.source, t.event_id, t.k_part, t.k_offset, true
    FROM trades t
    CROSS JOIN LATERAL (
        WITH RECURSIVE steps AS (
            (SELECT c.*, ARRAY[c.original_id] AS seen
             FROM stock_corrections c
             WHERE c.symbol = t.symbol AND c.exchange = t.exchange AND c.original_id = t.trade_id
               AND new_york_day(c.ts) = new_york_day(t.ts)
             ORDER BY c.ts DESC, c.ts_nanos DESC, (c.kind = 'correction'), c.event_id LIMIT 1)
            UNION ALL
            SELECT next.*, s.seen || next.original_id
            FROM steps s
            CROSS JOIN LATERAL (
                SELECT c.* FROM stock_corrections c
                WHERE c.symbol = s.symbol AND c.exchange = s.exchange AND c.original_id = s.corrected_id
                  AND new_york_day(c.ts) = new_york_day(t.ts) AND c.original_id <> ALL (s.seen)
                ORDER BY c.ts DESC, c.ts_nanos DESC, (c.kind = 'correction'), c.event_id LIMIT 1) next
            WHERE s.kind = 'correction')
        SELECT * FROM steps ORDER BY cardinality(seen) DESC LIMIT 1) last
    WHERE EXISTS (SELECT FROM stock_corrections c
                  WHERE c.symbol = t.symbol AND c.exchange = t.exchange AND c.original_id = t.trade_id
                    AND new_york_day(c.ts) = new_york_day(t.ts))
      AND last.kind = 'correction'
      AND NOT EXISTS (SELECT FROM trades n
                      WHERE n.symbol = t.symbol AND n.exchange = t.exchange AND n.trade_id <> t.trade_id
                        AND n.trade_id = ANY (last.seen || last.corrected_id)
                        AND n.ts > t.ts - interval '1 day' AND n.ts < t.ts + interval '1 day'
                        AND new_york_day(n.ts) = new_york_day(t.ts));

-- Before which moment rows of a table may be missing on purpose: their day partitions were dropped, or they came when
-- their day was past keeping. It only ever grows.
CREATE TABLE retention (
    table_name text PRIMARY KEY,
    kept_from  timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
