"""What a worker process keeps between tasks, made when first needed and after the fork."""

from __future__ import annotations

from functools import cache

from assistant.app import Assistant
from assistant.config import settings


@cache
def assistant() -> Assistant:
    return Assistant(settings(), threads=settings().threads or 1)


def reset() -> None:
    assistant.cache_clear()
