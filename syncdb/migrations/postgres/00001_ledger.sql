-- The ledger on PostgreSQL: the tables of ../sqlite/00001_ledger.sql with PostgreSQL's types. entry and problem are partitioned by
-- connection from the start: adding partitions later would rewrite them, and no DDL runs outside migrations.

-- +goose Up
CREATE TABLE meta (
  one          smallint PRIMARY KEY CHECK (one = 1),
  ledger_id    bytea    NOT NULL,
  generation   bigint   NOT NULL DEFAULT 0,
  master_check bytea    NOT NULL
);

CREATE TABLE connection (
  id             int      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant         text     NOT NULL,
  name           text     NOT NULL,
  data_key       bytea    NOT NULL,
  key_generation smallint NOT NULL DEFAULT 1 CHECK (key_generation BETWEEN 1 AND 255),
  UNIQUE (tenant, name)
);

CREATE TABLE resource (
  id   int  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  path text NOT NULL UNIQUE
);

CREATE TABLE scope (
  connection_id  int      NOT NULL REFERENCES connection ON DELETE CASCADE,
  resource_id    int      NOT NULL REFERENCES resource,
  key_generation smallint NOT NULL DEFAULT 0,
  hash_rules     int      NOT NULL DEFAULT 0,
  entries        bigint   NOT NULL DEFAULT 0 CHECK (entries >= 0),
  scan_mark      text     NOT NULL DEFAULT '',
  PRIMARY KEY (connection_id, resource_id)
);

CREATE TABLE entry (
  run_id           bigint   NOT NULL,
  connection_id    int      NOT NULL,
  resource_id      int      NOT NULL,
  state            smallint NOT NULL CHECK (state IN (1, 2, 3)),
  origin           smallint NOT NULL CHECK (origin IN (1, 2, 3)),
  natural_key_hash bytea    NOT NULL CHECK (octet_length(natural_key_hash) = 16),
  full_record_hash bytea    CHECK (octet_length(full_record_hash) = 16),
  source_hash      bytea    CHECK (octet_length(source_hash) = 16),
  person_hash      bytea    CHECK (octet_length(person_hash) = 16),
  edfi_id          text,
  key_sealed       bytea    NOT NULL,
  PRIMARY KEY (connection_id, resource_id, natural_key_hash),
  CHECK (state <> 1 OR (full_record_hash IS NOT NULL AND edfi_id IS NOT NULL))
) PARTITION BY HASH (connection_id);

CREATE TABLE lease (
  connection_id int      PRIMARY KEY REFERENCES connection ON DELETE CASCADE,
  token         bigint   NOT NULL DEFAULT 0,
  run_id        bigint   NOT NULL DEFAULT 0,
  holder        text     NOT NULL DEFAULT '',
  expires_at    bigint   NOT NULL DEFAULT 0,
  cancel        smallint NOT NULL DEFAULT 0
);

CREATE TABLE run (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  connection_id int    NOT NULL REFERENCES connection ON DELETE CASCADE,
  state         text   NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed', 'canceled')),
  reason        text   NOT NULL,
  created_at    bigint NOT NULL,
  started_at    bigint,
  ended_at      bigint,
  totals        text,
  error         text   NOT NULL DEFAULT '',
  CHECK ((state IN ('done', 'failed', 'canceled')) = (ended_at IS NOT NULL))
);
CREATE UNIQUE INDEX run_one_running ON run (connection_id) WHERE state = 'running';
CREATE UNIQUE INDEX run_one_waiting ON run (connection_id) WHERE state = 'waiting';
CREATE INDEX run_connection ON run (connection_id, id);

CREATE TABLE step (
  run_id      bigint   NOT NULL REFERENCES run ON DELETE CASCADE,
  position    int      NOT NULL,
  resource_id int      NOT NULL REFERENCES resource,
  verb        smallint NOT NULL CHECK (verb IN (1, 2, 3)),
  state       text     NOT NULL,
  totals      text,
  PRIMARY KEY (run_id, position)
);

CREATE TABLE journal (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run_id        bigint NOT NULL,
  token         bigint NOT NULL,
  connection_id int    NOT NULL,
  step          int    NOT NULL,
  intents       int    NOT NULL,
  results       int    NOT NULL,
  frame_sealed  bytea  NOT NULL
);
ALTER TABLE journal ALTER COLUMN frame_sealed SET STORAGE EXTERNAL; -- sealed bytes do not compress
CREATE INDEX journal_step ON journal (connection_id, run_id, step, id);

CREATE TABLE issue (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  connection_id int    NOT NULL REFERENCES connection ON DELETE CASCADE,
  resource_id   int    NOT NULL REFERENCES resource,
  code          text   NOT NULL,
  cause_hash    bytea  NOT NULL,
  cause         text   NOT NULL,
  owner         text   NOT NULL,
  outcome       text   NOT NULL,
  first_run     bigint NOT NULL,
  last_run      bigint NOT NULL,
  cleared_run   bigint NOT NULL DEFAULT 0,
  UNIQUE (connection_id, resource_id, code, cause_hash)
);

CREATE TABLE problem (
  issue_id         bigint NOT NULL REFERENCES issue ON DELETE CASCADE,
  last_run         bigint NOT NULL,
  connection_id    int    NOT NULL,
  resource_id      int    NOT NULL,
  outcome          text   NOT NULL,
  source_hash      bytea  NOT NULL CHECK (octet_length(source_hash) = 16),
  natural_key_hash bytea,
  full_record_hash bytea,
  content_hash     bytea  NOT NULL,
  content_sealed   bytea  NOT NULL,
  PRIMARY KEY (connection_id, resource_id, source_hash)
) PARTITION BY HASH (connection_id);
CREATE INDEX problem_issue ON problem (issue_id);

-- +goose StatementBegin
DO $$
BEGIN
  FOR i IN 0..63 LOOP
    EXECUTE format('CREATE TABLE entry_%s PARTITION OF entry FOR VALUES WITH (MODULUS 64, REMAINDER %s)
      WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02)', lpad(i::text, 2, '0'), i);
    EXECUTE format('CREATE TABLE problem_%s PARTITION OF problem FOR VALUES WITH (MODULUS 64, REMAINDER %s)', lpad(i::text, 2, '0'), i);
  END LOOP;
END $$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE problem, issue, journal, step, run, lease, entry, scope, resource, connection, meta;
