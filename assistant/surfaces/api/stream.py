"""Answers in the making, each a task of its own: whoever reads along may go and come back.

What happens is appended to a stream of the broker, which is kept for ten minutes. A reader
reads it from the beginning, in whatever process, so a page that was reloaded or lost its
network shows what it would have shown. The format is the AI SDK's UI message stream.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import redis
import redis.asyncio
import structlog
from fastapi import HTTPException
from fastapi.responses import StreamingResponse
from pydantic_core import to_json

from assistant.errors import DeskhandError
from assistant.surfaces.api import limits

KEPT_SECONDS = 600
HELD_SECONDS = 20
"""how long after its process died an answer still counts as being made"""
AT_ONCE = 64
"""answers that a process works on; the others wait for their turn"""
CHECK_SECONDS = 3.0
"""how often a reader is asked for again who they are"""
DONE = b"[DONE]"
HEADERS = {"x-vercel-ai-ui-message-stream": "v1", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
INTERRUPTED = "The answer was interrupted. Your question is kept; ask it again."

log = structlog.get_logger()
Part = dict[str, Any]
Parts = Generator[Part]


class Runs:
    """The answers that this process makes, and the streams of all."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._pool = ThreadPoolExecutor(AT_ONCE, "answer")
        self._held: set[str] = set()
        self._over = threading.Event()
        threading.Thread(target=self._hold, name="answers-held", daemon=True).start()

    @property
    def _broker(self) -> redis.Redis:
        return limits.client(self._url())

    def claim(self, key: str) -> None:
        """Raises `HTTPException` 409 while an answer of this key is being made."""
        if not self._broker.set(_running(key), 1, nx=True, ex=HELD_SECONDS):
            raise HTTPException(
                409, "An answer is being written in this conversation already. Wait for it, or stop it."
            )
        self._held.add(key)
        self._broker.delete(key, _stop(key))

    def release(self, key: str) -> None:
        self._held.discard(key)
        self._broker.delete(_running(key))

    def start(self, key: str, parts: Parts) -> None:
        """Work `parts` off, whoever reads along. The key was claimed, and is free when they end."""
        self._pool.submit(self._work, key, parts)

    def running(self, key: str) -> bool:
        return bool(self._broker.exists(_running(key)))

    def stop(self, key: str) -> None:
        """Takes hold with the next sentence."""
        self._broker.set(_stop(key), 1, ex=KEPT_SECONDS)

    def stopping(self, key: str) -> bool:
        return bool(self._broker.exists(_stop(key)))

    def _work(self, key: str, parts: Parts) -> None:
        try:
            for part in parts:
                self._emit(key, to_json(part))
        except DeskhandError as error:
            self._emit(key, to_json({"type": "error", "errorText": str(error)}))
        except Exception as error:  # the reader is told, whatever it was
            log.exception("answer.failed", error=type(error).__name__)
            self._emit(key, to_json({"type": "error", "errorText": INTERRUPTED}))
        finally:
            parts.close()
            try:
                self._emit(key, DONE)
                self._broker.expire(key, KEPT_SECONDS)
                self.release(key)
            except redis.RedisError:  # it forgets by itself: the hold ends with this
                self._held.discard(key)

    def _emit(self, key: str, data: bytes) -> None:
        self._broker.xadd(key, {"d": data})

    def _hold(self) -> None:
        while not self._over.wait(HELD_SECONDS / 4):
            for key in list(self._held):
                try:
                    self._broker.expire(_running(key), HELD_SECONDS)
                except Exception as error:  # until the broker is back
                    log.warning("answers.hold", error=type(error).__name__)

    def close(self) -> None:
        self._over.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def read(self, key: str, still: Callable[[], bool]) -> StreamingResponse:
        """All there is from the beginning, and what comes, to its end. `still`: whether the reader may read on."""
        return StreamingResponse(self._follow(key, still), media_type="text/event-stream", headers=HEADERS)

    async def _follow(self, key: str, still: Callable[[], bool]) -> AsyncGenerator[bytes]:
        last, checked = "0", time.monotonic()
        async with redis.asyncio.Redis.from_url(self._url()) as broker:
            while True:
                try:
                    found = cast(Any, await broker.xread({key: last}, block=1000))
                    held = bool(found) or await broker.exists(_running(key))
                except redis.RedisError:
                    yield _event(to_json({"type": "error", "errorText": INTERRUPTED}))
                    return
                for number, entry in found[0][1] if found else ():
                    last = number
                    yield _event(entry[b"d"])
                    if entry[b"d"] == DONE:
                        return
                if not held:
                    yield _event(to_json({"type": "error", "errorText": INTERRUPTED}))
                    yield _event(DONE)
                    return
                if not found:
                    yield b": still here\n\n"
                if time.monotonic() - checked > CHECK_SECONDS:
                    checked = time.monotonic()
                    if not await asyncio.to_thread(still):
                        text = (
                            "Your session has ended. Sign in again: the answer is kept in this conversation."
                        )
                        yield _event(to_json({"type": "error", "errorText": text}))
                        return


def key(person: str, what: object) -> str:
    """Of the stream of a person's conversation: nobody else comes to it by knowing the conversation's id."""
    return f"deskhand:answer:{hashlib.sha256(person.encode()).hexdigest()[:32]}:{what}"


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def _running(key: str) -> str:
    return f"{key}:running"


def _stop(key: str) -> str:
    return f"{key}:stop"
