-- What each generation of the ledger is known by: a copy of an older state may get to the same number, never to the same mark (F54).

-- +goose Up
CREATE TABLE generation_mark (
  generation INTEGER NOT NULL PRIMARY KEY,
  mark       BLOB NOT NULL CHECK (length(mark) = 16)
) STRICT;

-- +goose Down
DROP TABLE generation_mark;
