-- A position whose quantity is another than the broker's in two snapshots one after the other, without any
-- activity that explains it: exits on it are held.

ALTER TABLE positions ADD COLUMN unexplained boolean NOT NULL DEFAULT false;

CREATE OR REPLACE VIEW open_positions AS SELECT * FROM positions WHERE quantity <> 0;
