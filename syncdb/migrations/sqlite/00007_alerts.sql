-- Alerts: what is wrong with a connection, who was told, and why a run failed. See docs/ledger.md.

-- +goose Up
ALTER TABLE run ADD COLUMN failure TEXT NOT NULL DEFAULT ''; -- of a failed run, when it is one of those that operators are told apart: 'target-unreachable'

CREATE TABLE alert (                          -- a condition that was seen at least once
  connection_id INTEGER NOT NULL,             -- 0 = of the ledger as a whole
  condition     TEXT    NOT NULL CHECK (condition <> ''),
  firing        INTEGER NOT NULL CHECK (firing IN (0, 1)),
  told          INTEGER NOT NULL CHECK (told IN (0, 1)), -- what receivers were told last
  since         INTEGER NOT NULL,             -- it is so
  turning       INTEGER,                      -- since when the facts say otherwise, while that is not believed yet
  detail        TEXT    NOT NULL,             -- no student values
  version       INTEGER NOT NULL,             -- +1 with each change: of several processes that see it one makes it
  PRIMARY KEY (connection_id, condition)
) WITHOUT ROWID, STRICT;

CREATE TABLE alert_notice (                   -- what receivers are told, in the order it came to be
  seq           INTEGER PRIMARY KEY AUTOINCREMENT,
  id            TEXT    NOT NULL UNIQUE,      -- receivers know by it that they have it already
  connection_id INTEGER NOT NULL,
  condition     TEXT    NOT NULL,
  body          TEXT    NOT NULL,             -- JSON, no student values
  created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX alert_notice_age ON alert_notice (created_at);

CREATE TABLE alert_delivery (                 -- a notice to a receiver
  receiver      TEXT    NOT NULL,
  seq           INTEGER NOT NULL REFERENCES alert_notice ON DELETE CASCADE,
  attempts      INTEGER NOT NULL DEFAULT 0,
  next_at       INTEGER NOT NULL,
  claimed_until INTEGER NOT NULL DEFAULT 0,   -- a process is at it
  ended_at      INTEGER,
  outcome       TEXT    NOT NULL DEFAULT '' CHECK (outcome IN ('', 'sent', 'given-up')),
  error         TEXT    NOT NULL DEFAULT '',
  PRIMARY KEY (receiver, seq),
  CHECK ((ended_at IS NULL) = (outcome = ''))
) WITHOUT ROWID, STRICT;
CREATE INDEX alert_delivery_open ON alert_delivery (receiver, seq) WHERE ended_at IS NULL;
CREATE INDEX alert_delivery_notice ON alert_delivery (seq);

CREATE TABLE alert_mute (                     -- nobody is told for a while
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant        TEXT    NOT NULL,             -- '' = every one
  connection_id INTEGER NOT NULL,             -- 0 = all of the tenant
  condition     TEXT    NOT NULL,             -- '' = all
  who           TEXT    NOT NULL CHECK (who <> ''),
  why           TEXT    NOT NULL CHECK (why <> ''),
  created_at    INTEGER NOT NULL,
  until         INTEGER NOT NULL
) STRICT;
CREATE INDEX alert_mute_until ON alert_mute (until);

CREATE TABLE audit_check (                    -- when the audit trail was read through last, and what came of it
  one           INTEGER PRIMARY KEY CHECK (one = 1),
  checked_at    INTEGER NOT NULL,
  first_bad     INTEGER NOT NULL              -- 0 = as it was written
) STRICT;
INSERT INTO audit_check (one, checked_at, first_bad) VALUES (1, 0, 0);

-- +goose Down
DROP TABLE audit_check;
DROP TABLE alert_mute;
DROP TABLE alert_delivery;
DROP TABLE alert_notice;
DROP TABLE alert;
ALTER TABLE run DROP COLUMN failure;
