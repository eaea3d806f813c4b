-- The tables of ../sqlite/00007_alerts.sql with PostgreSQL's types.

-- +goose Up
ALTER TABLE run ADD COLUMN failure text NOT NULL DEFAULT '';

CREATE TABLE alert (
  connection_id int     NOT NULL,
  condition     text    NOT NULL CHECK (condition <> ''),
  firing        boolean NOT NULL,
  told          boolean NOT NULL,
  since         bigint  NOT NULL,
  turning       bigint,
  detail        text    NOT NULL,
  version       bigint  NOT NULL,
  PRIMARY KEY (connection_id, condition)
);

CREATE TABLE alert_notice (
  seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id            text   NOT NULL UNIQUE,
  connection_id int    NOT NULL,
  condition     text   NOT NULL,
  body          text   NOT NULL,
  created_at    bigint NOT NULL
);
CREATE INDEX alert_notice_age ON alert_notice (created_at);

CREATE TABLE alert_delivery (
  receiver      text   NOT NULL,
  seq           bigint NOT NULL REFERENCES alert_notice ON DELETE CASCADE,
  attempts      int    NOT NULL DEFAULT 0,
  next_at       bigint NOT NULL,
  claimed_until bigint NOT NULL DEFAULT 0,
  ended_at      bigint,
  outcome       text   NOT NULL DEFAULT '' CHECK (outcome IN ('', 'sent', 'given-up')),
  error         text   NOT NULL DEFAULT '',
  PRIMARY KEY (receiver, seq),
  CHECK ((ended_at IS NULL) = (outcome = ''))
);
CREATE INDEX alert_delivery_open ON alert_delivery (receiver, seq) WHERE ended_at IS NULL;
CREATE INDEX alert_delivery_notice ON alert_delivery (seq);

CREATE TABLE alert_mute (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant        text   NOT NULL,
  connection_id int    NOT NULL,
  condition     text   NOT NULL,
  who           text   NOT NULL CHECK (who <> ''),
  why           text   NOT NULL CHECK (why <> ''),
  created_at    bigint NOT NULL,
  until         bigint NOT NULL
);
CREATE INDEX alert_mute_until ON alert_mute (until);

CREATE TABLE audit_check (
  one           int    PRIMARY KEY CHECK (one = 1),
  checked_at    bigint NOT NULL,
  first_bad     bigint NOT NULL
);
INSERT INTO audit_check (one, checked_at, first_bad) VALUES (1, 0, 0);

-- +goose Down
DROP TABLE audit_check;
DROP TABLE alert_mute;
DROP TABLE alert_delivery;
DROP TABLE alert_notice;
DROP TABLE alert;
ALTER TABLE run DROP COLUMN failure;
