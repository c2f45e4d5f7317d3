"""The web application behind a real server, and people who use it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from assistant.config import Settings
from assistant.store import logins
from assistant.store.db import Database
from assistant.store.logins import Role
from assistant.surfaces.api.app import create

PASSWORD = "correct horse battery"


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Its address, as long as it runs."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(
            uvicorn.Config(create(settings), log_config=None, lifespan="on", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def let_in(database: Database, email: str, role: Role = Role.AGENT) -> None:
    with database.writer() as connection:
        logins.add(connection, email, role, password=PASSWORD)


@contextmanager
def signed_in(url: str, email: str, password: str = PASSWORD) -> Iterator[httpx.Client]:
    """A browser of somebody who signed in, which sends the CSRF token as the app does."""
    with httpx.Client(base_url=url, timeout=30) as client:
        answer = client.post("/api/v1/login", json={"email": email, "password": password})
        client.headers["X-CSRF-Token"] = answer.raise_for_status().json()["csrf"]
        yield client
