"""A queue of a real Request Tracker as a source that tests write to, and what they ask of it."""

from __future__ import annotations

import socket
import time
from typing import Any

import httpx

from assistant.model import Audience, SourceDocument
from connectors.network import Network
from connectors.request_tracker.connector import RequestTrackerConnector, RequestTrackerSettings
from tests.conformance.connector import CONTENT_WORD, Replica, WritableSource
from tests.servers.request_tracker import RequestTracker


class Queue(WritableSource):
    """A queue of its own, and one beside it that `rights` doesn't name."""

    tells_deletions = True

    def __init__(self, tracker: RequestTracker, **settings: Any) -> None:
        self.tracker = tracker
        self.port = tracker.port
        number = self.number = next(tracker.numbers)
        self.name, self.closed = f"Support {number}", f"Closed {number}"
        self.id, self.closed_id = tracker.queue(self.name), tracker.queue(self.closed)
        self.agent = tracker.person(f"agent{number}")
        self.group_name = f"Agents {number}"
        self.group = tracker.group(self.group_name, self.agent)
        self.tickets: dict[str, int] = {}
        self.spoilt = 0
        self.settings: dict[str, Any] = {
            "link_url": tracker.url,
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
        self.spoilt = ticket

    def mend(self) -> None:
        self.tracker.forget_history(self.spoilt, forgotten=False)

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


def synced(queue: Queue) -> Replica:
    replica = Replica()
    replica.sync(queue.connector())
    return replica


def agent(queue: Queue) -> httpx.Client:
    """RT as the agent uses it, who may do everything in the queue."""
    rights = ("SeeQueue", "ShowTicket", "ShowTicketComments", "CommentOnTicket", "ReplyToTicket")
    queue.tracker.grant(queue.group, *rights, "OwnTicket", "ModifyTicket", queue=queue.id)
    return queue.tracker.login(auth=(f"agent{queue.number}", "secret123"))


def parts(document: SourceDocument) -> list[tuple[str, str, str, Audience]]:
    assert isinstance(document.body, tuple)
    return [(p.text.strip(), p.author, p.role, p.audience) for p in document.body]


def restricted(queue: Queue) -> int:
    """Let the connector use an account without SuperUser, that may see both queues; the group it is in."""
    tracker = queue.tracker
    account = tracker.person(f"sync{queue.number}")
    group = tracker.group(f"Readers {queue.number}", account)
    tracker.grant(group, "SeeGroup", "AdminUsers")
    for of in (queue.id, queue.closed_id):
        tracker.grant(group, "SeeQueue", "ShowTicket", "ShowTicketComments", queue=of)
    queue.settings["token"] = tracker.token_of(account)
    return group
