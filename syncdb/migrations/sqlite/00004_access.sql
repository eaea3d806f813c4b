-- Who may use the service: API keys, browser sessions, and requests that must not be done twice. See docs/ledger.md.

-- +goose Up
CREATE TABLE api_key (
  id           TEXT    PRIMARY KEY,          -- not secret
  name         TEXT    NOT NULL CHECK (name <> ''),
  role         TEXT    NOT NULL CHECK (role IN ('viewer', 'operator', 'approver', 'admin', 'auditor')),
  tenant       TEXT    NOT NULL,             -- '' = every tenant
  student_data INTEGER NOT NULL CHECK (student_data IN (0, 1)),
  networks     TEXT    NOT NULL,             -- it may be used from, with blanks between; '' = from everywhere
  secret_hash  BLOB    NOT NULL CHECK (length(secret_hash) = 32), -- SHA-256 of 256 random bits; the secret is nowhere
  old_hash     BLOB    CHECK (length(old_hash) = 32),             -- of the secret before the last rotation
  old_until    INTEGER,                      -- while that opens the key as well
  created_at   INTEGER NOT NULL,
  created_by   TEXT    NOT NULL,
  expires_at   INTEGER,                      -- NULL = never
  rotated_at   INTEGER,
  revoked_at   INTEGER,
  used_at      INTEGER,                      -- to the minute
  CHECK ((old_hash IS NULL) = (old_until IS NULL))
) STRICT;
CREATE UNIQUE INDEX api_key_name ON api_key (tenant, name) WHERE revoked_at IS NULL;

CREATE TABLE session (                       -- a browser that logged in
  hash         BLOB    PRIMARY KEY CHECK (length(hash) = 32), -- SHA-256 of the token in its cookie
  key_id       TEXT    REFERENCES api_key ON DELETE CASCADE,  -- logged in by key: what that may do, the session may
  subject      TEXT    NOT NULL,             -- logged in at an identity provider: the person's id there
  name         TEXT    NOT NULL,
  role         TEXT    NOT NULL,
  tenant       TEXT    NOT NULL,
  student_data INTEGER NOT NULL,
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  CHECK ((key_id IS NULL) = (subject <> ''))
) STRICT;
CREATE INDEX session_expiry ON session (expires_at);

CREATE TABLE request (                       -- requests with an Idempotency-Key, for a day
  owner       TEXT    NOT NULL,              -- who sent it
  key         TEXT    NOT NULL,
  fingerprint TEXT    NOT NULL,              -- of what was asked for
  run_id      INTEGER NOT NULL,              -- the answer
  created_at  INTEGER NOT NULL,
  PRIMARY KEY (owner, key)
) STRICT;
CREATE INDEX request_age ON request (created_at);

-- +goose Down
DROP TABLE request;
DROP TABLE session;
DROP TABLE api_key;
