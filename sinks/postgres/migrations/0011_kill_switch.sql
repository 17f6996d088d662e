-- The kill switch: one row for all accounts ('*'), and one for each account that was ever switched by itself.
-- Without the row for all, or without the table, it counts as on.
CREATE TABLE kill_switch (
    account text PRIMARY KEY,
    is_on boolean NOT NULL,
    reason text NOT NULL,
    set_by text NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO kill_switch (account, is_on, reason, set_by) VALUES ('*', false, '', 'migration');
