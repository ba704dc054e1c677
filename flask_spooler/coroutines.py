"""How an ``async def`` task is run, and interrupted.

Owns the way through `Flask.ensure_sync`, whatever the app has made of it. As it comes, that runs
the coroutine in the event loop of another thread while this one waits: an exception raised here by
a signal would end the attempt and let the coroutine run on beside the next job. So an interrupt
cancels the coroutine as asyncio does, waits for its end, and is raised then. Inside it is an
`asyncio.CancelledError` at an ``await``; a coroutine that never awaits cannot be interrupted, but
by its hard timeout.

Imported for the first ``async def`` task only: asyncio is not small.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask


class AsyncCall:
    """One call of an ``async def`` function from synchronous code."""

    def __init__(self, app: Flask, function: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        self._app = app
        self._function = function
        self._waits = False
        self._reason: BaseException | None = None
        self._cancel: Callable[[], object] | None = None

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the coroutine to its end and return its result; raise why it was interrupted."""

        async def watched() -> Any:
            return await self._watched(args, kwargs)

        def run() -> Any:
            return self._app.ensure_sync(watched)()

        self._waits = True
        try:
            return _beside_a_loop(run)
        except asyncio.CancelledError as cancelled:
            if self._reason is None:
                raise
            # From it: its traceback shows at which await the coroutine was.
            raise self._reason from cancelled
        finally:
            self._waits = False
            self._reason = None  # which leads to this frame, and so to the task's data

    def interrupt(self, reason: BaseException) -> None:
        """Cancel the coroutine; `reason` is what the call raises then. For signal handlers.

        Before and after the call, while the app context is made and torn down, raise it here.
        """
        if not self._waits:
            raise reason
        self._reason = reason
        cancel = self._cancel
        if cancel is not None:
            with contextlib.suppress(RuntimeError):  # its loop was closed a moment ago
                cancel()

    async def _watched(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        this = asyncio.current_task()
        assert this is not None
        loop = asyncio.get_running_loop()
        self._cancel = functools.partial(loop.call_soon_threadsafe, this.cancel)
        try:
            if self._reason is not None:  # it came before there was anything to cancel
                this.cancel()
            return await self._function(*args, **kwargs)
        finally:
            self._cancel = None


def _beside_a_loop(run: Callable[[], Any]) -> Any:
    """Call `run`, which waits for a loop of its own, where none runs: `SPOOLER_EAGER` in a view."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    with ThreadPoolExecutor(max_workers=1) as beside:
        return beside.submit(contextvars.copy_context().run, run).result()
