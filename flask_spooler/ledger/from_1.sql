-- From version 1 to 2.
DROP INDEX IF EXISTS jobs_ready;
DROP INDEX IF EXISTS jobs_window;
DROP INDEX IF EXISTS jobs_state;
DELETE FROM attempts WHERE outcome = 'succeeded';
ALTER TABLE servers ADD COLUMN pool INTEGER NOT NULL DEFAULT 0;
CREATE TABLE tally (
    queue   TEXT    NOT NULL,
    task    TEXT    NOT NULL,
    state   TEXT    NOT NULL,
    number  INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, task, state)
) WITHOUT ROWID;
INSERT INTO tally SELECT queue, task, iif(state = 'running', 'queued', state) AS counted, count(*), 0
    FROM jobs GROUP BY queue, task, counted;
