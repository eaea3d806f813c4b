-- The indexes of ../sqlite/00011_console.sql.

-- +goose Up
CREATE INDEX issue_open ON issue (connection_id) WHERE cleared_run = 0;
CREATE INDEX problem_issue_rows ON problem (issue_id, source_hash);
DROP INDEX problem_issue;

-- +goose Down
CREATE INDEX problem_issue ON problem (issue_id);
DROP INDEX problem_issue_rows;
DROP INDEX issue_open;
