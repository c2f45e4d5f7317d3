"""Against a server that answers as GitHub's OpenAPI description says. Not yet run against the vendor."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.errors import SourceBusy, SourceRefused
from assistant.model import Access, Delete, Event, SourceDocument
from connectors import http as connectors_http
from connectors.github_issues import GitHubIssuesConnector, GitHubIssuesSettings
from connectors.network import Network
from tests.conformance.connector import CONTENT_WORD, ConnectorConformance, Replica, WritableSource, changes
from tests.servers.github import TOKEN, GitHubServer, user

REPO = "acme/engine"


class Tracker(WritableSource):
    def __init__(self, server: GitHubServer, **settings: Any) -> None:
        self.server = server
        self.port = server.port
        self.settings: dict[str, Any] = {"token": TOKEN, "repositories": [REPO], "public_is_everyone": True}
        self.settings |= {"requests_a_second": 10_000, **settings}
        self.numbers: dict[str, int] = {}
        self.made: list[GitHubIssuesConnector] = []

    def connector(self, port: int | None = None) -> GitHubIssuesConnector:
        settings = {"url": f"http://127.0.0.1:{port or self.port}", **self.settings}
        self.made.append(
            GitHubIssuesConnector(GitHubIssuesSettings.model_validate(settings), Network(("127.0.0.1",)))
        )
        return self.made[-1]

    def close(self) -> None:
        for connector in self.made:
            connector.close()

    def id(self, number: int) -> str:
        return f"{self.server.repositories[REPO]['id']}/{number}"

    def put(self, name: str, text: str) -> str:
        if name in self.numbers:
            self.server.edit(REPO, self.numbers[name], body=text)
        else:
            self.numbers[name] = self.server.issue(REPO, f"About {name}", text)
        return self.id(self.numbers[name])

    def remove(self, name: str) -> None:
        self.server.delete(REPO, self.numbers.pop(name))

    def spoil(self) -> None:
        self.server.issue(REPO, "Without labels", CONTENT_WORD, labels=None)

    def withdraw(self, name: str) -> None:
        self.server.repositories[REPO] |= {"private": True, "permissions": {"push": False}}

    def restrict(self, name: str) -> str:
        self.server.repositories[REPO] |= {"private": True}
        return "everyone"

    def vanish(self) -> None:
        self.server.gone = True


@pytest.fixture(params=[True, False], ids=["since-included", "since-excluded"])
def server(request: pytest.FixtureRequest) -> Iterator[GitHubServer]:
    server = GitHubServer()
    server.includes_since = request.param
    server.repository(REPO)
    yield server
    server.close()
    assert server.violations == []


@pytest.fixture
def tracker(server: GitHubServer) -> Iterator[Tracker]:
    tracker = Tracker(server)
    yield tracker
    tracker.close()


class TestGitHubIssues(ConnectorConformance):
    @pytest.fixture
    def source(self, tracker: Tracker) -> WritableSource:
        return tracker
