-- Connections as data, in versions, and sealed secrets. See docs/ledger.md.

-- +goose Up
CREATE TABLE connection_version (            -- a connection that is defined here and not in the configuration file; the newest version counts
  tenant     TEXT    NOT NULL,
  name       TEXT    NOT NULL,
  version    INTEGER NOT NULL CHECK (version > 0),
  definition TEXT,                           -- JSON, without secrets; NULL = it was removed
  guarded    INTEGER NOT NULL CHECK (guarded IN (0, 1)), -- its target was named over the API: only public or allowed addresses are called
  who        TEXT    NOT NULL CHECK (who <> ''),
  at         INTEGER NOT NULL,
  PRIMARY KEY (tenant, name, version)
) STRICT;

CREATE TABLE tenant_key (                    -- what secrets of a tenant are sealed under
  tenant   TEXT PRIMARY KEY,
  data_key BLOB NOT NULL                     -- wrapped by the master key
) STRICT;

CREATE TABLE secret (
  tenant  TEXT    NOT NULL REFERENCES tenant_key,
  name    TEXT    NOT NULL CHECK (name <> ''),
  sealed  BLOB    NOT NULL,
  version INTEGER NOT NULL,                  -- +1 each time it is set
  set_at  INTEGER NOT NULL,
  set_by  TEXT    NOT NULL,
  PRIMARY KEY (tenant, name)
) STRICT;

-- +goose Down
DROP TABLE secret;
DROP TABLE tenant_key;
DROP TABLE connection_version;
