-- The tables of ../sqlite/00006_connections.sql with PostgreSQL's types.

-- +goose Up
CREATE TABLE connection_version (
  tenant     text   NOT NULL,
  name       text   NOT NULL,
  version    bigint NOT NULL CHECK (version > 0),
  definition text,
  guarded    boolean NOT NULL,
  who        text   NOT NULL CHECK (who <> ''),
  at         bigint NOT NULL,
  PRIMARY KEY (tenant, name, version)
);

CREATE TABLE tenant_key (
  tenant   text  PRIMARY KEY,
  data_key bytea NOT NULL
);

CREATE TABLE secret (
  tenant  text   NOT NULL REFERENCES tenant_key,
  name    text   NOT NULL CHECK (name <> ''),
  sealed  bytea  NOT NULL,
  version bigint NOT NULL,
  set_at  bigint NOT NULL,
  set_by  text   NOT NULL,
  PRIMARY KEY (tenant, name)
);

-- +goose Down
DROP TABLE secret, tenant_key, connection_version;
