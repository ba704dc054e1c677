"""The reference app with a database and with coroutines, as apps of Flask's own ways have them."""

from __future__ import annotations

import asyncio
import contextvars
import os
from typing import Any

import sqlalchemy
from flask import current_app, g, request
from flask_sqlalchemy import SQLAlchemy
from jobs import note
from sqlalchemy.orm import Mapped, mapped_column

from app import app
from flask_spooler import current_job, databases
from tasks import spooler

app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{os.environ['SHOP_DATABASE']}"
db = SQLAlchemy(app)

if "KEEP_CONNECTIONS" in os.environ:  # to see what would be without
    databases.dispose_engines = lambda app: None


class Order(db.Model):  # type: ignore[name-defined,misc]
    id: Mapped[int] = mapped_column(primary_key=True)


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def note_process(connection: Any, record: Any) -> None:
    record.info["pid"] = os.getpid()


with app.app_context():
    db.create_all()  # the connection of this goes into the pool, before the master forks


def connection() -> dict[str, int]:
    """Who runs this, and who opened the connection that it gets."""
    return {"pid": os.getpid(), "opened_by": db.session.connection().info["pid"]}


@spooler.task
def connected() -> dict[str, int]:
    return connection()


@app.get("/connected")
def connected_view() -> dict[str, int]:
    return connection()


user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


@app.get("/late")
def late_view() -> str:
    @spooler.task
    def late() -> None: ...

    return late.enqueue().id


@spooler.task
def leave_traces(order: int) -> int:
    """Leave a dirty session and more behind."""
    user.set("left")
    g.left = True
    db.session.add(Order(id=order))
    db.session.flush()
    return os.getpid()


@spooler.task
def look_for_traces() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "user": user.get(),
        "g": "left" in g,
        "new": len(db.session.new) + len(db.session.identity_map),
        "orders": db.session.query(Order).count(),
    }


@spooler.task
def ship(order: int) -> bool:
    """Tell whether the order is there."""
    return db.session.get(Order, order) is not None


@app.get("/order/<int:order>")
def place(order: int) -> dict[str, str]:
    db.session.add(Order(id=order))
    job = ship.enqueue_after_commit(order)
    if request.args["end"] == "commit":
        db.session.commit()
    return {"id": job.id}


@spooler.task
async def parts(numbers: list[int]) -> dict[str, Any]:
    """Do several things at once, with progress out of each of them."""

    async def part(number: int) -> str:
        await asyncio.sleep(0.01)
        current_job.progress(number, total=len(numbers))
        return current_job.id

    ids = set(await asyncio.gather(*map(part, numbers)))
    current_job.progress(len(numbers), total=len(numbers), note=current_app.name)
    print("said in a coroutine")
    return {"ids": sorted(ids), "nested": await double(21)}


@spooler.task
async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


@spooler.task(timeout=0.5, max_attempts=1)
async def too_long(path: str) -> None:
    await forever(path)


@spooler.task
async def until_cancelled(path: str) -> None:
    await forever(path)


async def forever(path: str) -> None:
    note(path, "start")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        note(path, "cancelled")
        raise
    finally:
        note(path, "end")
