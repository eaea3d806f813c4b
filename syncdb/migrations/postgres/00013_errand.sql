-- Runs that never wait: what a person does himself under the connection's lease, beside the run that others have asked for.

-- +goose Up
ALTER TABLE run ADD COLUMN errand smallint NOT NULL DEFAULT 0 CHECK (errand IN (0, 1) AND (errand = 0 OR state <> 'waiting')); -- 1 = adopt, apply, sync-one, undo

-- +goose Down
ALTER TABLE run DROP COLUMN errand;
