-- The ledger, version 3. Each statement is idempotent: an older ledger is brought here by
-- dropping what has changed and running all of this again.
-- States, queues and times are explained in ledger/__init__.py; JSON is kept as it is shown.

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
    tags           TEXT,
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

-- Who enters the window next, in each queue. Equal ones come in the order of their commits.
CREATE INDEX IF NOT EXISTS jobs_ready ON jobs (queue, priority DESC, due_at)
    WHERE state = 'queued' AND window IS NULL;
-- Whose time comes next.
CREATE INDEX IF NOT EXISTS jobs_later ON jobs (due_at)
    WHERE state IN ('scheduled', 'retrying');
-- Who is in the window, and who runs: as few entries as there are files in it.
CREATE INDEX IF NOT EXISTS jobs_window ON jobs (state, queue, pid)
    WHERE window IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS jobs_unique ON jobs (task, unique_key)
    WHERE unique_key IS NOT NULL AND finished_at IS NULL;
CREATE INDEX IF NOT EXISTS jobs_expiring ON jobs (expires_at)
    WHERE expires_at IS NOT NULL AND finished_at IS NULL;
CREATE INDEX IF NOT EXISTS jobs_ended ON jobs (finished_at)
    WHERE finished_at IS NOT NULL;
-- For lists of what neither waits for a spooler nor runs: those have the two indexes above, and
-- so each step on the way of a job that just succeeds changes as few pages as possible.
CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state) WHERE state NOT IN ('queued', 'running');
CREATE INDEX IF NOT EXISTS jobs_task ON jobs (task);
-- For the search by exception, and for dead jobs in groups. A job that never fails is in neither.
CREATE INDEX IF NOT EXISTS jobs_error ON jobs (error_type) WHERE error_type IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_dead ON jobs (task, error_type, finished_at) WHERE state = 'dead';

-- Which jobs bear a tag, for the search; a job's own row has all of its tags as a JSON array.
CREATE TABLE IF NOT EXISTS tags (
    tag TEXT    NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (tag, seq)
) WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS tags_insert AFTER INSERT ON jobs WHEN new.tags IS NOT NULL BEGIN
    INSERT INTO tags SELECT value, new.seq FROM json_each(new.tags);
END;
CREATE TRIGGER IF NOT EXISTS tags_delete AFTER DELETE ON jobs WHEN old.tags IS NOT NULL BEGIN
    DELETE FROM tags WHERE seq = old.seq AND tag IN (SELECT value FROM json_each(old.tags));
END;

-- The steps that a job has finished, with what they returned: later attempts do not run them.
CREATE TABLE IF NOT EXISTS steps (
    job         TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    attempt     INTEGER NOT NULL,
    finished_at REAL    NOT NULL,
    seconds     REAL    NOT NULL,
    result      BLOB    NOT NULL,
    PRIMARY KEY (job, name)
) WITHOUT ROWID;

-- How an attempt ended, but for the one that succeeded: that one stands in its job's row.
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

-- How many jobs there are, kept by triggers: counting a million rows takes a second, this none.
-- Running jobs count as queued here, so that a start changes nothing; they are few, and counted.
-- Those that were deleted are counted too, so that number + deleted of all states never falls.
CREATE TABLE IF NOT EXISTS tally (
    queue   TEXT    NOT NULL,
    task    TEXT    NOT NULL,
    state   TEXT    NOT NULL,
    number  INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, task, state)
) WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS tally_insert AFTER INSERT ON jobs BEGIN
    INSERT INTO tally
        VALUES (new.queue, new.task, iif(new.state = 'running', 'queued', new.state), 1, 0)
        ON CONFLICT DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER IF NOT EXISTS tally_update AFTER UPDATE OF state ON jobs
WHEN iif(old.state = 'running', 'queued', old.state)
  != iif(new.state = 'running', 'queued', new.state) BEGIN
    UPDATE tally SET number = number - 1 WHERE queue = old.queue AND task = old.task
        AND state = iif(old.state = 'running', 'queued', old.state);
    INSERT INTO tally
        VALUES (new.queue, new.task, iif(new.state = 'running', 'queued', new.state), 1, 0)
        ON CONFLICT DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER IF NOT EXISTS tally_delete AFTER DELETE ON jobs BEGIN
    UPDATE tally SET number = number - 1, deleted = deleted + 1
        WHERE queue = old.queue AND task = old.task
        AND state = iif(old.state = 'running', 'queued', old.state);
END;

-- Attempts that ended, by minute, and by how long they waited and ran: the bounds of the classes
-- are in endings.py. A history of two days for charts; what is older is deleted.
CREATE TABLE IF NOT EXISTS endings (
    minute  INTEGER NOT NULL,
    queue   TEXT    NOT NULL,
    task    TEXT    NOT NULL,
    outcome TEXT    NOT NULL,
    waited  INTEGER NOT NULL,
    ran     INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    wait_seconds REAL NOT NULL,
    run_seconds  REAL NOT NULL,
    longest_run  REAL NOT NULL,
    PRIMARY KEY (minute, queue, task, outcome, waited, ran)
) WITHOUT ROWID;

-- The same attempts since the ledger began, without minutes: what never falls, and costs the same
-- to read after a year as after a day. `latest` is when the last of them ended.
CREATE TABLE IF NOT EXISTS totals (
    queue   TEXT    NOT NULL,
    task    TEXT    NOT NULL,
    outcome TEXT    NOT NULL,
    waited  INTEGER NOT NULL,
    ran     INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    wait_seconds REAL NOT NULL,
    run_seconds  REAL NOT NULL,
    longest_run  REAL NOT NULL,
    latest       REAL NOT NULL,
    PRIMARY KEY (queue, task, outcome, waited, ran)
) WITHOUT ROWID;

-- What a job has printed and logged, in parts of the order in which they came.
CREATE TABLE IF NOT EXISTS logs (
    job  TEXT    NOT NULL,
    part INTEGER NOT NULL,
    text TEXT    NOT NULL,
    PRIMARY KEY (job, part)
) WITHOUT ROWID;

-- Who did what to which job or queue.
CREATE TABLE IF NOT EXISTS deeds (
    seq    INTEGER PRIMARY KEY,
    at     REAL NOT NULL,
    who    TEXT NOT NULL,
    deed   TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT
);
CREATE INDEX IF NOT EXISTS deeds_target ON deeds (target);

CREATE TABLE IF NOT EXISTS queues (
    name   TEXT    PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- The boots of the servers on this spool, and the size of their pools; a drain belongs to one.
CREATE TABLE IF NOT EXISTS servers (
    boot           TEXT PRIMARY KEY,
    since          REAL NOT NULL,
    draining_until REAL NOT NULL DEFAULT 0,
    pool           INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

PRAGMA user_version = 3;
