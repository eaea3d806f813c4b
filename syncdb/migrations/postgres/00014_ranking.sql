-- The ranking of ../sqlite/00014_ranking.sql.

-- +goose Up
CREATE TABLE ranking (
  connection_id int      PRIMARY KEY REFERENCES connection ON DELETE CASCADE,
  run_id        bigint   NOT NULL,
  fresh         smallint NOT NULL CHECK (fresh IN (0, 1))
);
ALTER TABLE issue ADD COLUMN ranked_run bigint NOT NULL DEFAULT 0, ADD COLUMN own bigint NOT NULL DEFAULT 0,
  ADD COLUMN frees bigint NOT NULL DEFAULT 0, ADD COLUMN waits bigint NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE issue DROP COLUMN waits, DROP COLUMN frees, DROP COLUMN own, DROP COLUMN ranked_run;
DROP TABLE ranking;
