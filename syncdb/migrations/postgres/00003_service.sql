-- The columns of ../sqlite/00003_service.sql with PostgreSQL's types.

-- +goose Up
ALTER TABLE connection ADD COLUMN ticked_at bigint;
ALTER TABLE connection ADD COLUMN paused_at bigint;
ALTER TABLE connection ADD COLUMN paused_by text NOT NULL DEFAULT '';
ALTER TABLE connection ADD COLUMN paused_why text NOT NULL DEFAULT '';
ALTER TABLE connection ADD COLUMN resume_at bigint;
ALTER TABLE run ADD COLUMN progress text;
ALTER TABLE run ADD COLUMN progress_at bigint;

-- +goose Down
ALTER TABLE run DROP COLUMN progress_at;
ALTER TABLE run DROP COLUMN progress;
ALTER TABLE connection DROP COLUMN resume_at;
ALTER TABLE connection DROP COLUMN paused_why;
ALTER TABLE connection DROP COLUMN paused_by;
ALTER TABLE connection DROP COLUMN paused_at;
ALTER TABLE connection DROP COLUMN ticked_at;
