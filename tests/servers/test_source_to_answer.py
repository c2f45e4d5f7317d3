"""From a ticket system to what a person finds: rights, notes, attachments and deletions on the whole way."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from assistant.config import Settings
from assistant.model import Audience
from assistant.retrieve.scope import Scope
from assistant.store import breaker, sources, sync
from assistant.store.schedule import Job
from tests.servers.whole_way import WholeWay
from tests.servers.zendesk import EMAIL, TOKEN, ZendeskServer

PEOPLE = 12
SUPPORT, PAYROLL = 5, 6


class Path(WholeWay):
    """A Zendesk, and what Deskhand's workers do with it."""

    def __init__(self, settings: Settings) -> None:
        self.server = ZendeskServer()
        values = {
            "url": f"http://127.0.0.1:{self.server.port}",
            "email": EMAIL,
            "api_token": TOKEN,
            "attachment_hosts": ["127.0.0.1"],
        }
        super().__init__(settings, "zendesk", "zendesk", values)

    def work(self) -> None:
        """A permission sync, a sync with its indexing, and an inventory."""
        self.server.now += 61
        self.server.exports.clear()
        self.carry()
        database = self.assistant.database
        with database.writer() as connection:
            source = sources.get(connection, self.name)
        connector = self.assistant.connector(source)
        present = set(connector.inventory())
        connector.close()
        with database.connect() as connection:
            row = sources.take(connection, (Job.SYNC,))
            assert row is not None
            gone, note = breaker.missing(connection, source, row, present)
            assert not note
            sync.delete(connection, source, gone, sync.Counts())
            sources.finish(connection, row)

    def found(self, question: str, person: str, audience: Audience = Audience.INTERNAL) -> str:
        """The texts that are retrieved for the person, together."""
        passages = self.assistant.retriever.passages(
            question, Scope(self.principal(person), audience), limit=20
        )
        return "\n".join(passage.text for passage in passages)

    def close(self) -> None:
        super().close()
        self.server.close()


@pytest.fixture
def path(settings: Settings) -> Iterator[Path]:
    path = Path(settings)
    server = path.server
    server.user(2, "Bo Agent", "agent", "bo@desk.example", ticket_restriction="groups")
    server.join(2, group=SUPPORT)
    server.user(3, "Cy Customer", "end-user", "cy@acme.example")
    server.user(4, "Di Agent", "agent", "di@desk.example", ticket_restriction="groups")
    server.join(4, group=PAYROLL)
    server.user(9, "Eve Agent", "agent", "eve@desk.example", verified=False)
    yield path
    path.close()


QUESTION = "Why does the frobnicator overheat?"


def test_notes_reach_agents_and_no_answer_that_leaves_the_desk(path: Path) -> None:
    server = path.server
    ticket = server.ticket("The frobnicator overheats", "It overheats daily.", requester=3, group_id=SUPPORT)
    server.comment(ticket, "Please clean the frobnicator's fan against overheating.", author=2)
    server.comment(
        ticket, "The customer's frobnicator overheats for want of payment.", author=2, public=False
    )
    path.work()
    assert "want of payment" in path.found(QUESTION, "bo@desk.example")
    assert "want of payment" not in path.found(QUESTION, "bo@desk.example", Audience.PUBLIC)
    assert "frobnicator's fan" in path.found(QUESTION, "bo@desk.example", Audience.PUBLIC)
    own = path.found(QUESTION, "cy@acme.example")
    assert "frobnicator's fan" in own
    assert "want of payment" not in own, "the requester may read the ticket and not its notes"
    assert path.found(QUESTION, "di@desk.example") == ""
    assert path.found(QUESTION, "eve@desk.example") == "", "an address nobody verified is nobody"
    assert path.found(QUESTION, "") == ""


def test_an_attachment_is_found_with_its_tickets_rights_and_goes_with_it(path: Path) -> None:
    server = path.server
    server.ticket("Another", "An account without any ticket looks like a lost right.", group_id=SUPPORT)
    ticket = server.ticket("A report", "See the file.", requester=3, group_id=SUPPORT)
    server.comment(ticket, "Here.", author=3, files={"report.txt": b"The gyroscope drifts by seven degrees."})
    hidden = {"audit.txt": b"The gyroscope was sold twice, says the audit."}
    server.comment(ticket, "For us.", author=2, public=False, files=hidden)
    path.work()
    assert "seven degrees" in path.found("gyroscope drift", "bo@desk.example")
    assert "sold twice" in path.found("gyroscope drift", "bo@desk.example")
    assert "sold twice" not in path.found("gyroscope drift", "bo@desk.example", Audience.PUBLIC)
    assert "sold twice" not in path.found("gyroscope drift", "cy@acme.example")
    server.update(ticket, status="deleted")
    path.work()
    assert "gyroscope" not in path.found("gyroscope drift", "bo@desk.example")


def test_nobody_finds_what_groups_keep_from_them_whatever_is_granted_and_revoked(path: Path) -> None:
    """Random groups and tickets; after each round everybody's finds are compared with the server's own rule."""
    server, chance = path.server, random.Random(20_261)
    groups = [11, 12, 13, 14]
    for person in range(20, 20 + PEOPLE):
        server.user(
            person, f"Agent {person}", "agent", f"a{person}@desk.example", ticket_restriction="groups"
        )
    where: dict[int, int] = {}
    for number in range(40):
        group = chance.choice(groups)
        ticket = server.ticket(
            f"Frobnicator {number}", f"Frobnicator number {number} overheats.", group_id=group
        )
        where[ticket] = group
    retrievals = 0
    for _ in range(4):
        with server.lock:
            server.group_memberships[:] = [m for m in server.group_memberships if m["user_id"] < 20]
        for person in range(20, 20 + PEOPLE):
            for group in chance.sample(groups, chance.randint(0, 3)):
                server.join(person, group=group)
        for ticket in chance.sample(sorted(where), 6):
            where[ticket] = chance.choice(groups)
            server.update(ticket, group_id=where[ticket])
        path.work()
        for person in range(20, 20 + PEOPLE):
            member_of = {m["group_id"] for m in server.group_memberships if m["user_id"] == person}
            for _ in range(5):
                retrievals += 1
                question = f"frobnicator number {chance.randrange(40)} overheats"
                text = path.found(question, f"a{person}@desk.example")
                for number, ticket in enumerate(sorted(where)):
                    if where[ticket] not in member_of:
                        assert f"number {number} overheats" not in text
    assert retrievals == 4 * 5 * PEOPLE
