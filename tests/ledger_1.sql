-- The ledger, version 1. Each statement is idempotent: two processes may create it at once.
-- States, queues and times are explained in ledger.py; JSON is kept as it is shown.

CREATE TABLE IF NOT EXISTS jobs (
    seq            INTEGER PRIMARY KEY,
    id             TEXT    NOT NULL UNIQUE,
    task           TEXT    NOT NULL,
    queue          TEXT    NOT NULL,
    priority       INTEGER NOT NULL,
    state          TEXT    NOT NULL,
    window         TEXT,
    enqueued_at    REAL    NOT NULL,
    due_at         REAL    NOT NULL,
    expires_at     REAL,
    started_at     REAL,
    finished_at    REAL,
    max_attempts   INTEGER NOT NULL,
    attempt        INTEGER NOT NULL DEFAULT 0,
    charged        INTEGER NOT NULL DEFAULT 0,
    crashes        INTEGER NOT NULL DEFAULT 0,
    interruptions  INTEGER NOT NULL DEFAULT 0,
    cancel_asked   INTEGER NOT NULL DEFAULT 0,
    pid            INTEGER,
    pid_started    INTEGER,
    boot           TEXT,
    unique_key     TEXT,
    progress_done  REAL,
    progress_total REAL,
    progress_note  TEXT,
    error_type     TEXT,
    error_message  TEXT,
    kwargs_size    INTEGER NOT NULL,
    kwargs         BLOB,
    result         BLOB,
    traceback      TEXT
);

-- Who enters the window next.
CREATE INDEX IF NOT EXISTS jobs_ready ON jobs (priority DESC, due_at, id)
    WHERE state = 'queued' AND window IS NULL;
-- Whose time comes next.
CREATE INDEX IF NOT EXISTS jobs_later ON jobs (due_at)
    WHERE state IN ('scheduled', 'retrying');
-- Who is in the window: as few rows as there are files in it.
CREATE INDEX IF NOT EXISTS jobs_window ON jobs (window)
    WHERE window IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS jobs_unique ON jobs (task, unique_key)
    WHERE unique_key IS NOT NULL AND finished_at IS NULL;
CREATE INDEX IF NOT EXISTS jobs_expiring ON jobs (expires_at)
    WHERE expires_at IS NOT NULL AND finished_at IS NULL;
CREATE INDEX IF NOT EXISTS jobs_ended ON jobs (finished_at)
    WHERE finished_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, id);

CREATE TABLE IF NOT EXISTS attempts (
    job           TEXT    NOT NULL,
    number        INTEGER NOT NULL,
    outcome       TEXT    NOT NULL,
    started_at    REAL    NOT NULL,
    finished_at   REAL    NOT NULL,
    error_type    TEXT,
    error_message TEXT,
    traceback     TEXT,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS queues (
    name   TEXT    PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- The boots of the servers on this spool; a drain belongs to one of them.
CREATE TABLE IF NOT EXISTS servers (
    boot           TEXT PRIMARY KEY,
    since          REAL NOT NULL,
    draining_until REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;

PRAGMA user_version = 1;
