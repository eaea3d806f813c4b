-- The table of ../sqlite/00012_run_log.sql with PostgreSQL's types.

-- +goose Up
CREATE TABLE run_log (
  run_id bigint   NOT NULL REFERENCES run ON DELETE CASCADE,
  line   int      NOT NULL,
  at     bigint   NOT NULL,
  level  smallint NOT NULL,
  text   text     NOT NULL,
  detail text     NOT NULL,
  PRIMARY KEY (run_id, line)
);

-- +goose Down
DROP TABLE run_log;
