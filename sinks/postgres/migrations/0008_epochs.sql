-- The epochs of the owners whose records were stored, moved together with the offset: a record of a smaller epoch
-- that follows is a stale owner's and is not stored. {"": [[epoch, offset of its first record], ...]}, or by account.
ALTER TABLE kafka_offsets ADD COLUMN epochs jsonb NOT NULL DEFAULT '{}';
