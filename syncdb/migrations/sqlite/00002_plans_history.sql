-- Plans and holds, history, receipts, what is remembered of the target, the audit chain, and what blocks a problem. See docs/ledger.md.

-- +goose Up
ALTER TABLE problem ADD COLUMN blocked_resource_id INTEGER; -- blocked: of what is missing; NULL = not known
ALTER TABLE problem ADD COLUMN blocked_key_hash BLOB CHECK (length(blocked_key_hash) = 16);

CREATE TABLE plan (                         -- a set of ops that waits for a person
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  connection_id INTEGER NOT NULL REFERENCES connection ON DELETE CASCADE,
  kind          TEXT    NOT NULL CHECK (kind IN ('plan', 'hold', 'undo')),
  state         TEXT    NOT NULL CHECK (state IN ('open', 'approved', 'applied', 'discarded', 'released', 'stale')),
  run_id        INTEGER NOT NULL,           -- that opened the hold, or that was undone; 0 = none
  resource      TEXT    NOT NULL,           -- hold: path; '' = of several
  verb          INTEGER NOT NULL CHECK (verb BETWEEN 0 AND 3), -- hold: 0 = of several
  rule          TEXT    NOT NULL,
  reason        TEXT    NOT NULL,           -- no student values
  config        TEXT    NOT NULL,
  edition       INTEGER NOT NULL,           -- +1 when its ops are replaced by others; segments name theirs; 0 = purged
  digest        BLOB    NOT NULL DEFAULT x'',  -- of its ops, in any order
  ops           INTEGER NOT NULL CHECK (ops >= 0),
  counts        TEXT,                       -- JSON by resource and verb
  created_at    INTEGER NOT NULL,
  updated_at    INTEGER NOT NULL,
  decided_at    INTEGER,
  decided_by    TEXT    NOT NULL DEFAULT '',
  why           TEXT    NOT NULL DEFAULT '',
  applied_run   INTEGER NOT NULL DEFAULT 0,
  CHECK (state NOT IN ('approved', 'discarded') OR decided_at IS NOT NULL), -- somebody said so (I16)
  CHECK ((state = 'applied') = (applied_run <> 0))
) STRICT;
CREATE INDEX plan_connection ON plan (connection_id, id);
CREATE UNIQUE INDEX plan_one_open_hold ON plan (connection_id, resource, verb, rule) WHERE kind = 'hold' AND state = 'open';

CREATE TABLE plan_segment (                 -- ops of a plan, up to 8,192 each; the segments of one part are sorted, parts are merged
  plan_id     INTEGER NOT NULL REFERENCES plan ON DELETE CASCADE,
  edition     INTEGER NOT NULL,
  part        INTEGER NOT NULL,
  seq         INTEGER NOT NULL,
  ops         INTEGER NOT NULL,
  body_sealed BLOB    NOT NULL,
  PRIMARY KEY (plan_id, edition, part, seq)
) STRICT;

CREATE TABLE history (                      -- answered calls: what was sent and what came back, one sealed segment per resource and save
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  connection_id INTEGER NOT NULL,
  resource_id   INTEGER NOT NULL,
  run_id        INTEGER NOT NULL,
  newest_at     INTEGER NOT NULL,           -- of its newest attempt, for retention
  attempts      INTEGER NOT NULL,
  key_prefixes  BLOB    NOT NULL,           -- first 8 bytes of each natural key hash in it: how one record's attempts are found
  body_sealed   BLOB    NOT NULL            -- compressed, then sealed
) STRICT;
CREATE INDEX history_resource ON history (connection_id, resource_id, id);
CREATE INDEX history_run ON history (connection_id, run_id, id);
CREATE INDEX history_age ON history (connection_id, newest_at);

CREATE TABLE target (                       -- what is remembered of the target from run to run (F29, F30)
  connection_id  INTEGER PRIMARY KEY REFERENCES connection ON DELETE CASCADE,
  change_version INTEGER NOT NULL,
  alarm          TEXT    NOT NULL,          -- '' = all is well; no student values
  alarm_run      INTEGER NOT NULL,
  updated_at     INTEGER NOT NULL
) STRICT;

CREATE TABLE receipt (                      -- the signed statement of a run, byte for byte as it was written
  run_id        INTEGER PRIMARY KEY REFERENCES run ON DELETE CASCADE,
  connection_id INTEGER NOT NULL,
  at            INTEGER NOT NULL,
  document      TEXT    NOT NULL
) STRICT;
CREATE INDEX receipt_connection ON receipt (connection_id, run_id);

CREATE TABLE audit (                        -- acts of people and programs (I16); append-only, numbered without gaps
  id         INTEGER PRIMARY KEY,
  at         INTEGER NOT NULL,
  who        TEXT    NOT NULL CHECK (who <> ''),
  action     TEXT    NOT NULL CHECK (action <> ''),
  connection TEXT    NOT NULL,
  object     TEXT    NOT NULL,
  detail     TEXT    NOT NULL,              -- JSON or ''; no student values
  hash       BLOB    NOT NULL CHECK (length(hash) = 32) -- keyed; over this row and the hash of the row before
) STRICT;

CREATE TABLE audit_head (                   -- the end of the chain, so that a missing tail shows
  one      INTEGER PRIMARY KEY CHECK (one = 1),
  data_key BLOB    NOT NULL,                -- the chain's own, wrapped by the master key
  last_id  INTEGER NOT NULL,
  hash     BLOB    NOT NULL,                -- of that row
  mac      BLOB    NOT NULL                 -- over last_id and hash
) STRICT;

-- +goose Down
DROP TABLE audit_head;
DROP TABLE audit;
DROP TABLE receipt;
DROP TABLE target;
DROP TABLE history;
DROP TABLE plan_segment;
DROP TABLE plan;
ALTER TABLE problem DROP COLUMN blocked_key_hash;
ALTER TABLE problem DROP COLUMN blocked_resource_id;
