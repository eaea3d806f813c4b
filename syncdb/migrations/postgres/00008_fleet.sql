-- The columns of ../sqlite/00008_fleet.sql with PostgreSQL's types.

-- +goose Up
ALTER TABLE connection ADD COLUMN target_place text NOT NULL DEFAULT '';
ALTER TABLE connection ADD COLUMN target_runs integer NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN source_place text NOT NULL DEFAULT '';
ALTER TABLE connection ADD COLUMN source_runs integer NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN failures integer NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN failed_at bigint;
ALTER TABLE run ADD COLUMN asked smallint NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN waits_for text NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN waits_until bigint;
ALTER TABLE run ADD COLUMN waits_at bigint;

-- +goose Down
ALTER TABLE run DROP COLUMN waits_at;
ALTER TABLE run DROP COLUMN waits_until;
ALTER TABLE run DROP COLUMN waits_for;
ALTER TABLE run DROP COLUMN asked;
ALTER TABLE connection DROP COLUMN failed_at;
ALTER TABLE connection DROP COLUMN failures;
ALTER TABLE connection DROP COLUMN source_runs;
ALTER TABLE connection DROP COLUMN source_place;
ALTER TABLE connection DROP COLUMN target_runs;
ALTER TABLE connection DROP COLUMN target_place;
