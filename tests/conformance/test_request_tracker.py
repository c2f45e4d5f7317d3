from __future__ import annotations

import hashlib
import hmac
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from pydantic import ValidationError

from assistant.errors import SourceError, SourceRefused
from assistant.model import EVERYONE, Access, Audience, Customer, Delete, Link, Part, SourceDocument, Upsert
from connectors.base import BATCH_SIZE
from connectors.network import Network
from connectors.request_tracker import RequestTrackerConnector, RequestTrackerSettings
from tests.conformance.connector import (
    CONTENT_WORD,
    ConnectorConformance,
    Replica,
    WritableSource,
    changes,
)
from tests.servers.request_tracker import RequestTracker, attachment, running

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
        number = self.number = next(tracker.numbers)
        self.name, self.closed = f"Support {number}", f"Closed {number}"
        self.id, self.closed_id = tracker.queue(self.name), tracker.queue(self.closed)
        self.agent = tracker.person(f"agent{number}")
        self.group_name = f"Agents {number}"
        self.group = tracker.group(self.group_name, self.agent)
        self.tickets: dict[str, int] = {}
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

    def test_an_emptied_source_deletes_nothing(self, filled: WritableSource) -> None:
        """Of a deleted ticket RT says so; a list that is empty looks like a right that was taken away."""
        assert isinstance(filled, Queue)
        group = restricted(filled)
        replica = self.fresh(filled)
        with filled.tracker.database() as connection:
            connection.execute("delete from ACL where PrincipalId = ? and RightName = 'ShowTicket'", (group,))
        with pytest.raises(SourceError, match="othing was"):
            list(filled.connector().inventory())
        assert changes(replica.sync(filled.connector())) == []
        assert len(replica.documents) == 2 * BATCH_SIZE + 9


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


def test_what_is_kept_of_a_ticket(queue: Queue) -> None:
    tracker, number = queue.tracker, queue.number
    tracker.requestor()
    field = tracker.call(
        "POST",
        "/customfield",
        {"Name": f"Serial {number}", "Type": "FreeformSingle", "LookupType": "RT::Queue-RT::Ticket"},
    )
    with tracker.database() as connection:  # REST has no call for applying a field to a queue
        connection.execute(
            "insert into ObjectCustomFields (CustomField, ObjectId, SortOrder) values (?, ?, 1)",
            (int(field["id"]), queue.id),
        )
    other = tracker.ticket(queue.id, "other")
    ticket = tracker.ticket(
        queue.id,
        "No paper",
        "The tray is empty.",
        Requestor="customer@people.test",
        Priority=7,
        CustomFields={f"Serial {number}": "SN-5"},
    )
    tracker.grant(
        tracker.role(queue.id, "Requestor"), "ReplyToTicket", "ShowTicket", queue=queue.id, role="Requestor"
    )
    with agent(queue) as rt:
        say = {"ContentType": "text/plain"}
        rt.post(f"/ticket/{ticket}/correspond", json={**say, "Content": "Fill it.", "Status": "open"})
        rt.post(f"/ticket/{ticket}/comment", json={**say, "Content": "The third time."})
    with tracker.login(auth=("customer", "secret123")) as rt:
        rt.post(f"/ticket/{ticket}/correspond", json={**say, "Content": "It prints again."})
    tracker.change(ticket, Owner=f"agent{number}", Status="resolved")
    tracker.change(ticket, DependsOn=[other], RefersTo=["https://example.com/x"])
    queue.settings["custom_fields"] = [f"serial {number}"]
    document = synced(queue).documents[str(ticket)]
    name = f"agent{number}"
    assert parts(document) == [
        ("The tray is empty.", "Enoch Root", "agent", Audience.PUBLIC),
        ("Fill it.", name, "agent", Audience.PUBLIC),
        ("The third time.", name, "agent", Audience.INTERNAL),
        ("It prints again.", "customer", "customer", Audience.PUBLIC),
    ]
    assert isinstance(document.body, tuple)
    assert [p.access for p in document.body] == [
        None,
        None,
        Access.of(groups=(f"queue:{queue.id}:comments",)),
        None,
    ]
    assert document.url == f"{tracker.url}/Ticket/Display.html?id={ticket}"
    assert document.customer == Customer("acme ltd", "ACME Ltd", domains=("people.test",))
    facts = document.ticket
    assert facts is not None
    assert (facts.status, facts.priority, facts.assignee) == ("resolved", "7", name)
    assert (facts.requester, facts.requester_email) == ("customer", "customer@people.test")
    assert [(e.old, e.new) for e in facts.events] == [("new", "open"), ("open", "resolved")]
    assert facts.solved_at is not None
    assert facts.custom_fields == {f"Serial {number}": "SN-5"}
    assert facts.links == (Link("blocked_by", str(other)),)
    queue.settings |= {"custom_fields": [], "customer_from": "domain"}
    document = synced(queue).documents[str(ticket)]
    assert document.ticket is not None
    assert document.ticket.custom_fields == {}, "those RT shows to some readers only must be named"
    assert document.customer == Customer("people.test", "people.test", domains=("people.test",))


def test_everything_that_is_stored_moves_the_revision(queue: Queue) -> None:
    tracker = queue.tracker
    ticket = tracker.ticket(queue.id, "a", "text", Requestor="customer@people.test")
    other = tracker.ticket(queue.id, "b", "text")
    replica = synced(queue)
    seen = {replica.documents[str(ticket)].revision}
    steps: list[Callable[[], object]] = [
        lambda: tracker.say(ticket, "correspond", "more"),
        lambda: tracker.say(ticket, "comment", "a note"),
        lambda: tracker.change(ticket, Status="stalled"),
        lambda: tracker.change(ticket, Owner="root"),
        lambda: tracker.change(ticket, Subject="c"),
        lambda: tracker.change(ticket, Priority=5),
        lambda: tracker.change(ticket, RefersTo=[other]),
        lambda: tracker.change(ticket, Requestor=["root@localhost"]),
    ]
    for number, step in enumerate(steps, 2):
        step()
        replica.sync(queue.connector())
        seen.add(replica.documents[str(ticket)].revision)
        assert len(seen) == number, f"step {number - 1}"
    tracker.change(ticket, TimeWorked=5)
    replica.sync(queue.connector())
    assert len(seen | {replica.documents[str(ticket)].revision}) == len(seen), "time worked is not kept"


def test_attachments(queue: Queue) -> None:
    tracker = queue.tracker
    queue.settings["max_attachment_mb"] = 1
    binary = bytes(range(256)) * 40
    ticket = tracker.ticket(
        queue.id,
        "files",
        "see there",
        Attachments=[attachment("log.bin", "application/octet-stream", binary)],
    )
    tracker.say(ticket, "comment", "secret", ("note.txt", "text/plain", "Grüße".encode()))
    tracker.say(ticket, "correspond", "big", ("big.bin", "application/octet-stream", b"x" * (2**20 + 1)))
    replica = synced(queue)
    by_title = {d.title: d for d in replica.documents.values()}
    public, internal = by_title["log.bin"], by_title["note.txt"]
    assert (public.body, internal.body) == (binary, "Grüße".encode())
    assert public.parent == internal.parent == str(ticket)
    assert public.access == replica.documents[str(ticket)].access
    assert (public.audience, internal.audience) == (Audience.PUBLIC, Audience.INTERNAL)
    assert internal.access == Access.of(groups=(f"queue:{queue.id}:comments",))
    assert public.customer == replica.documents[str(ticket)].customer
    assert [reason for reason in replica.failures.values() if "1 MB" in reason]
    present = set(queue.connector().inventory())
    assert set(replica.documents) <= present
    assert [p[0] for p in parts(replica.documents[str(ticket)])] == ["see there", "secret", "big"]
    tracker.call("DELETE", f"/ticket/{ticket}")
    replica.sync(queue.connector())
    assert not replica.documents, "attachments go with their ticket"


def test_more_attachments_than_a_batch_holds(queue: Queue) -> None:
    """A sync that dies after each batch comes to its end."""
    files = [attachment(f"{n}.txt", "text/plain", f"file {n}".encode()) for n in range(2 * BATCH_SIZE + 3)]
    queue.tracker.ticket(queue.id, "many", "files", Attachments=files)
    queue.put("after", "the many")
    replica = Replica()
    seen = 0
    while taken := replica.sync(queue.connector(), batches=1):
        assert all(len(batch.changes) <= BATCH_SIZE for batch in taken)
        seen += len(changes(taken))
    assert seen == len(replica.documents) == 2 * BATCH_SIZE + 5
    queue.tracker.say(int(min(replica.documents, key=len)), "correspond", "changed")
    while replica.sync(queue.connector(), batches=1):
        pass
    assert replica.summary() == synced(queue).summary()


def test_of_alternatives_the_plain_text_is_read(queue: Queue) -> None:
    """As a mail has them, which RT only makes from mails: its rows are made one."""
    both = queue.tracker.ticket(queue.id, "both", "plain words")
    only = queue.tracker.ticket(queue.id, "only", "<p>only <b>rich</b></p>", ContentType="text/html")
    with queue.tracker.database() as c:
        (message, part) = c.execute(
            "select t.id, max(a.id) from Transactions t join Attachments a on a.TransactionId = t.id "
            "where t.ObjectType = 'RT::Ticket' and t.ObjectId = ? and t.Type = 'Create'",
            (both,),
        ).fetchone()
        c.execute(
            "update Attachments set ContentType = 'multipart/alternative' where TransactionId = ? and id < ?",
            (message, part),
        )
        (root,) = c.execute("select min(id) from Attachments where TransactionId = ?", (message,)).fetchone()
        if root == part:  # one part without a container
            c.execute(
                "update Attachments set ContentType = 'multipart/alternative', Content = '' where id = ?",
                (root,),
            )
            rows = [("text/plain", "plain words"), ("text/html", "<p>rich words</p>")]
        else:
            rows = [("text/html", "<p>rich words</p>")]
        for kind, content in rows:
            c.execute(
                "insert into Attachments (TransactionId, Parent, ContentType, ContentEncoding, Content, Headers) "
                "values (?, ?, ?, 'none', ?, ?)",
                (message, root, kind, content, f"Content-Type: {kind}\nContent-Length: {len(content)}\n"),
            )
    documents = synced(queue).documents
    assert [p[0] for p in parts(documents[str(both)])] == ["plain words"]
    (part,) = documents[str(only)].body
    assert isinstance(part, Part)
    assert (part.media_type, part.text.strip()) == ("text/html", "<p>only <b>rich</b></p>")


def test_merged_deleted_restored_and_moved(queue: Queue) -> None:
    tracker = queue.tracker
    ids = {name: tracker.ticket(queue.id, name, f"text of {name}") for name in "abcde"}
    tracker.say(ids["a"], "comment", "internal of a", ("a.txt", "text/plain", b"file of a"))
    replica = synced(queue)
    tracker.change(ids["a"], MergeInto=ids["b"])
    tracker.call("DELETE", f"/ticket/{ids['c']}")
    tracker.change(ids["d"], Queue=queue.closed)
    found = changes(replica.sync(queue.connector()))
    assert [c for c in found if isinstance(c, Delete)] == [Delete(str(ids["a"])), Delete(str(ids["c"]))]
    merged = replica.documents[str(ids["b"])]
    assert [p[0] for p in parts(merged)] == ["text of a", "text of b", "internal of a"]
    assert merged.ticket is not None
    assert merged.ticket.links == (Link("merged_into", str(ids["a"])),)
    (file,) = [d for d in replica.documents.values() if d.title == "a.txt"]
    assert (file.parent, file.body) == (str(ids["b"]), b"file of a")
    assert replica.documents[str(ids["d"])].access == Access.nobody()
    assert replica.summary() == synced(queue).summary()
    tracker.change(ids["c"], Status="open")
    tracker.change(ids["b"], MergeInto=ids["e"])
    replica.sync(queue.connector())
    assert {name for name in replica.documents if "/" not in name} == {str(ids[n]) for n in "cde"}
    assert replica.summary() == synced(queue).summary()
    queue.settings["queues"] = [queue.name]
    tracker.change(ids["d"], Priority=3)
    replica.sync(queue.connector())
    assert str(ids["d"]) not in replica.documents, "it left the queues that are read"


def test_what_is_no_ordinary_ticket_is_left_out(queue: Queue) -> None:
    queue.tracker.ticket(queue.id, "ordinary")
    replica = synced(queue)
    reminder = queue.tracker.ticket(queue.id, "call back", "remember", Type="reminder")
    replica.sync(queue.connector())
    assert str(reminder) not in replica.documents
    assert not replica.failures


def test_a_transaction_that_was_committed_late_is_found(queue: Queue) -> None:
    """Its number was drawn, and passed over, before it could be seen."""
    tracker = queue.tracker
    first, second = (tracker.ticket(queue.id, name, name) for name in ("first", "second"))
    replica = synced(queue)
    tracker.say(first, "correspond", "the slow one")
    with tracker.database() as c:
        (slow,) = c.execute("select max(id) from Transactions").fetchone()
        c.execute("update Transactions set ObjectType = 'RT::Hidden' where id = ?", (slow,))
        c.execute("update Transactions set id = id + 1000000 where id = ?", (slow,))
        c.execute(
            "insert into Transactions (id, ObjectType, ObjectId, Type) values (?, 'RT::User', 14, 'x')",
            (slow + 1,),
        )
    tracker.say(second, "correspond", "the quick one")
    with tracker.database() as c:  # now back, as if committed at last
        (quick,) = c.execute("select max(id) from Transactions where id > 1000000").fetchone()
        c.execute("update Transactions set id = ? where id = ?", (slow + 2, quick))
        c.execute("update Attachments set TransactionId = ? where TransactionId = ?", (slow + 2, quick))
    replica.sync(queue.connector())
    assert len(parts(replica.documents[str(second)])) == 2
    with tracker.database() as c:
        c.execute(
            "update Transactions set id = ?, ObjectType = 'RT::Ticket' where id = ?", (slow, slow + 1000000)
        )
    assert [type(c) for c in changes(replica.sync(queue.connector()))] == [Upsert]
    assert len(parts(replica.documents[str(first)])) == 2
    assert changes(replica.sync(queue.connector())) == []


def test_readers_that_change_in_the_settings_reach_known_tickets(queue: Queue) -> None:
    tracker = queue.tracker
    ticket = tracker.ticket(queue.id, "mine", "text", Requestor="customer@people.test")
    replica = synced(queue)
    before = replica.embedded
    queue.settings["rights"][queue.name]["tickets"] += ["role:requestor"]
    replica.sync(queue.connector())
    token = f"user:{tracker.requestor()}"
    assert token in replica.documents[str(ticket)].access.tokens
    assert replica.embedded == before
    queue.settings["rights"] = {}
    replica.sync(queue.connector())
    assert replica.documents[str(ticket)].access == Access.nobody()
    assert all(not member.groups for member in queue.connector().memberships())


def test_a_queue_that_was_renamed_does_not_fall_under_the_rule_for_all(queue: Queue) -> None:
    queue.settings["rights"]["*"] = {"tickets": ["everyone"]}
    ticket = queue.tracker.ticket(queue.closed_id, "open to all", "text")
    assert synced(queue).documents[str(ticket)].access != Access.nobody()
    queue.tracker.call("PUT", f"/queue/{queue.id}", {"Name": f"Renamed {queue.number}"})
    queue.settings["queues"] = [queue.closed]
    assert synced(queue).documents[str(ticket)].access == Access.nobody()
    assert "not there" in queue.connector().check()


def test_check_names_what_is_wrong(queue: Queue) -> None:
    queue.tracker.ticket(queue.id, "one")
    queue.settings["rights"][queue.name]["tickets"] += ["group:No such group", "user:nobody-there"]
    found = queue.connector().check()
    assert "2 queues with 1 tickets" in found
    assert "No such group" in found
    assert "nobody-there" in found
    assert queue.closed in found
    queue.settings["queues"] = ["No such queue"]
    with pytest.raises(SourceRefused, match="No such queue"):
        queue.connector().check()
    queue.settings |= {"queues": [], "token": "1-14-" + "0" * 32}
    with pytest.raises(SourceRefused, match="credentials"):
        queue.connector().check()


@pytest.mark.parametrize(
    "rights",
    [
        {"q": {"tickets": ["agents"]}},
        {"q": {"tickets": ["role:nobody"]}},
        {"q": {"tickets": [], "comments": ["group:agents"]}},
        {"q": {"readers": []}},
    ],
)
def test_rights_that_mean_nothing_are_refused(rights: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RequestTrackerSettings.model_validate({"url": "http://rt", "token": "x", "rights": rights})


def test_a_webhook_is_believed_when_it_is_signed(queue: Queue) -> None:
    body = b"17"
    digest = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    signature = {"x-deskhand-signature": f"sha256={digest}"}
    assert not queue.connector().hint(signature, body), "without a secret nothing is believed"
    queue.settings["webhook_secret"] = "s3cret"
    assert queue.connector().hint(signature, body)
    assert not queue.connector().hint(signature, b"18")
    assert not queue.connector().hint({}, body)


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


def test_an_account_with_few_rights_reads_the_same(queue: Queue) -> None:
    queue.fill(40)
    ticket = queue.tracker.ticket(
        queue.id, "file", "text", Attachments=[attachment("a.pdf", "application/pdf", b"%PDF-1.4")]
    )
    queue.tracker.say(ticket, "comment", "internal", ("b.txt", "text/plain", b"of a note"))
    expected = synced(queue).summary()
    members = set(queue.connector().memberships())
    restricted(queue)
    replica = synced(queue)
    assert replica.summary() == expected
    assert set(queue.connector().inventory()) == set(expected)
    assert {m for m in queue.connector().memberships() if not m.name.startswith("sync")} == members


def test_queues_that_become_visible_are_read(queue: Queue) -> None:
    tracker = queue.tracker
    group = restricted(queue)
    queue.settings["queues"] = []
    later = tracker.queue(f"Later {queue.number}")
    hidden = tracker.ticket(later, "older", "text")
    queue.put("seen", "text")
    replica = synced(queue)
    assert str(hidden) not in replica.documents
    tracker.grant(group, "SeeQueue", "ShowTicket", "ShowTicketComments", queue=later)
    replica.sync(queue.connector())
    assert str(hidden) in replica.documents


def test_a_ticket_moved_where_the_account_sees_nothing_goes(queue: Queue) -> None:
    restricted(queue)
    queue.put("stays", "text")
    moved = queue.put("moved", "text")
    replica = synced(queue)
    private = queue.tracker.queue(f"Private {queue.number}")
    queue.tracker.change(int(moved), Queue=private)
    replica.sync(queue.connector())
    replica.prune(queue.connector())
    assert set(replica.documents) == {str(queue.tickets["stays"])}


def test_rows_that_rt_hides_do_not_end_the_feed(queue: Queue) -> None:
    """Pages of transactions the account may not see, before one it may."""
    tracker = queue.tracker
    group = restricted(queue)
    noted, other = (tracker.ticket(queue.id, name, name) for name in ("noted", "other"))
    with tracker.database() as c:
        c.execute("delete from ACL where PrincipalId = ? and RightName = 'ShowTicketComments'", (group,))
    replica = synced(queue)
    with tracker.database() as c:
        c.executemany(
            "insert into Transactions (ObjectType, ObjectId, Type, Creator, Created, TimeTaken) "
            "values ('RT::Ticket', ?, 'Comment', 14, '2025-01-01 00:00:00', 0)",
            [(noted,)] * 750,
        )
    tracker.say(other, "correspond", "behind them")
    replica.sync(queue.connector())
    assert len(parts(replica.documents[str(other)])) == 2
    assert not [p for p in parts(replica.documents[str(noted)]) if p[3] is Audience.INTERNAL]


def test_people(queue: Queue) -> None:
    tracker, number = queue.tracker, queue.number
    people = {
        name: tracker.person(f"{name}{number}") for name in ("nested", "off", "watcher", "named", "in-off")
    }
    inner = tracker.group(f"Inner {number}", people["nested"], people["off"])
    disabled = tracker.group(f"Disabled {number}", people["in-off"])
    tracker.join(queue.group, inner, disabled)
    tracker.call("DELETE", f"/group/{disabled}")
    tracker.call("DELETE", f"/user/off{number}")
    tracker.call("PUT", f"/queue/{queue.id}", {"AdminCc": [f"watcher{number}"]})
    readers = [f"group:{queue.group_name}", f"user:named{number}", "role:admincc"]
    queue.settings["rights"][queue.name] = {"tickets": readers, "comments": ["role:admincc"]}
    members = {m.user: m for m in queue.connector().memberships()}
    token = f"queue:{queue.id}"
    assert {user for user, m in members.items() if token in m.groups} == {
        str(user) for user in (queue.agent, people["nested"], people["named"], people["watcher"])
    }
    assert {user for user, m in members.items() if f"{token}:comments" in m.groups} == {
        str(people["watcher"])
    }
    assert f"members:{inner}" in members[str(people["nested"])].groups
    assert members[str(people["named"])].email == f"named{number}@people.test"
    assert str(people["off"]) not in members
    assert not {"1", "6"} & set(members), "RT's own users are nobody"


SEEDS = range(int(os.environ.get("DESKHAND_SEEDS", "1")))


class Asking:
    """Persons asking RT itself, and what the tokens would give them."""

    def __init__(self, queue: Queue, replica: Replica) -> None:
        self.replica = replica
        realm = {m.user: frozenset(f"group:{g}" for g in m.groups) for m in queue.connector().memberships()}
        self.tokens = {user: groups | {f"user:{user}", EVERYONE} for user, groups in realm.items()}

    def by_tokens(self, user: int) -> tuple[set[str], set[tuple[str, str]]]:
        """Ids of documents, and (ticket, text) of comments, that the person may read."""
        own = self.tokens.get(str(user), frozenset())
        readable = {d for d, doc in self.replica.documents.items() if doc.access.tokens & own}
        comments = {
            (name, part.text.strip())
            for name in readable
            for part in self.replica.documents[name].body
            if isinstance(part, Part) and part.access is not None and part.access.tokens & own
        }
        return readable, comments

    def by_rt(self, rt: httpx.Client) -> tuple[set[str], set[tuple[str, str]]]:
        readable, comments = set[str](), set[tuple[str, str]]()
        for name, document in self.replica.documents.items():
            if "/" in name:
                if rt.get(f"/{name}").status_code == 200:
                    readable.add(name)
                continue
            answer = rt.get(f"/ticket/{name}")
            if answer.status_code != 200:
                continue
            readable.add(name)
            history = rt.get(f"/ticket/{name}/history", params={"fields": "Type", "per_page": 100}).json()
            if any(row["Type"] == "Comment" for row in history["items"]):
                assert isinstance(document.body, tuple)
                comments |= {(name, p.text.strip()) for p in document.body if p.audience is Audience.INTERNAL}
        return readable, comments


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_reads_what_rt_refuses_them(queue: Queue, seed: int) -> None:
    """Each person asks RT for each ticket, comment and attachment; the tokens give no more, and no less."""
    tracker, number = queue.tracker, queue.number
    private, roles = (tracker.queue(f"{name} {number}") for name in ("HR", "Roles"))
    names = ["boss", "customer-a", "customer-b", "owner", "cc", "stranger", "watcher", "deputy", "grouped"]
    people = {n: tracker.person(f"{n}{number}", privileged=not n.startswith("customer")) for n in names}
    boss = tracker.group(f"HR {number}", people["boss"])
    deputies = tracker.group(f"Deputies {number}", people["deputy"])
    tracker.join(boss, deputies)
    tracker.join(tracker.group(f"Watchers {number}"), tracker.group(f"Nested {number}", people["grouped"]))
    tracker.grant(queue.group, "SeeQueue", "ShowTicket", "ShowTicketComments", queue=queue.id)
    tracker.grant(boss, "SeeQueue", "ShowTicket", queue=private)
    tracker.grant(deputies, "ShowTicketComments", queue=private)
    for role, rights in {
        "Requestor": ("ShowTicket",),
        "Cc": ("ShowTicket",),
        "Owner": ("ShowTicket", "ShowTicketComments", "OwnTicket"),
        "AdminCc": ("ShowTicket", "ShowTicketComments"),
    }.items():
        tracker.grant(tracker.role(roles, role), *rights, queue=roles, role=role)
    tracker.grant(tracker.role(queue.id, "Requestor"), "ShowTicket", queue=queue.id, role="Requestor")
    tracker.call("PUT", f"/queue/{roles}", {"AdminCc": [f"watcher{number}"]})
    agents, hr, deputy = f"group:{queue.group_name}", f"group:HR {number}", f"group:Deputies {number}"
    queue.settings["queues"] = [queue.name, queue.closed, f"HR {number}", f"Roles {number}"]
    queue.settings["rights"] = {
        queue.name: {"tickets": [agents, "role:requestor"], "comments": [agents]},
        f"HR {number}": {"tickets": [hr, deputy], "comments": [deputy]},
        f"Roles {number}": {
            "tickets": ["role:requestor", "role:cc", "role:owner", "role:admincc"],
            "comments": ["role:owner", "role:admincc"],
        },
    }
    chance = random.Random(seed)
    tickets: list[int] = []
    for count in range(24):
        of = chance.choice([queue.id, queue.closed_id, private, roles])
        watchers: dict[str, Any] = {
            "Requestor": f"{chance.choice(['customer-a', 'customer-b', 'boss'])}{number}"
        }
        if chance.random() < 0.4:
            watchers["Cc"] = [f"cc{number}"]
        if chance.random() < 0.2:
            watchers["Cc"] = [f"group:Watchers {number}"]
        if chance.random() < 0.3:
            watchers["AdminCc"] = [f"stranger{number}"]
        ticket = tracker.ticket(of, f"t{count}", f"text {count}", **watchers)
        if chance.random() < 0.7:
            file = ("n.txt", "text/plain", b"note")
            tracker.say(ticket, chance.choice(["comment", "correspond"]), f"said {count}", file)
        if of == roles and chance.random() < 0.6:
            tracker.change(ticket, Owner=f"owner{number}")
        tickets.append(ticket)
    replica = synced(queue)
    for ticket in tickets[:12]:  # and after things have moved
        where = chance.choice([queue.name, queue.closed, f"HR {number}", f"Roles {number}"])
        if chance.random() < 0.5:
            tracker.change(ticket, Queue=where)
        else:
            tracker.change(ticket, Requestor=[f"customer-b{number}"])
    tracker.change(tickets[13], MergeInto=tickets[14])
    tracker.leave(deputies, people["deputy"])
    tracker.join(queue.group, people["deputy"])
    replica.sync(queue.connector())
    asking = Asking(queue, replica)
    seen = 0
    for name, user in {**people, f"agent{number}": queue.agent}.items():
        login = name if name.startswith("agent") else f"{name}{number}"
        with tracker.login(auth=(login, "secret123")) as rt:
            tokens, truth = asking.by_tokens(user), asking.by_rt(rt)
        assert tokens[0] - truth[0] == set(), f"{name} reads documents that RT refuses"
        assert tokens[1] - truth[1] == set(), f"{name} reads comments that RT refuses"
        assert tokens == truth, f"{name} is refused what RT shows"
        seen += len(truth[0])
    assert seen > 20


class Machine(RuleBasedStateMachine):
    """Whatever happens to tickets between syncs, and wherever these break off."""

    tracker: ClassVar[RequestTracker]

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(self.tracker)
        self.tickets = [self.tracker.ticket(self.queue.id, "first", "text")]
        self.gone: set[int] = set()
        self.replica = Replica()
        self.count = 0

    def pick(self, index: int) -> int:
        alive = [ticket for ticket in self.tickets if ticket not in self.gone]
        return alive[index % len(alive)]

    def text(self) -> str:
        self.count += 1
        return f"text {self.count}"

    @rule()
    def create(self) -> None:
        self.tickets.append(self.tracker.ticket(self.queue.id, self.text(), self.text()))

    @rule(index=st.integers(0, 9), kind=st.sampled_from(["comment", "correspond"]), file=st.booleans())
    def say(self, index: int, kind: str, file: bool) -> None:
        files = [("f.txt", "text/plain", self.text().encode())] if file else []
        self.tracker.say(self.pick(index), kind, self.text(), *files)

    @rule(index=st.integers(0, 9), other=st.integers(0, 9))
    def merge(self, index: int, other: int) -> None:
        old, new = self.pick(index), self.pick(other)
        if old != new:
            self.tracker.change(old, MergeInto=new)
            self.gone.add(old)

    @rule(index=st.integers(0, 9), back=st.booleans())
    def move(self, index: int, back: bool) -> None:
        self.tracker.change(self.pick(index), Queue=self.queue.name if back else self.queue.closed)

    @rule(index=st.integers(0, 9), status=st.sampled_from(["open", "stalled", "resolved"]))
    def set_status(self, index: int, status: str) -> None:
        self.tracker.change(self.pick(index), Status=status)

    @rule(index=st.integers(0, 9))
    def delete(self, index: int) -> None:
        ticket = self.pick(index)
        if len(set(self.tickets) - self.gone) > 1:
            self.tracker.call("DELETE", f"/ticket/{ticket}")
            self.gone.add(ticket)

    @rule(index=st.integers(0, 9), other=st.integers(0, 9))
    def link(self, index: int, other: int) -> None:
        if self.pick(index) != self.pick(other):
            self.tracker.change(self.pick(index), DependsOn=[self.pick(other)])

    @rule(batches=st.sampled_from([1, 1, 2, None]))
    def sync(self, batches: int | None) -> None:
        self.replica.sync(self.queue.connector(), batches=batches)

    def teardown(self) -> None:
        self.replica.sync(self.queue.connector())
        there = {
            str(row[0]): (row[1], row[2])
            for row in self.database(
                "select id, Status, Queue from Tickets where Queue in (?, ?) and Status != 'deleted' "
                "and EffectiveId = id",
                self.queue.id,
                self.queue.closed_id,
            )
        }
        documents = self.replica.documents
        assert {name for name in documents if "/" not in name} == set(there)
        for name, (status, queue) in there.items():
            facts = documents[name].ticket
            assert facts is not None
            assert facts.status == status
            assert bool(documents[name].access.tokens) == (queue == self.queue.id)
            (said,) = self.database(
                "select count(*) from Transactions x join Tickets t on t.id = x.ObjectId where t.EffectiveId = ? "
                "and x.ObjectType = 'RT::Ticket' and x.Type in ('Create', 'Correspond', 'Comment')",
                int(name),
            )
            assert len(parts(documents[name])) == said[0]
        assert self.replica.summary() == synced(self.queue).summary()
        assert set(documents) <= set(self.queue.connector().inventory())
        assert changes(self.replica.sync(self.queue.connector())) == []

    def database(self, sql: str, *values: object) -> list[Any]:
        with self.tracker.database() as connection:
            return connection.execute(sql, values).fetchall()


@pytest.mark.timeout(600)
def test_replayed_changes_equal_what_rt_has(tracker: RequestTracker) -> None:
    Machine.tracker = tracker
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=8 * len(SEEDS),
            stateful_step_count=14,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
        ),
    )
