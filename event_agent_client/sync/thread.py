"""The thread on which the client for asyncio runs, for its twin for threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from event_agent_client.errors import LinkError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def twin_of(other: Callable[..., Any]) -> Callable[[F], F]:
    """With the docstring of the method that it stands for."""

    def take(function: F) -> F:
        function.__doc__ = other.__doc__
        return function

    return take


class ClientThread:
    """The thread on which the client for asyncio runs."""

    def __init__(self, handlers: int) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="event-agent-client", daemon=True)
        self._thread.start()
        self.pool = concurrent.futures.ThreadPoolExecutor(handlers, thread_name_prefix="event-agent-call")

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of it. Raises what it raises; LinkError once the client is closed."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("the client's own thread can't wait for the client: use another thread")
        if self.loop.is_closed():
            work.close()
            raise LinkError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise LinkError("the client is closed", "unknown") from None
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End both kinds of threads; handlers that wait for the client have been told by then."""
        ours = threading.current_thread() in getattr(self.pool, "_threads", ())  # a handler closes the client
        self.pool.shutdown(wait=not ours, cancel_futures=True)
        if self.loop.is_closed():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
