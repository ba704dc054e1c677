"""The systems with a producer and consumers of their own, on a Redis or an SQLite file."""

from __future__ import annotations

import shutil
import socket
import sys
from typing import ClassVar, Final

from ..marks import wait_until
from ..processes import free_port
from . import BIN, Guarantees, System

REDIS: Final = shutil.which("redis-server")


class WithConsumers(System):
    """A system whose consumers are a command line."""

    def store(self) -> str:
        """Start the storage if need be; return its address."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return the command that starts the consumers."""
        raise NotImplementedError

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "BENCH_STORE": self._store}

    def prepare(self) -> None:
        self._store = ""
        self._store = self.store()
        producer = self.start(
            "producer", sys.executable, "-m", "benchmarks.producer", str(self.port)
        )
        self.wait_for_producer(producer)

    def consume(self) -> None:
        self.start("consumers", *self.command()).check()


class OnRedis(WithConsumers):
    """A system on a Redis of its own: every write logged, synced once a second."""

    def store(self) -> str:
        if REDIS is None:
            raise FileNotFoundError("redis-server")
        port = free_port()
        redis = self.start(
            "redis", REDIS, "--bind", "127.0.0.1", "--port", str(port),
            "--dir", str(self.directory), "--appendonly", "yes", "--appendfsync", "everysec",
            "--save", "",
        )  # fmt: skip

        def answers() -> bool:
            redis.check()
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as connection:
                    connection.sendall(b"PING\r\n")
                    return connection.recv(16).startswith(b"+PONG")
            except ConnectionError:
                return False

        wait_until(answers, 10)
        return f"redis://127.0.0.1:{port}"


class HueyRedis(OnRedis):
    """Huey on Redis."""

    name: ClassVar = "Huey on Redis"
    app: ClassVar = "huey_app"
    distribution: ClassVar = "huey"
    guarantees: ClassVar = Guarantees(
        leaves_queue="before the run",
        worker_killed="lost",
        power_cut="the last second lost",
        status="result",
        poison="lost at once",
        signed="no, pickled",
        context="no",
    )

    def command(self) -> list[str]:
        consumer = str(BIN / "huey_consumer")
        return [consumer, "benchmarks.apps.huey_app.huey", "-q", "-k", "process",
                "-w", str(self.processes)]  # fmt: skip


class HueySqlite(HueyRedis):
    """Huey on SQLite."""

    name: ClassVar = "Huey on SQLite"
    guarantees: ClassVar = Guarantees(
        leaves_queue="before the run",
        worker_killed="lost",
        power_cut="kept",
        status="result",
        poison="lost at once",
        signed="no, pickled",
        context="no",
    )

    def store(self) -> str:
        return str(self.directory / "huey.db")


class CeleryRedis(OnRedis):
    """Celery on Redis."""

    name: ClassVar = "Celery on Redis"
    app: ClassVar = "celery_app"
    distribution: ClassVar = "celery"
    guarantees: ClassVar = Guarantees(
        leaves_queue="when its result is stored",
        worker_killed="run again",
        power_cut="the last second lost",
        status="state, result",
        poison="run for ever",
        signed="no, JSON",
        context="no",
    )

    def command(self) -> list[str]:
        return [sys.executable, "-m", "celery", "-A", "benchmarks.apps.celery_app", "worker",
                "--concurrency", str(self.processes), "--loglevel", "WARNING"]  # fmt: skip


class RqRedis(OnRedis):
    """RQ on Redis."""

    name: ClassVar = "RQ on Redis"
    app: ClassVar = "rq_app"
    distribution: ClassVar = "rq"
    guarantees: ClassVar = Guarantees(
        leaves_queue="before the run, noted as started",
        worker_killed="failed after its timeout",
        power_cut="the last second lost",
        status="state, result",
        poison="failed",
        signed="no, pickled",
        context="no",
    )

    def command(self) -> list[str]:
        return [str(BIN / "rq"), "worker-pool", "-q", "-l", "WARNING",
                "-u", self._store, "-n", str(self.processes), "default"]  # fmt: skip


class DramatiqRedis(OnRedis):
    """Dramatiq on Redis."""

    name: ClassVar = "Dramatiq on Redis"
    app: ClassVar = "dramatiq_app"
    distribution: ClassVar = "dramatiq"
    guarantees: ClassVar = Guarantees(
        leaves_queue="when its result is stored",
        worker_killed="run again after a minute",
        power_cut="the last second lost",
        status="result",
        poison="run for ever",
        signed="no, JSON",
        context="no",
    )

    def command(self) -> list[str]:
        return [str(BIN / "dramatiq"), "benchmarks.apps.dramatiq_app",
                "--processes", str(self.processes), "--threads", "1"]  # fmt: skip
