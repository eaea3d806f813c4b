-- What was removed because it was kept for long enough. See docs/ledger.md.

-- +goose Up
ALTER TABLE meta ADD COLUMN retained_at INTEGER;                                -- when somebody looked last for what is to be removed
ALTER TABLE audit_head ADD COLUMN cut_id INTEGER NOT NULL DEFAULT 0;            -- rows up to this one were removed; mac covers both
ALTER TABLE audit_head ADD COLUMN cut_hash BLOB NOT NULL DEFAULT x'';           -- of that row: the chain goes on from it

-- +goose Down
ALTER TABLE audit_head DROP COLUMN cut_hash;
ALTER TABLE audit_head DROP COLUMN cut_id;
ALTER TABLE meta DROP COLUMN retained_at;
