-- What the service needs beside the runs: when a connection was last asked for by its schedule, why it waits, and how far a run is.

-- +goose Up
ALTER TABLE connection ADD COLUMN ticked_at INTEGER;                   -- last tick of its schedule that was kept
ALTER TABLE connection ADD COLUMN paused_at INTEGER;                   -- NULL = it is not
ALTER TABLE connection ADD COLUMN paused_by TEXT NOT NULL DEFAULT '';
ALTER TABLE connection ADD COLUMN paused_why TEXT NOT NULL DEFAULT ''; -- no student values
ALTER TABLE connection ADD COLUMN resume_at INTEGER;                   -- NULL = when somebody says so
ALTER TABLE run ADD COLUMN progress TEXT;                              -- JSON: phase, resource, done, total; no student values
ALTER TABLE run ADD COLUMN progress_at INTEGER;

-- +goose Down
ALTER TABLE run DROP COLUMN progress_at;
ALTER TABLE run DROP COLUMN progress;
ALTER TABLE connection DROP COLUMN resume_at;
ALTER TABLE connection DROP COLUMN paused_why;
ALTER TABLE connection DROP COLUMN paused_by;
ALTER TABLE connection DROP COLUMN paused_at;
ALTER TABLE connection DROP COLUMN ticked_at;
