-- The ledger on SQLite. Times are milliseconds since 1970. Hashes are 16 bytes, keyed (engine: HMAC-SHA-256 under the connection's
-- hash key). Columns named *_sealed hold AES-256-GCM under the connection's data key. See docs/ledger.md.

-- +goose Up
CREATE TABLE meta (
  one          INTEGER PRIMARY KEY CHECK (one = 1),
  ledger_id    BLOB    NOT NULL,            -- made once; tells this ledger from every other
  generation   INTEGER NOT NULL DEFAULT 0,  -- +1 per finished run; a copy kept elsewhere shows a restored backup (F54)
  master_check BLOB    NOT NULL             -- what only the right master key gives for ledger_id
) STRICT;

CREATE TABLE connection (
  id             INTEGER PRIMARY KEY,
  tenant         TEXT    NOT NULL,
  name           TEXT    NOT NULL,
  data_key       BLOB    NOT NULL,          -- wrapped by the master key
  key_generation INTEGER NOT NULL DEFAULT 1 CHECK (key_generation BETWEEN 1 AND 255),
  UNIQUE (tenant, name)
) STRICT;

CREATE TABLE resource (                     -- dictionary: a small number in entries instead of a name
  id   INTEGER PRIMARY KEY,
  path TEXT NOT NULL UNIQUE                 -- 'ed-fi/students'
) STRICT;

CREATE TABLE scope (                        -- what the entries of one resource were made with
  connection_id  INTEGER NOT NULL REFERENCES connection ON DELETE CASCADE,
  resource_id    INTEGER NOT NULL REFERENCES resource,
  key_generation INTEGER NOT NULL DEFAULT 0,
  hash_rules     INTEGER NOT NULL DEFAULT 0,
  entries        INTEGER NOT NULL DEFAULT 0 CHECK (entries >= 0),
  scan_mark      TEXT    NOT NULL DEFAULT '',
  PRIMARY KEY (connection_id, resource_id)
) WITHOUT ROWID, STRICT;

-- What the target holds, as far as we know. No IN in the checks: SQLite would build its list as a table for every row written.
CREATE TABLE entry (
  connection_id    INTEGER NOT NULL,
  resource_id      INTEGER NOT NULL,
  natural_key_hash BLOB    NOT NULL CHECK (length(natural_key_hash) = 16),
  full_record_hash BLOB    CHECK (length(full_record_hash) = 16),   -- NULL = not known
  state            INTEGER NOT NULL CHECK (state BETWEEN 1 AND 3),  -- live, unknown, missing at the target
  origin           INTEGER NOT NULL CHECK (origin BETWEEN 1 AND 3), -- created, adopted, met
  run_id           INTEGER NOT NULL,
  source_hash      BLOB    CHECK (length(source_hash) = 16),        -- NULL = no source row claimed it
  person_hash      BLOB    CHECK (length(person_hash) = 16),
  edfi_id          TEXT,
  key_sealed       BLOB    NOT NULL,
  PRIMARY KEY (connection_id, resource_id, natural_key_hash),
  CHECK (state <> 1 OR (full_record_hash IS NOT NULL AND edfi_id IS NOT NULL))
) WITHOUT ROWID, STRICT;

CREATE TABLE lease (                        -- I7: the one process that may write for a connection
  connection_id INTEGER PRIMARY KEY REFERENCES connection ON DELETE CASCADE,
  token         INTEGER NOT NULL DEFAULT 0, -- +1 per take-over; never goes back
  run_id        INTEGER NOT NULL DEFAULT 0,
  holder        TEXT    NOT NULL DEFAULT '',
  expires_at    INTEGER NOT NULL DEFAULT 0, -- database clock
  cancel        INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE run (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  connection_id INTEGER NOT NULL REFERENCES connection ON DELETE CASCADE,
  state         TEXT    NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed', 'canceled')),
  reason        TEXT    NOT NULL,
  created_at    INTEGER NOT NULL,
  started_at    INTEGER,
  ended_at      INTEGER,
  totals        TEXT,                       -- JSON counts by outcome, no student values
  error         TEXT    NOT NULL DEFAULT '',
  CHECK ((state IN ('done', 'failed', 'canceled')) = (ended_at IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX run_one_running ON run (connection_id) WHERE state = 'running';
CREATE UNIQUE INDEX run_one_waiting ON run (connection_id) WHERE state = 'waiting';
CREATE INDEX run_connection ON run (connection_id, id);

CREATE TABLE step (
  run_id      INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
  position    INTEGER NOT NULL,
  resource_id INTEGER NOT NULL REFERENCES resource,
  verb        INTEGER NOT NULL CHECK (verb IN (1, 2, 3)),
  state       TEXT    NOT NULL,
  totals      TEXT,
  PRIMARY KEY (run_id, position)
) WITHOUT ROWID, STRICT;

CREATE TABLE journal (                      -- I3: intents and results, one sealed frame per group commit, dropped when folded
  id            INTEGER PRIMARY KEY,
  connection_id INTEGER NOT NULL,
  run_id        INTEGER NOT NULL,
  step          INTEGER NOT NULL,
  token         INTEGER NOT NULL,           -- fencing token it was written under
  intents       INTEGER NOT NULL,
  results       INTEGER NOT NULL,
  frame_sealed  BLOB    NOT NULL
) STRICT;
CREATE INDEX journal_step ON journal (connection_id, run_id, step, id);

CREATE TABLE issue (                        -- problems with one cause
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  connection_id INTEGER NOT NULL REFERENCES connection ON DELETE CASCADE,
  resource_id   INTEGER NOT NULL REFERENCES resource,
  code          TEXT    NOT NULL,
  cause_hash    BLOB    NOT NULL,           -- SHA-256 of cause, which may be long
  cause         TEXT    NOT NULL,           -- paths, rules and types; no student values
  owner         TEXT    NOT NULL,
  outcome       TEXT    NOT NULL,
  first_run     INTEGER NOT NULL,
  last_run      INTEGER NOT NULL,
  cleared_run   INTEGER NOT NULL DEFAULT 0, -- 0 = open
  UNIQUE (connection_id, resource_id, code, cause_hash)
) STRICT;

CREATE TABLE problem (                      -- source rows that are not in sync, and why
  connection_id    INTEGER NOT NULL,
  resource_id      INTEGER NOT NULL,
  source_hash      BLOB    NOT NULL CHECK (length(source_hash) = 16),
  issue_id         INTEGER NOT NULL REFERENCES issue ON DELETE CASCADE,
  outcome          TEXT    NOT NULL,
  natural_key_hash BLOB,
  full_record_hash BLOB,                    -- rejected: not sent again while it is the same
  last_run         INTEGER NOT NULL,
  content_hash     BLOB    NOT NULL,        -- keyed hash of everything above and below: equal = nothing to write but last_run
  content_sealed   BLOB    NOT NULL,        -- source key, detail, what blocks it
  PRIMARY KEY (connection_id, resource_id, source_hash)
) WITHOUT ROWID, STRICT;
CREATE INDEX problem_issue ON problem (issue_id);

-- +goose Down
DROP TABLE problem;
DROP TABLE issue;
DROP TABLE journal;
DROP TABLE step;
DROP TABLE run;
DROP TABLE lease;
DROP TABLE entry;
DROP TABLE scope;
DROP TABLE resource;
DROP TABLE connection;
DROP TABLE meta;
