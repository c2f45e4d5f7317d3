"""A hand-off as an internal note in a real Request Tracker and a real Redmine: once, unseen by the customer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import pytest

from assistant import app
from assistant.answer.handoff import Delivery
from assistant.config import Settings
from assistant.errors import ConfigError, SourceError
from assistant.model import Audience, Principal, Right
from assistant.store import escalations, principals, sources
from assistant.store.escalations import State
from tests.conformance.conftest import request_tracker as request_tracker
from tests.conformance.test_redmine import MANAGER, Source, join, person
from tests.conformance.test_redmine import places as places
from tests.conformance.test_redmine import server as server
from tests.conformance.test_redmine import source as source
from tests.servers.faults import Fault, HttpFaults
from tests.servers.request_tracker import RequestTracker
from tests.servers.request_tracker_queue import Queue, agent
from tests.servers.whole_way import WholeWay

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

QUESTION = (
    'Why does the frobnicator overheat?\nIt smells of *burnt* "toast":http://toast.example since Monday.'
)


class Desk(WholeWay):
    """A ticket system, and an agent of it who hands a question about `ticket` over."""

    def __init__(
        self, settings: Settings, connector: str, values: Mapping[str, Any], email: str, ticket: int
    ) -> None:
        super().__init__(settings, "desk", connector, values)
        self.ticket = ticket
        self.email = email
        self.carry()
        with self.assistant.database.writer() as connection:
            principals.allow(connection, email, Right.ESCALATE)

    @property
    def agent(self) -> Principal:
        return self.principal(self.email)

    def allow(self, **changed: Any) -> None:
        with self.assistant.database.writer() as connection:
            sources.change(connection, sources.get(connection, "desk").id, {"notes": True, **changed})

    def escalate(self) -> UUID:
        about = self.assistant.about(self.agent, "", ticket=str(self.ticket))
        return self.assistant.escalate(about.scope(self.agent), QUESTION, QUESTION)

    def deliver(self, made: UUID) -> Delivery:
        note = self.assistant.delivery(self.agent, str(made))
        self.assistant.deliver(self.agent, note)
        return note

    def state(self, made: UUID) -> str:
        with self.assistant.database.reader(self.agent, Audience.INTERNAL) as connection:
            return escalations.get(connection, str(made))["state"]

    def texts(self) -> str:
        """All that is searched in, and all lines of histories, whoever may read them."""
        statement = "select text from chunk union all select text from digest"
        with self.assistant.database.writer() as connection:
            return "\n".join(row["text"] for row in connection.execute(statement))

    def dies_before_the_commit(self, made: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(app.conversations, "audit", die)
            with pytest.raises(KeyboardInterrupt):
                self.deliver(made)
        assert self.state(made) == State.OPEN


@pytest.fixture
def queue(request_tracker: RequestTracker) -> Queue:
    return Queue(request_tracker)


@pytest.fixture
def rt(queue: Queue, settings: Settings) -> Iterator[Desk]:
    tracker = queue.tracker
    tracker.requestor()
    customer = ("ShowTicket", "ReplyToTicket", "SeeQueue")
    tracker.grant(tracker.role(queue.id, "Requestor"), *customer, queue=queue.id, role="Requestor")
    group = f"group:{queue.group_name}"
    rights = {queue.name: {"tickets": [group, "role:requestor"], "comments": [group]}}
    ticket = tracker.ticket(
        queue.id, "The frobnicator overheats", "It overheats.", Requestor="customer@people.test"
    )
    with agent(queue) as client:
        said = {"ContentType": "text/plain", "Content": "The frobnicator's fan is from a bad batch."}
        client.post(f"/ticket/{ticket}/comment", json=said)
    values = {"url": tracker.url, **queue.settings, "rights": rights}
    made = Desk(settings, "request-tracker", values, f"agent{queue.number}@people.test", ticket)
    yield made
    made.close()


def comments(tracker: RequestTracker, ticket: int) -> list[str]:
    with tracker.database() as connection:
        rows = connection.execute(
            "select a.Content from Attachments a join Transactions t on t.id = a.TransactionId "
            "where t.ObjectType = 'RT::Ticket' and t.ObjectId = ? and t.Type = 'Comment' order by t.id",
            (ticket,),
        ).fetchall()
    return [row[0] if isinstance(row[0], str) else row[0].decode() for row in rows]


def test_a_note_in_request_tracker_is_a_comment_written_once_and_no_source(
    rt: Desk, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, made = queue.tracker, rt.escalate()
    with pytest.raises(ConfigError, match="deskhand source notes desk on"):
        rt.assistant.delivery(rt.agent, str(made))
    assert len(comments(tracker, rt.ticket)) == 1, "it is off until somebody allows it"
    rt.allow()
    rt.dies_before_the_commit(made, monkeypatch)
    note = rt.deliver(made)
    assert rt.state(made) == State.DELIVERED
    with pytest.raises(ConfigError, match="delivered already"):
        rt.assistant.deliver(rt.agent, note)
    _, ours = comments(tracker, rt.ticket)
    assert ours.strip().splitlines() == note.text.splitlines()
    assert f"[deskhand escalation {made}]" in ours
    assert f"agent{queue.number}@people.test hands" in ours
    with tracker.login(auth=("customer", "secret123")) as customer:
        assert customer.get(f"/ticket/{rt.ticket}").is_success
        history = customer.get(f"/ticket/{rt.ticket}/history", params={"fields": "Type"}).json()["items"]
    assert "Comment" not in {row["Type"] for row in history}
    with agent(queue) as client:
        rows = client.get(f"/ticket/{rt.ticket}/history", params={"fields": "Type"}).json()["items"]
        assert [row["Type"] for row in rows].count("Comment") == 2
        said = {
            "ContentType": "text/plain",
            "Content": f"> {note.text.splitlines()[0]}\nThe fan, I am sure of the fan.",
        }
        client.post(f"/ticket/{rt.ticket}/comment", json=said)
    rt.carry()
    texts = rt.texts()
    assert "from a bad batch" in texts
    assert "I am sure of the fan" in texts, "a person's note was read"
    assert "hands this question over" not in texts


def test_a_lost_answer_does_not_double_the_note(rt: Desk, queue: Queue) -> None:
    made = rt.escalate()
    with contextlib.closing(HttpFaults(queue.tracker.port)) as proxy:
        proxy.plan = lambda _: Fault("truncate") if proxy.paths[-1].endswith("/comment") else None
        rt.allow(url=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(SourceError, match="stays as it was"):
            rt.deliver(made)
        assert (rt.state(made), len(comments(queue.tracker, rt.ticket))) == (State.OPEN, 2)
        rt.deliver(made)
    assert (rt.state(made), len(comments(queue.tracker, rt.ticket))) == (State.DELIVERED, 2)


def test_what_request_tracker_refuses_leaves_the_escalation_as_it_was(rt: Desk, queue: Queue) -> None:
    made = rt.escalate()
    rt.allow(token="1-14-0123456789abcdef0123456789abcdef")
    with pytest.raises(SourceError, match=r"refuses the credentials.*stays as it was"):
        rt.deliver(made)
    reader = queue.tracker.person(f"reader{queue.number}")
    group = queue.tracker.group(f"Mere readers {queue.number}", reader)
    queue.tracker.grant(group, "SeeQueue", "ShowTicket", "ShowTicketComments", queue=queue.id)
    rt.allow(token=queue.tracker.token_of(reader))
    with pytest.raises(SourceError, match="CommentOnTicket"):
        rt.deliver(made)
    rt.allow(token=queue.tracker.token)
    queue.tracker.call("DELETE", f"/ticket/{rt.ticket}")
    with pytest.raises(SourceError, match=f"no ticket {rt.ticket} any more"):
        rt.deliver(made)
    assert rt.state(made) == State.OPEN


def test_a_note_goes_to_the_ticket_that_its_own_was_merged_into(rt: Desk, queue: Queue) -> None:
    made = rt.escalate()
    rt.allow()
    other = queue.tracker.ticket(queue.id, "The same again", Requestor="customer@people.test")
    with queue.tracker.database() as connection:
        connection.execute(
            "update Tickets set EffectiveId = ?, IsMerged = 1 where id = ?", (other, rt.ticket)
        )
    rt.deliver(made)
    assert [str(made) in text for text in comments(queue.tracker, other)] == [True]


@pytest.fixture
def redmine_desk(source: Source, settings: Settings) -> Iterator[Desk]:
    person(source.server, "agent")
    join(source.server, "support", "agent", MANAGER)
    issue = source.issue(user="customer", subject="The frobnicator overheats", description="It overheats.")
    source.note(issue, "The frobnicator's fan is from a bad batch.", user="agent", private_notes=True)
    values = {"url": source.server.url, **source.settings}
    made = Desk(settings, "redmine", values, "agent@agent.example", issue)
    yield made
    made.close()


def journals(source: Source, issue: int, user: str = "") -> list[dict[str, Any]]:
    path = f"/issues/{issue}.json?include=journals"
    return source.server.call("GET", path, user=user)["issue"]["journals"]


def test_a_note_in_redmine_is_private_written_once_and_no_source(
    redmine_desk: Desk, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, made = redmine_desk, redmine_desk.escalate()
    with pytest.raises(ConfigError, match="deskhand source notes desk on"):
        desk.assistant.delivery(desk.agent, str(made))
    assert len(journals(source, desk.ticket)) == 1
    desk.allow()
    desk.dies_before_the_commit(made, monkeypatch)
    note = desk.deliver(made)
    assert desk.state(made) == State.DELIVERED
    _, ours = journals(source, desk.ticket)
    assert ours["private_notes"] is True
    assert ours["notes"].replace("\r\n", "\n") == note.text
    assert journals(source, desk.ticket, user="customer") == []
    assert len(journals(source, desk.ticket, user="agent")) == 2
    source.note(
        desk.ticket,
        f"> {note.text.splitlines()[0]}\nThe fan, I am sure of the fan.",
        user="agent",
        private_notes=True,
    )
    desk.carry()
    texts = desk.texts()
    assert "from a bad batch" in texts
    assert "I am sure of the fan" in texts
    assert "hands this question over" not in texts


def test_what_redmine_refuses_leaves_the_escalation_as_it_was(redmine_desk: Desk, source: Source) -> None:
    desk, made = redmine_desk, redmine_desk.escalate()
    desk.allow(api_key="0" * 40)
    with pytest.raises(SourceError, match=r"refuses the credentials.*stays as it was"):
        desk.deliver(made)
    key = "f" * 40
    source.server.sql(
        "insert into tokens (user_id, action, value, created_on, updated_on) "
        "select id, 'api', ?, '2026-01-01', '2026-01-01' from users where login = 'agent'",
        key,
    )
    desk.allow(api_key=key)
    with pytest.raises(SourceError, match="no administrator"):
        desk.deliver(made)
    desk.allow(api_key=source.server.key)
    source.server.call("PUT", "/projects/support/close.json")
    with pytest.raises(SourceError, match="takes no note"):
        desk.deliver(made)
    source.server.call("PUT", "/projects/support/reopen.json")
    source.server.call("DELETE", f"/issues/{desk.ticket}.json")
    with pytest.raises(SourceError, match=f"no issue {desk.ticket} any more"):
        desk.deliver(made)
    assert desk.state(made) == State.OPEN
