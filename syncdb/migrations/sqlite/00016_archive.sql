-- Causes that somebody has put out of sight, with the reason. Empty = in sight; else {"at", "who", "why"} as JSON. It changes nothing that is synced.

-- +goose Up
ALTER TABLE issue ADD COLUMN archived TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE issue DROP COLUMN archived;
