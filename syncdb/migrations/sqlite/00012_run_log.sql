-- What a run did and met, line by line, for people to read. It holds no student values (I14).

-- +goose Up
CREATE TABLE run_log (
  run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
  line   INTEGER NOT NULL,   -- 1, 2, 3, …
  at     INTEGER NOT NULL,
  level  INTEGER NOT NULL,   -- of log/slog: 0 info, 4 warning, 8 error
  text   TEXT    NOT NULL,
  detail TEXT    NOT NULL,   -- JSON: an object of strings and numbers
  PRIMARY KEY (run_id, line)
) WITHOUT ROWID, STRICT;

-- +goose Down
DROP TABLE run_log;
