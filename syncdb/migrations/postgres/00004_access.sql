-- The tables of ../sqlite/00004_access.sql with PostgreSQL's types.

-- +goose Up
CREATE TABLE api_key (
  id           text    PRIMARY KEY,
  name         text    NOT NULL CHECK (name <> ''),
  role         text    NOT NULL CHECK (role IN ('viewer', 'operator', 'approver', 'admin', 'auditor')),
  tenant       text    NOT NULL,
  student_data boolean NOT NULL,
  networks     text    NOT NULL,
  secret_hash  bytea   NOT NULL CHECK (octet_length(secret_hash) = 32),
  old_hash     bytea   CHECK (octet_length(old_hash) = 32),
  old_until    bigint,
  created_at   bigint  NOT NULL,
  created_by   text    NOT NULL,
  expires_at   bigint,
  rotated_at   bigint,
  revoked_at   bigint,
  used_at      bigint,
  CHECK ((old_hash IS NULL) = (old_until IS NULL))
);
CREATE UNIQUE INDEX api_key_name ON api_key (tenant, name) WHERE revoked_at IS NULL;

CREATE TABLE session (
  hash         bytea   PRIMARY KEY CHECK (octet_length(hash) = 32),
  key_id       text    REFERENCES api_key ON DELETE CASCADE,
  subject      text    NOT NULL,
  name         text    NOT NULL,
  role         text    NOT NULL,
  tenant       text    NOT NULL,
  student_data boolean NOT NULL,
  created_at   bigint  NOT NULL,
  expires_at   bigint  NOT NULL,
  CHECK ((key_id IS NULL) = (subject <> ''))
);
CREATE INDEX session_expiry ON session (expires_at);

CREATE TABLE request (
  owner       text   NOT NULL,
  key         text   NOT NULL,
  fingerprint text   NOT NULL,
  run_id      bigint NOT NULL,
  created_at  bigint NOT NULL,
  PRIMARY KEY (owner, key)
);
CREATE INDEX request_age ON request (created_at);

-- +goose Down
DROP TABLE request, session, api_key;
