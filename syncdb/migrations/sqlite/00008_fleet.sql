-- What the processes of a fleet decide by together: how many runs one target or source takes at once, how often a connection's runs have failed in a
-- row, and why a run waits.

-- +goose Up
ALTER TABLE connection ADD COLUMN target_place TEXT NOT NULL DEFAULT '';     -- what shares one limit: the host of the target
ALTER TABLE connection ADD COLUMN target_runs INTEGER NOT NULL DEFAULT 0;    -- runs it takes at once; 0 = any number
ALTER TABLE connection ADD COLUMN source_place TEXT NOT NULL DEFAULT '';     -- digest of the source's server: its address is nobody's business here
ALTER TABLE connection ADD COLUMN source_runs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;       -- runs that failed since the last that was done
ALTER TABLE connection ADD COLUMN failed_at INTEGER;                         -- when the last of them ended
ALTER TABLE run ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;                 -- 1 = a person or a program asked for it, not a schedule
ALTER TABLE run ADD COLUMN waits_for TEXT NOT NULL DEFAULT '';               -- why it waits, as the process saw it that looked last
ALTER TABLE run ADD COLUMN waits_until INTEGER;
ALTER TABLE run ADD COLUMN waits_at INTEGER;                                 -- when that process looked

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
