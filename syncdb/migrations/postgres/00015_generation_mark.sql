-- What each generation of the ledger is known by: a copy of an older state may get to the same number, never to the same mark (F54).

-- +goose Up
CREATE TABLE generation_mark (
  generation bigint NOT NULL PRIMARY KEY,
  mark       bytea NOT NULL CHECK (length(mark) = 16)
);

-- +goose Down
DROP TABLE generation_mark;
