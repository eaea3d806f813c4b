-- The column of ../sqlite/00005_run_scope.sql with PostgreSQL's type.

-- +goose Up
ALTER TABLE run ADD COLUMN scope text CHECK (scope <> '');

-- +goose Down
ALTER TABLE run DROP COLUMN scope;
