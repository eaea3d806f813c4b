-- The tables of ../sqlite/00002_plans_history.sql with PostgreSQL's types. history grows with records and is partitioned by connection.

-- +goose Up
ALTER TABLE problem ADD COLUMN blocked_resource_id int;
ALTER TABLE problem ADD COLUMN blocked_key_hash bytea CHECK (octet_length(blocked_key_hash) = 16);

CREATE TABLE plan (
  id            bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  connection_id int      NOT NULL REFERENCES connection ON DELETE CASCADE,
  kind          text     NOT NULL CHECK (kind IN ('plan', 'hold', 'undo')),
  state         text     NOT NULL CHECK (state IN ('open', 'approved', 'applied', 'discarded', 'released', 'stale')),
  run_id        bigint   NOT NULL,
  resource      text     NOT NULL,
  verb          smallint NOT NULL CHECK (verb BETWEEN 0 AND 3),
  rule          text     NOT NULL,
  reason        text     NOT NULL,
  config        text     NOT NULL,
  edition       int      NOT NULL,
  digest        bytea   NOT NULL DEFAULT '',
  ops           bigint   NOT NULL CHECK (ops >= 0),
  counts        text,
  created_at    bigint   NOT NULL,
  updated_at    bigint   NOT NULL,
  decided_at    bigint,
  decided_by    text     NOT NULL DEFAULT '',
  why           text     NOT NULL DEFAULT '',
  applied_run   bigint   NOT NULL DEFAULT 0,
  CHECK (state NOT IN ('approved', 'discarded') OR decided_at IS NOT NULL),
  CHECK ((state = 'applied') = (applied_run <> 0))
);
CREATE INDEX plan_connection ON plan (connection_id, id);
CREATE UNIQUE INDEX plan_one_open_hold ON plan (connection_id, resource, verb, rule) WHERE kind = 'hold' AND state = 'open';

CREATE TABLE plan_segment (
  plan_id     bigint NOT NULL REFERENCES plan ON DELETE CASCADE,
  edition     int    NOT NULL,
  part        int    NOT NULL,
  seq         int    NOT NULL,
  ops         int    NOT NULL,
  body_sealed bytea  NOT NULL,
  PRIMARY KEY (plan_id, edition, part, seq)
);
ALTER TABLE plan_segment ALTER COLUMN body_sealed SET STORAGE EXTERNAL; -- sealed bytes do not compress

CREATE TABLE history (
  id            bigint GENERATED ALWAYS AS IDENTITY,
  connection_id int    NOT NULL,
  resource_id   int    NOT NULL,
  run_id        bigint NOT NULL,
  newest_at     bigint NOT NULL,
  attempts      int    NOT NULL,
  key_prefixes  bytea  NOT NULL,
  body_sealed   bytea  NOT NULL,
  PRIMARY KEY (connection_id, id)
) PARTITION BY HASH (connection_id);
ALTER TABLE history ALTER COLUMN key_prefixes SET STORAGE EXTERNAL, ALTER COLUMN body_sealed SET STORAGE EXTERNAL;
CREATE INDEX history_resource ON history (connection_id, resource_id, id);
CREATE INDEX history_run ON history (connection_id, run_id, id);
CREATE INDEX history_age ON history (connection_id, newest_at);

CREATE TABLE target (
  connection_id  int    PRIMARY KEY REFERENCES connection ON DELETE CASCADE,
  change_version bigint NOT NULL,
  alarm          text   NOT NULL,
  alarm_run      bigint NOT NULL,
  updated_at     bigint NOT NULL
);

CREATE TABLE receipt (
  run_id        bigint PRIMARY KEY REFERENCES run ON DELETE CASCADE,
  connection_id int    NOT NULL,
  at            bigint NOT NULL,
  document      text   NOT NULL
);
CREATE INDEX receipt_connection ON receipt (connection_id, run_id);

CREATE TABLE audit (
  id         bigint PRIMARY KEY,
  at         bigint NOT NULL,
  who        text   NOT NULL CHECK (who <> ''),
  action     text   NOT NULL CHECK (action <> ''),
  connection text   NOT NULL,
  object     text   NOT NULL,
  detail     text   NOT NULL,
  hash       bytea  NOT NULL CHECK (octet_length(hash) = 32)
);

CREATE TABLE audit_head (
  one      smallint PRIMARY KEY CHECK (one = 1),
  data_key bytea    NOT NULL,
  last_id  bigint   NOT NULL,
  hash     bytea    NOT NULL,
  mac      bytea    NOT NULL
);

-- +goose StatementBegin
DO $$
BEGIN
  FOR i IN 0..63 LOOP
    EXECUTE format('CREATE TABLE history_%s PARTITION OF history FOR VALUES WITH (MODULUS 64, REMAINDER %s)', lpad(i::text, 2, '0'), i);
  END LOOP;
END $$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE audit_head, audit, receipt, target, history, plan_segment, plan;
ALTER TABLE problem DROP COLUMN blocked_key_hash, DROP COLUMN blocked_resource_id;
