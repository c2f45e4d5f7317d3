"""The web application behind a real server, and people who use it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from langchain_core.language_models import BaseChatModel

from assistant.config import Settings
from assistant.store import logins
from assistant.store.db import Database
from assistant.store.logins import Role
from assistant.surfaces.api.app import create

PASSWORD = "correct horse battery"


@contextmanager
def serving(settings: Settings, generator: BaseChatModel | None = None) -> Iterator[str]:
    """Its address, as long as it runs; with another generator than the settings name."""
    app = create(settings)
    if generator is not None:
        app.state.assistant.generators = lambda: generator
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1)
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


def events(client: httpx.Client, method: str, path: str, **more: Any) -> Iterator[dict[str, Any]]:
    """Parts of a UI message stream as they come, to its end."""
    with client.stream(method, path, **more) as response:
        if response.is_error:
            response.read()
        response.raise_for_status()
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        for line in response.iter_lines():
            if line == "data: [DONE]":
                return
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def ask(client: httpx.Client, text: str, **more: Any) -> list[dict[str, Any]]:
    return list(events(client, "POST", "/api/v1/chat", json={"text": text, **more}))


def part(parts: list[dict[str, Any]], kind: str) -> Any:
    """The data of the one part of this kind."""
    (found,) = [p["data"] for p in parts if p["type"] == kind]
    return found
