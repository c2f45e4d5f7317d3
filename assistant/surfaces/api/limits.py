"""How often one person may call. It protects the others' answers, so without the broker nobody is refused."""

from __future__ import annotations

import hashlib
from functools import cache

import redis
import structlog
from fastapi import HTTPException

from assistant import servers
from assistant.config import Settings
from assistant.errors import NotRunning

A_MINUTE = {"requests": 600, "questions": 20, "sign-ins": 60, "files": 20}
"""of one person, or of everybody who is nobody yet from one address"""

log = structlog.get_logger()


def count(settings: Settings, what: str, who: str) -> None:
    """Raises `HTTPException` 429 for one too many within a minute."""
    key = f"deskhand:limit:{what}:{hashlib.sha256(who.encode()).hexdigest()[:32]}"
    try:
        with client(servers.redis_url(settings)).pipeline() as pipe:
            pipe.set(key, 0, ex=60, nx=True)
            pipe.incr(key)
            _, calls = pipe.execute()
    except (redis.RedisError, NotRunning) as error:
        log.warning("limits.unavailable", error=type(error).__name__)
        return
    if calls > A_MINUTE[what]:
        raise HTTPException(
            429,
            f"That were more than {A_MINUTE[what]} {what} within a minute. Nothing was lost; wait a moment.",
        )


@cache
def client(url: str) -> redis.Redis:
    """One pool a process."""
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=5)
