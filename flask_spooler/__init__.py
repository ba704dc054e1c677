"""Durable background jobs for Flask on uWSGI's own spooler: no broker, no extra service."""

from .current import current_job
from .errors import (
    ArgumentError,
    ConfigError,
    DuplicateJob,
    EnqueueError,
    JobCancelled,
    JobNotFound,
    JobStateError,
    JobTimeout,
    OptionError,
    SpoolerError,
    UnknownTask,
    WaitTimeout,
)
from .extension import Spooler
from .handle import JobHandle
from .packets import prepare_spooler_args
from .retry import SPOOL_OK, SPOOL_RETRY, Discard, Retry, exponential
from .task import Task
from .tasks import Tasks

__all__ = [
    "SPOOL_OK",
    "SPOOL_RETRY",
    "ArgumentError",
    "ConfigError",
    "Discard",
    "DuplicateJob",
    "EnqueueError",
    "JobCancelled",
    "JobHandle",
    "JobNotFound",
    "JobStateError",
    "JobTimeout",
    "OptionError",
    "Retry",
    "Spooler",
    "SpoolerError",
    "Task",
    "Tasks",
    "UnknownTask",
    "WaitTimeout",
    "current_job",
    "exponential",
    "prepare_spooler_args",
]
