-- The columns of ../sqlite/00009_retention.sql with PostgreSQL's types.

-- +goose Up
ALTER TABLE meta ADD COLUMN retained_at bigint;
ALTER TABLE audit_head ADD COLUMN cut_id bigint NOT NULL DEFAULT 0;
ALTER TABLE audit_head ADD COLUMN cut_hash bytea NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE audit_head DROP COLUMN cut_hash;
ALTER TABLE audit_head DROP COLUMN cut_id;
ALTER TABLE meta DROP COLUMN retained_at;
