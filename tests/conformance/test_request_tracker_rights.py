from __future__ import annotations

import os
import random
from typing import Any

import httpx
import pytest

from assistant.errors import SourceError
from assistant.model import EVERYONE, Audience, Part
from tests.conformance.connector import Replica, changes
from tests.servers.request_tracker import RequestTracker, attachment
from tests.servers.request_tracker_queue import Queue, parts, restricted, synced

pytestmark = pytest.mark.server


@pytest.fixture
def queue(request_tracker: RequestTracker) -> Queue:
    return Queue(request_tracker)


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


class Company:
    """A queue for agents, one for HR, one by roles alone, one for nobody; RT's rights and the same in settings."""

    def __init__(self, queue: Queue) -> None:
        self.queue, self.tracker, number = queue, queue.tracker, queue.number
        tracker, self.number = queue.tracker, number
        self.private, self.roles = (tracker.queue(f"{name} {number}") for name in ("HR", "Roles"))
        names = [
            "boss",
            "customer-a",
            "customer-b",
            "owner",
            "cc",
            "stranger",
            "watcher",
            "deputy",
            "grouped",
        ]
        self.people = {
            name: tracker.person(f"{name}{number}", privileged=not name.startswith("customer"))
            for name in names
        }
        self.boss = tracker.group(f"HR {number}", self.people["boss"])
        self.deputies = tracker.group(f"Deputies {number}", self.people["deputy"])
        tracker.join(self.boss, self.deputies)
        nested = tracker.group(f"Nested {number}", self.people["grouped"])
        tracker.join(tracker.group(f"Watchers {number}"), nested)
        self.grant()
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

    def grant(self) -> None:
        tracker, queue = self.tracker, self.queue
        tracker.grant(queue.group, "SeeQueue", "ShowTicket", "ShowTicketComments", queue=queue.id)
        tracker.grant(self.boss, "SeeQueue", "ShowTicket", queue=self.private)
        tracker.grant(self.deputies, "ShowTicketComments", queue=self.private)
        for role, rights in {
            "Requestor": ("ShowTicket",),
            "Cc": ("ShowTicket",),
            "Owner": ("ShowTicket", "ShowTicketComments", "OwnTicket"),
            "AdminCc": ("ShowTicket", "ShowTicketComments"),
        }.items():
            tracker.grant(tracker.role(self.roles, role), *rights, queue=self.roles, role=role)
        tracker.grant(tracker.role(queue.id, "Requestor"), "ShowTicket", queue=queue.id, role="Requestor")
        tracker.call("PUT", f"/queue/{self.roles}", {"AdminCc": [f"watcher{self.number}"]})

    def work(self, chance: random.Random) -> list[int]:
        """Tickets with watchers, comments, files and owners by chance."""
        tracker, number = self.tracker, self.number
        tickets: list[int] = []
        for count in range(24):
            of = chance.choice([self.queue.id, self.queue.closed_id, self.private, self.roles])
            requestor = chance.choice(["customer-a", "customer-b", "boss"])
            watchers: dict[str, Any] = {"Requestor": f"{requestor}{number}"}
            if chance.random() < 0.4:
                watchers["Cc"] = [chance.choice([f"cc{number}", f"group:Watchers {number}"])]
            if chance.random() < 0.3:
                watchers["AdminCc"] = [f"stranger{number}"]
            ticket = tracker.ticket(of, f"t{count}", f"text {count}", **watchers)
            if chance.random() < 0.7:
                file = ("n.txt", "text/plain", b"note")
                tracker.say(ticket, chance.choice(["comment", "correspond"]), f"said {count}", file)
            if of == self.roles and chance.random() < 0.6:
                tracker.change(ticket, Owner=f"owner{number}")
            tickets.append(ticket)
        group = [f"group:Watchers {number}"]
        return [
            *tickets,
            tracker.ticket(self.roles, "of a group", "text", Cc=group, Requestor=f"boss{number}"),
        ]

    def change(self, tickets: list[int], chance: random.Random) -> None:
        for ticket in tickets[:12]:
            if chance.random() < 0.5:
                self.tracker.change(ticket, Queue=chance.choice(self.queue.settings["queues"]))
            else:
                self.tracker.change(ticket, Requestor=[f"customer-b{self.number}"])
        self.tracker.change(tickets[13], MergeInto=tickets[14])
        self.tracker.leave(self.deputies, self.people["deputy"])
        self.tracker.join(self.queue.group, self.people["deputy"])


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_reads_what_rt_refuses_them(queue: Queue, seed: int) -> None:
    """Each person asks RT for each ticket, comment and attachment; the tokens give no more, and no less."""
    company, chance = Company(queue), random.Random(seed)
    tickets = company.work(chance)
    replica = synced(queue)
    company.change(tickets, chance)
    replica.sync(queue.connector())
    asking = Asking(queue, replica)
    seen = 0
    for name, user in {**company.people, "agent": queue.agent}.items():
        with queue.tracker.login(auth=(f"{name}{queue.number}", "secret123")) as rt:
            tokens, truth = asking.by_tokens(user), asking.by_rt(rt)
        assert tokens[0] - truth[0] == set(), f"{name} reads documents that RT refuses"
        assert tokens[1] - truth[1] == set(), f"{name} reads comments that RT refuses"
        assert tokens == truth, f"{name} is refused what RT shows"
        seen += len(truth[0])
    assert seen > 20
    assert asking.by_tokens(company.people["grouped"])[0], "who is in a group that watches a ticket"


def test_a_right_that_the_account_loses_deletes_nothing(queue: Queue) -> None:
    """Of a deleted ticket RT says so; an empty list looks like a right that was taken away."""
    group = restricted(queue)
    queue.fill(40)
    replica = synced(queue)
    with queue.tracker.database() as connection:
        connection.execute("delete from ACL where PrincipalId = ? and RightName = 'ShowTicket'", (group,))
    with pytest.raises(SourceError, match="othing was"):
        list(queue.connector().inventory())
    assert changes(replica.sync(queue.connector())) == []
    assert len(replica.documents) == 40
