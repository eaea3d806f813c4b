-- The source's watermark a hold was opened under, of a source that is behind: the state of the source that whoever approves the hold accepts.
-- Empty = of no such hold, or accepted already. It changes nothing that is synced.

-- +goose Up
ALTER TABLE plan ADD COLUMN mark TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE plan DROP COLUMN mark;
