-- Runs that send only a part of what changed. See docs/ledger.md.

-- +goose Up
ALTER TABLE run ADD COLUMN scope TEXT CHECK (scope <> '');  -- JSON: resources, schools, hashes of records; NULL = everything

-- +goose Down
ALTER TABLE run DROP COLUMN scope;
