from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.base import BATCH_SIZE
from connectors.network import Network
from connectors.request_tracker import RequestTrackerConnector, RequestTrackerSettings
from tests.conformance.connector import (
    CONTENT_WORD,
    ConnectorConformance,
    Replica,
    WritableSource,
)
from tests.servers.request_tracker import RequestTracker, running

pytestmark = pytest.mark.server


@pytest.fixture(scope="session")
def tracker() -> Iterator[RequestTracker]:
    with running() as started:
        yield started


class Queue(WritableSource):
    """A queue of its own, and one beside it that `rights` doesn't name."""

    def __init__(self, tracker: RequestTracker, **settings: Any) -> None:
        self.tracker = tracker
        self.port = tracker.port
        number = next(tracker.numbers)
        self.name, self.closed = f"Support {number}", f"Closed {number}"
        self.id, self.closed_id = tracker.queue(self.name), tracker.queue(self.closed)
        self.agent = tracker.person(f"agent{number}")
        self.group_name = f"Agents {number}"
        self.group = tracker.group(self.group_name, self.agent)
        self.tickets: dict[str, int] = {}
        self.settings: dict[str, Any] = {
            "token": tracker.token,
            "queues": [self.name, self.closed],
            "rights": {
                self.name: {"tickets": [f"group:{self.group_name}"], "comments": [f"group:{self.group_name}"]}
            },
            **settings,
        }

    def connector(self, port: int | None = None) -> RequestTrackerConnector:
        settings = {"url": f"http://127.0.0.1:{port or self.port}", **self.settings}
        return RequestTrackerConnector(
            RequestTrackerSettings.model_validate(settings), Network(("127.0.0.1",))
        )

    def put(self, name: str, text: str) -> str:
        if name in self.tickets:
            ticket = self.tickets[name]
            self.tracker.rewrite(ticket, text)
            self.tracker.change(ticket, Subject=f"{name} at {time.monotonic()}")
        else:
            ticket = self.tickets[name] = self.tracker.ticket(
                self.id, name, text, Requestor="customer@people.test"
            )
        return str(ticket)

    def fill(self, count: int) -> None:
        texts = {f"item-{number:03}": f"{CONTENT_WORD} number {number}" for number in range(count)}
        self.tickets |= self.tracker.fill(self.id, texts)

    def remove(self, name: str) -> None:
        self.tracker.call("DELETE", f"/ticket/{self.tickets.pop(name)}")

    def spoil(self) -> None:
        ticket = self.tracker.ticket(self.id, "spoilt", f"{CONTENT_WORD} unseen")
        self.tracker.forget_history(ticket)

    def withdraw(self, name: str) -> None:
        self.tracker.change(self.tickets[name], Queue=self.closed)

    def vanish(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])

    def restrict(self, name: str) -> str:
        self.tracker.leave(self.group, self.agent)
        return f"group:queue:{self.id}"

    def lost(self, replica: Replica, document: str, token: str) -> bool:
        assert token in replica.documents[document].access.tokens
        members = {member.user: member.groups for member in self.connector().memberships()}
        return token.removeprefix("group:") not in members[str(self.agent)]


@pytest.fixture
def queue(tracker: RequestTracker) -> Queue:
    return Queue(tracker)


class TestRequestTracker(ConnectorConformance):
    @pytest.fixture
    def source(self, queue: Queue) -> WritableSource:
        return queue

    @pytest.fixture
    def filled(self, queue: Queue) -> WritableSource:
        queue.fill(2 * BATCH_SIZE + 9)
        return queue
