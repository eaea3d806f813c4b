-- The ranking of causes, as it was when a run ended: the page of issues need not read a million rows. See docs/ledger.md.

-- +goose Up
CREATE TABLE ranking (
  connection_id INTEGER PRIMARY KEY REFERENCES connection ON DELETE CASCADE,
  run_id        INTEGER NOT NULL,                                               -- that made it
  fresh         INTEGER NOT NULL CHECK (fresh IN (0, 1))                        -- 0 = problems have changed since
);
ALTER TABLE issue ADD COLUMN ranked_run INTEGER NOT NULL DEFAULT 0;             -- whose ranking the figures are of
ALTER TABLE issue ADD COLUMN own        INTEGER NOT NULL DEFAULT 0;             -- rows that wait for no other
ALTER TABLE issue ADD COLUMN frees      INTEGER NOT NULL DEFAULT 0;             -- rows of any issue that wait for those
ALTER TABLE issue ADD COLUMN waits      INTEGER NOT NULL DEFAULT 0;             -- rows that wait for rows of other issues

-- +goose Down
ALTER TABLE issue DROP COLUMN waits;
ALTER TABLE issue DROP COLUMN frees;
ALTER TABLE issue DROP COLUMN own;
ALTER TABLE issue DROP COLUMN ranked_run;
DROP TABLE ranking;
