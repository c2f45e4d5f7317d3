from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from pydantic import ValidationError

from assistant.errors import SourceRefused
from assistant.model import Access, Audience, Customer, Delete, Failed, Link, Part, Upsert
from connectors.base import BATCH_SIZE
from connectors.request_tracker.connector import RequestTrackerSettings
from tests.conformance.connector import (
    ReadsAgain,
    Replica,
    WritableSource,
    changes,
)
from tests.servers.request_tracker import RequestTracker, attachment
from tests.servers.request_tracker_queue import Queue, agent, parts, synced

pytestmark = pytest.mark.server


@pytest.fixture
def queue(request_tracker: RequestTracker) -> Queue:
    return Queue(request_tracker)


class TestRequestTracker(ReadsAgain):
    @pytest.fixture
    def source(self, queue: Queue) -> WritableSource:
        return queue

    @pytest.fixture
    def filled(self, queue: Queue) -> WritableSource:
        queue.fill(2 * BATCH_SIZE + 9)
        return queue


def serial(queue: Queue) -> str:
    """The name of a custom field of the queue's tickets."""
    name, kind = f"Serial {queue.number}", "RT::Queue-RT::Ticket"
    field = queue.tracker.call(
        "POST", "/customfield", {"Name": name, "Type": "FreeformSingle", "LookupType": kind}
    )
    with queue.tracker.database() as connection:  # REST has no call for applying a field to a queue
        connection.execute(
            "insert into ObjectCustomFields (CustomField, ObjectId, SortOrder) values (?, ?, 1)",
            (int(field["id"]), queue.id),
        )
    return name


def test_what_is_kept_of_a_ticket(queue: Queue) -> None:
    tracker, number = queue.tracker, queue.number
    tracker.requestor()
    other = tracker.ticket(queue.id, "other")
    ticket = tracker.ticket(
        queue.id,
        "No paper",
        "The tray is empty.",
        Requestor="customer@people.test",
        Priority=7,
        CustomFields={serial(queue): "SN-5"},
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


def test_what_the_settings_make_of_a_ticket(queue: Queue) -> None:
    ticket = queue.tracker.ticket(
        queue.id, "a", "x", Requestor="customer@people.test", CustomFields={serial(queue): "SN-5"}
    )
    queue.settings |= {"custom_fields": [], "customer_from": "domain", "link_url": "https://help.example/rt/"}
    document = synced(queue).documents[str(ticket)]
    assert document.ticket is not None
    assert document.ticket.custom_fields == {}, "those RT shows to some readers only must be named"
    assert document.customer == Customer("people.test", "people.test", domains=("people.test",))
    assert document.url == f"https://help.example/rt/Ticket/Display.html?id={ticket}"


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


EXAMPLES = int(os.environ.get("DESKHAND_EXAMPLES", "8"))


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
def test_replayed_changes_equal_what_rt_has(request_tracker: RequestTracker) -> None:
    Machine.tracker = request_tracker
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=14,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
        ),
    )


def test_what_was_moved_or_merged_away_is_not_read_again(queue: Queue) -> None:
    tracker = queue.tracker
    moved = tracker.ticket(queue.closed_id, "moved", "text")
    kept, merged = tracker.ticket(queue.id, "kept", "text"), tracker.ticket(queue.id, "merged", "text")
    tracker.change(merged, MergeInto=kept)
    queue.settings["queues"] = [queue.name]
    found = list(queue.connector().read([str(moved), str(merged), "attachment/1"]))
    gone = {change.external_id for change in found if isinstance(change, Delete)}
    assert gone == {str(moved), str(merged), "attachment/1"}
    assert [change.document.external_id for change in found if isinstance(change, Upsert)] == [str(kept)]


def test_a_file_that_is_too_large_is_known_by_its_ticket(queue: Queue) -> None:
    ticket = queue.tracker.ticket(queue.id, "with a file", "text")
    queue.tracker.say(ticket, "correspond", "see there", ("large.txt", "text/plain", b"x" * 2**21))
    queue.settings["max_attachment_mb"] = 1
    found = list(queue.connector().read([str(ticket)]))
    assert [change.parent for change in found if isinstance(change, Failed)] == [str(ticket)]
