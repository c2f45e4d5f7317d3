"""The web application as uvicorn serves it, over a small desk with two people of different rights."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from pydantic import SecretStr

from assistant import servers
from assistant.app import Assistant
from assistant.config import Settings
from assistant.model import (
    Access,
    Audience,
    Batch,
    Customer,
    Kind,
    Member,
    Part,
    SourceDocument,
    Ticket,
    Upsert,
)
from assistant.store import logins, sources, sync
from assistant.store.logins import Role
from assistant.surfaces.api import app as api
from assistant.weights import State, check
from tests.conftest import cloned

ADA, EVE, OLA, ROOT = "ada@desk.example", "eve@desk.example", "ola@desk.example", "root@desk.example"
ROLES = {ADA: Role.AGENT, EVE: Role.AGENT, OLA: Role.OWNER, ROOT: Role.ADMIN}
SCOPES = ("admin", "chat", "metrics")
NOW = dt.datetime(2026, 5, 1, 12, 0, tzinfo=dt.UTC)
SUPPORT = Access.of(groups=("support",))
PORT = "The relay listens on port 7420 for the sync protocol."
SECRET = "The escrow key of the relay lies in the blue safe."


@dataclass
class Served:
    """`url` answers for as long as the context lasts."""

    url: str
    assistant: Assistant

    def token(self, who: str, *scopes: str) -> str:
        with self.assistant.database.writer() as connection:
            return logins.add_token(connection, who, "test", scopes or SCOPES, days=1)[1]

    def client(self, who: str = "", *scopes: str) -> httpx.Client:
        """A client with a token of theirs; of nobody when `who` is empty."""
        headers = {"Authorization": f"Bearer {self.token(who, *scopes)}"} if who else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def trail(self) -> list[tuple[str, str, str]]:
        with self.assistant.database.writer() as connection:
            rows = connection.execute("select actor, action, object from audit_log order by id").fetchall()
        return [(row["actor"], row["action"], row["object"]) for row in rows]


@contextmanager
def served(settings: Settings) -> Generator[Served]:
    """Everybody of `ROLES` may sign in; nothing is indexed yet."""
    app = api.create(settings)
    assistant: Assistant = app.state.assistant
    with assistant.database.writer() as connection:
        for person, role in ROLES.items():
            logins.add(connection, person, role, name=person.partition("@")[0].title())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), "it did not start"
        assert time.monotonic() < until
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(f"http://127.0.0.1:{port}", assistant)
    finally:
        server.should_exit = True
        thread.join(20)
        assistant.close()


@contextmanager
def shared(embedded: Settings, template: str, folder: Path) -> Generator[Served]:
    """One for all tests of a file that only read; with what `fill` stores."""
    if check(embedded.embedder, embedded) is not State.PRESENT:
        pytest.skip("the embedding model is not here: `deskhand models pull`")
    with cloned(embedded, template) as url:
        settings = Settings(
            state=folder,
            models=embedded.models,
            database_url=SecretStr(url),
            redis_url=SecretStr(servers.redis_url(embedded)),
            generator="echo",
        )
        with served(settings) as made:
            fill(made.assistant)
            yield made


def fill(assistant: Assistant, name: str = "files") -> int:
    """A source with a page for all, one that Ada may read, and a ticket of Acme's; its id."""
    with assistant.database.writer() as connection:
        sources.add(
            connection, name=name, connector="directory", realm=name, settings={"path": "/x"}, secrets=None,
            every_seconds=900,
        )  # fmt: skip
        source = sources.get(connection, name)
        run = sources.request(connection, source)
        sync.commit_memberships(
            connection,
            source,
            [Member("ada", ADA, "Ada", frozenset({"support"})), Member("eve", EVE, "Eve")],
        )
        changes = [Upsert(page("ports", PORT, Access.public())), Upsert(page("escrow", SECRET, SUPPORT))]
        changes.append(Upsert(ticket()))
        sync.commit_batch(connection, source, run, Batch(tuple(changes), {"at": 1}))
        row = sources.run(connection, run)
        assert row is not None
        sources.finish(connection, row)
    while assistant.pipeline.run_batch():
        pass
    return source.id


def page(name: str, text: str, access: Access) -> SourceDocument:
    return SourceDocument(
        external_id=name,
        kind=Kind.DOCUMENT,
        title=f"About {name}",
        body=(Part(text),),
        revision="1",
        access=access,
        url=f"https://docs.example/{name}",
        created_at=NOW,
    )


def ticket() -> SourceDocument:
    return SourceDocument(
        external_id="4521",
        kind=Kind.TICKET,
        title="Relay drops its connection",
        body=(
            Part("Our relay drops its connection every night at two.", role="customer", created_at=NOW),
            Part("Set keepalive to 30 on the relay.", role="agent", created_at=NOW, is_solution=True),
            Part("They pay late, be quick.", role="agent", created_at=NOW, audience=Audience.INTERNAL),
        ),
        revision="1",
        access=SUPPORT,
        url="https://desk.example/tickets/4521",
        created_at=NOW,
        customer=Customer("acme", "Acme Tools", ("acme.example",)),
        ticket=Ticket("solved", "Cy", "cy@acme.example", solved_at=NOW),
    )


def data(line: str) -> object:
    """What an event of a stream carries; None for anything else."""
    return json.loads(line.removeprefix("data: ")) if line.startswith("data: {") else None
