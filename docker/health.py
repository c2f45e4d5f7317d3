"""Docker's health check: does this container do what it was started for? Exit code 0 means yes.

The role is read from the container's own command, so that one HEALTHCHECK serves
every service; a command that ends by itself (`deskhand migrate`) is always well.
A new role is one function and one line in `ROLES`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from assistant.config import settings

BEAT_SECONDS = 30
"""beat sends a tick every 2 s; one that has been silent for so long hangs"""
PING_SECONDS = 5.0


def worker(command: Sequence[str]) -> str:
    """Whether this container's worker answers over the broker; what is wrong, or nothing."""
    from celery import Celery
    from celery.utils.nodenames import host_format

    from assistant import servers

    option = next(word for word in command if word.startswith("--hostname="))
    name = host_format(option.removeprefix("--hostname="))
    with Celery(broker=servers.broker_url(settings())) as app:
        answers = app.control.ping(destination=[name], timeout=PING_SECONDS)
    return "" if answers else f"{name} does not answer"


def beat(_: Sequence[str]) -> str:
    """Whether messages still go from this container to the broker; what is wrong, or nothing.

    The broker knows what each client last did and how long ago. Beat's own file
    doesn't tell: not every dbm behind it writes before it is closed.
    """
    import redis

    from assistant import servers

    with redis.Redis.from_url(servers.redis_url(settings())) as client:
        here = _host(str(client.client_info()["addr"]))
        senders = [c for c in client.client_list() if c["cmd"] == "lpush" and _host(str(c["addr"])) == here]
    silent = min((int(sender["idle"]) for sender in senders), default=BEAT_SECONDS)
    return "" if silent < BEAT_SECONDS else "beat sends no ticks"


def web(_: Sequence[str]) -> str:
    """Whether a question could be answered; what is missing, or nothing."""
    import httpx

    try:
        told = httpx.get(f"http://127.0.0.1:{settings().web_port}/readyz", timeout=PING_SECONDS)
    except httpx.HTTPError as error:
        return f"it does not answer ({type(error).__name__})"
    return "" if told.is_success else f"missing: {', '.join(told.json()['missing'])}"


def _host(address: str) -> str:
    return address.rpartition(":")[0]


ROLES: dict[str, Callable[[Sequence[str]], str]] = {
    "worker": worker,
    "beat": beat,
    "assistant.surfaces.api.serve": web,
}


def main(command: Sequence[str]) -> int:
    wrong = next((check(command) for role, check in ROLES.items() if role in command), "")
    print(wrong or "well")
    return 1 if wrong else 0


if __name__ == "__main__":
    # Process 1 is the command itself, or Docker's init with the command as its arguments.
    sys.exit(main(Path("/proc/1/cmdline").read_text(encoding="utf-8").split("\0")))
