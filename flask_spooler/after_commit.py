"""Jobs that wait for the commit of a SQLAlchemy session.

Owns what is noted in the session meanwhile: for each of its transactions the jobs that belong to
it. A savepoint that is released hands its jobs to the transaction around it; the outermost commit
publishes them; whatever else ends a transaction drops them. SQLAlchemy tells all of this by three
events. Nothing here imports it before there is a session.

Jobs are published when the transaction is over, and not in ``after_commit``, where the session
cannot be used: receivers of signals and eager jobs find everything committed and the connection
free. A failure to publish cannot be raised: the commit has happened, and an exception out of
``session.commit()`` would say the contrary. It is announced instead, by `job_unpublished`. A
process that dies between commit and publishing loses the jobs: see ``docs/sqlalchemy.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from flask import Flask

from .databases import SQLALCHEMY
from .errors import JobTimeout, NoSession, NoTransaction, SpoolerError
from .job import Job
from .signals import announce, job_dropped, job_unpublished

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, SessionTransaction

NOTES: Final = "flask_spooler"
"""The key of our notes in ``session.info``."""

CLOSED: Final = (
    "its session was closed without a commit, or enqueue_after_commit was called after the commit"
)
"""Both look alike here: reading ``order.id`` after a commit opens the next transaction."""

Publish = Callable[[list[Job]], None]


@dataclass(frozen=True)
class Waiting:
    """A job that waits for a commit, and who publishes it then."""

    app: Flask
    job: Job
    publish: Publish


@dataclass
class Notes:
    """What one session has to remember: jobs by transaction, and how transactions have ended."""

    waiting: dict[SessionTransaction, list[Waiting]] = field(default_factory=dict)
    committed: set[SessionTransaction] = field(default_factory=set)
    rolled_back: set[SessionTransaction] = field(default_factory=set)


def session_of(app: Flask, get_session: Callable[[], Any] | None) -> Session:
    """Return the session whose commit counts: of `get_session`, or Flask-SQLAlchemy's.

    Raises `NoSession` where the app has neither.
    """
    if get_session is None:
        get_session = getattr(app.extensions.get(SQLALCHEMY), "session", None)
    if get_session is None:
        raise NoSession
    session = get_session()
    found: Session = getattr(session, "sync_session", session)  # that of an AsyncSession
    return found


def wait_for_commit(session: Session, waiting: Waiting) -> None:
    """Note a job in the transaction that the session is in; raise `NoTransaction` for none."""
    transaction = _innermost(session)
    if transaction is None:
        raise NoTransaction(waiting.job.task)
    _notes(session).waiting.setdefault(transaction, []).append(waiting)


def _innermost(session: Session) -> SessionTransaction | None:
    # Not the one of a flush, which ends by itself and is neither of these.
    return session.get_nested_transaction() or session.get_transaction()


def _notes(session: Session) -> Notes:
    notes: Notes | None = session.info.get(NOTES)
    if notes is None:
        from sqlalchemy import event

        notes = session.info[NOTES] = Notes()
        event.listen(session, "after_commit", _committed)
        event.listen(session, "after_rollback", _rolled_back)
        event.listen(session, "after_transaction_end", _ended)
    return notes


def _committed(session: Session) -> None:
    """Note a commit: of the savepoint that the session is in, or of the transaction itself."""
    transaction = _innermost(session)
    if transaction is not None:
        _notes(session).committed.add(transaction)


def _rolled_back(session: Session) -> None:
    transaction = _innermost(session)
    if transaction is not None:
        _notes(session).rolled_back.add(transaction)


def _ended(session: Session, transaction: SessionTransaction) -> None:
    """Do with the jobs of a transaction what its end means for them."""
    notes = _notes(session)
    committed = transaction in notes.committed
    rolled_back = transaction in notes.rolled_back
    notes.committed.discard(transaction)
    notes.rolled_back.discard(transaction)
    jobs = notes.waiting.pop(transaction, [])
    if not jobs:
        return
    if committed and transaction.nested:
        parent = _innermost(session)
        assert parent is not None
        notes.waiting.setdefault(parent, []).extend(jobs)
    elif committed:
        _publish(jobs)
    elif not rolled_back:
        for each in jobs:
            facts = {"job_id": each.job.id, "task": each.job.task, "why": CLOSED}
            announce(job_dropped, each.app, **facts)


def _publish(waiting: list[Waiting]) -> None:
    """Publish jobs, those of one task together; announce those that cannot be."""
    for batch in _batches(waiting):
        try:
            batch[0].publish([each.job for each in batch])
        except JobTimeout:  # of the task that has committed: it is for the task
            raise
        except SpoolerError as error:
            for each in batch:
                facts = {"job_id": each.job.id, "task": each.job.task, "error": error}
                announce(job_unpublished, each.app, **facts)


def _batches(waiting: list[Waiting]) -> Iterator[list[Waiting]]:
    def kind(each: Waiting) -> tuple[Any, ...]:
        # A unique job goes alone: that it is refused must not cost the others.
        alone = each.job.id if each.job.unique else None
        return id(each.app), each.job.task, each.job.queue, alone

    for _, batch in groupby(waiting, kind):
        yield list(batch)
