"""Against a server that answers as Zendesk's documentation says. Not yet run against the vendor."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import time
from collections.abc import Iterator
from typing import Any

import pytest

from assistant.errors import ItemError, SourceBusy, SourceRefused
from assistant.model import Access, Audience, Delete, Event, Failed, Link, SourceDocument, Upsert
from connectors import http as connectors_http
from connectors.network import Network
from connectors.zendesk import connector as connectors_zendesk
from connectors.zendesk.connector import ZendeskConnector, ZendeskSettings
from tests.conformance.connector import CONTENT_WORD, ReadsAgain, Replica, WritableSource, changes
from tests.servers.protocol import Reply
from tests.servers.zendesk import EMAIL, TOKEN, ZendeskServer, stamp

LOOPBACK = Network(("127.0.0.1",))


class Account(WritableSource):
    """Names of items are kept here; Zendesk knows its own numbers."""

    tells_deletions = True

    def __init__(self, server: ZendeskServer, **settings: Any) -> None:
        self.server = server
        self.port = server.port
        self.settings: dict[str, Any] = {
            "email": EMAIL,
            "api_token": TOKEN,
            "attachment_hosts": ["127.0.0.1"],
        }
        self.settings |= settings
        self.numbers: dict[str, int] = {}
        self.made: list[ZendeskConnector] = []

    def connector(self, port: int | None = None) -> ZendeskConnector:
        self.server.now += 61  # what changed is exported a minute later
        url = f"http://127.0.0.1:{port or self.port}"
        self.made.append(
            ZendeskConnector(ZendeskSettings.model_validate({"url": url, **self.settings}), LOOPBACK)
        )
        return self.made[-1]

    def close(self) -> None:
        for connector in self.made:
            connector.close()

    def put(self, name: str, text: str) -> str:
        if name in self.numbers:
            comment = self.server.comments[self.numbers[name]][0]
            comment |= {"plain_body": text, "html_body": text.replace("&", "&amp;").replace("<", "&lt;")}
            self.server.touch(self.numbers[name])
        else:
            self.numbers[name] = self.server.ticket(f"About {name}", text, group_id=5)
        return f"ticket/{self.numbers[name]}"

    def remove(self, name: str) -> None:
        self.server.update(self.numbers.pop(name), status="deleted")

    def spoil(self) -> None:
        number = self.server.ticket("Not to be opened", CONTENT_WORD)
        self.server.unreadable.add(number)

    def mend(self) -> None:
        self.server.unreadable.clear()

    def withdraw(self, name: str) -> None:
        del self.server.tickets[self.numbers[name]]["group_id"]
        self.server.touch(self.numbers[name])

    def restrict(self, name: str) -> str:
        self.server.update(self.numbers[name], group_id=6)
        return "group:group:5"

    def vanish(self) -> None:
        self.server.gone = True


class HelpCenter(Account):
    spoilt = 0

    def put(self, name: str, text: str) -> str:
        if name in self.numbers:
            body = "<p>" + text.replace("&", "&amp;").replace("<", "&lt;")
            self.server.revise(self.numbers[name], body=body)
        else:
            self.numbers[name] = self.server.article(f"About {name}", text, user_segment_id=3)
        return f"article/{self.numbers[name]}"

    def remove(self, name: str) -> None:
        self.server.archived.add(self.numbers.pop(name))

    def spoil(self) -> None:
        self.spoilt = self.server.article("Without a date", CONTENT_WORD, created_at=None)

    def mend(self) -> None:
        article = self.server.articles[self.spoilt]
        article["created_at"] = article["updated_at"]

    def withdraw(self, name: str) -> None:
        del self.server.articles[self.numbers[name]]["user_segment_id"]

    def restrict(self, name: str) -> str:
        self.server.articles[self.numbers[name]]["user_segment_id"] = 4
        return "group:segment:3"


@pytest.fixture
def server() -> Iterator[ZendeskServer]:
    server = ZendeskServer()
    yield server
    server.close()
    assert server.violations + server.cdn.violations == []


@pytest.fixture
def account(server: ZendeskServer) -> Iterator[Account]:
    account = Account(server)
    yield account
    account.close()


class TestTickets(ReadsAgain):
    @pytest.fixture
    def source(self, account: Account) -> WritableSource:
        return account


class TestArticles(ReadsAgain):
    @pytest.fixture
    def source(self, server: ZendeskServer) -> Iterator[WritableSource]:
        articles = HelpCenter(server)
        yield articles
        articles.close()


def synced(account: Account) -> Replica:
    replica = Replica()
    replica.sync(account.connector())
    return replica


def tokens(account: Account) -> dict[str, frozenset[str]]:
    """What each person holds, as the store would say it."""
    return {
        member.user: frozenset({"everyone", f"user:{member.user}"} | {f"group:{g}" for g in member.groups})
        for member in account.connector().memberships()
    }


def texts(account: Account, documents: dict[str, SourceDocument], person: int) -> set[str]:
    """The texts this person finds: the document's tokens must match, and a note's own too."""
    mine = tokens(account).get(str(person), frozenset({"everyone"}))
    found: set[str] = set()
    for document in documents.values():
        if not document.access.tokens & mine:
            continue
        if isinstance(document.body, bytes):
            found.add(document.body.decode())
        else:
            found |= {p.text for p in document.body if p.access is None or p.access.tokens & mine}
    return {text.replace('<div class="zd-comment">', "").removesuffix("</div>") for text in found}


def rich_ticket(server: ZendeskServer) -> tuple[int, int]:
    """A ticket with something in every field, and the number of the problem it belongs to."""
    server.user(7, "Rita Requester", "end-user", "rita@customer.example")
    server.user(8, "Axel Agent", "agent", "axel@example.com")
    server.organization(
        40, "Customer Ltd", domain_names=["customer.example"], organization_fields={"worth": "1M"}
    )
    field = {"active": True, "visible_in_portal": True}
    server.fields = {
        90: {"id": 90, "title": "Serial number", **field},
        91: {"id": 91, "title": "Margin", **field, "visible_in_portal": False},
    }
    problem = server.ticket("The problem", "many are affected", type="problem")
    number = server.ticket(
        "It broke",
        "smoke",
        requester=7,
        organization_id=40,
        group_id=5,
        assignee_id=8,
        problem_id=problem,
        priority="high",
        tags=["vip", "alpha"],
        custom_fields=[{"id": 90, "value": "X-1"}, {"id": 91, "value": "9"}],
        satisfaction_rating={"score": "good"},
    )
    return number, problem


def test_everything_about_a_ticket(server: ZendeskServer, account: Account) -> None:
    number, problem = rich_ticket(server)
    server.comment(number, "a secret", author=8, public=False)
    server.update(number, status="open")
    server.update(number, status="solved")
    solved = server.now
    server.update(number, status="closed", followup_ids=[77])
    document = synced(account).documents[f"ticket/{number}"]
    assert (document.title, document.url) == (
        "It broke",
        f"https://example.zendesk.com/agent/tickets/{number}",
    )
    assert isinstance(document.body, tuple)
    assert [(p.role, p.author, p.audience) for p in document.body] == [
        ("customer", "Rita Requester", Audience.PUBLIC),
        ("agent", "Axel Agent", Audience.INTERNAL),
    ]
    ticket = document.ticket
    assert ticket
    assert document.customer
    assert (document.customer.name, document.customer.domains) == ("Customer Ltd", ("customer.example",))
    assert not document.customer.attributes
    assert (ticket.status, ticket.priority, ticket.tags) == ("closed", "high", ("alpha", "vip"))
    assert (ticket.requester, ticket.assignee, ticket.satisfaction) == (
        "Rita Requester",
        "Axel Agent",
        "good",
    )
    assert ticket.custom_fields == {"Serial number": "X-1"}
    assert [(e.old, e.new) for e in ticket.events] == [
        ("", "new"),
        ("new", "open"),
        ("open", "solved"),
        ("solved", "closed"),
    ]
    assert ticket.solved_at == dt.datetime.fromtimestamp(solved, dt.UTC), "closing is not solving"
    assert set(ticket.links) == {Link("parent", f"ticket/{problem}"), Link("child", "ticket/77")}


def test_fields_that_customers_do_not_see_are_left_out_unless_asked_for(
    server: ZendeskServer, account: Account
) -> None:
    number, _ = rich_ticket(server)
    account.settings["internal_fields"] = True
    document = synced(account).documents[f"ticket/{number}"]
    assert document.ticket
    assert document.customer
    assert document.ticket.custom_fields["Margin"] == "9"
    assert document.customer.attributes == {"worth": "1M"}


def test_new_tickets_take_one_request(server: ZendeskServer, account: Account) -> None:
    number = server.ticket("New", "text")
    document = synced(account).documents[f"ticket/{number}"]
    assert not [path for path in server.calls if "audits" in path]
    assert document.ticket
    assert document.ticket.events == (Event(dt.datetime.fromtimestamp(server.now - 63, dt.UTC), "", "new"),)


def test_a_merged_ticket_names_the_other(server: ZendeskServer, account: Account) -> None:
    first, second = server.ticket("One", "text"), server.ticket("Two", "text")
    server.comment(second, f'This request was closed and merged into request #{first} "One".', public=False)
    server.update(second, status="closed", tags=["closed_by_merge"])
    ticket = synced(account).documents[f"ticket/{second}"].ticket
    assert ticket
    assert ticket.links == (Link("merged_into", f"ticket/{first}"),)


def test_the_last_minute_comes_later(server: ZendeskServer, account: Account) -> None:
    number = server.ticket("Just now", "text")
    replica = Replica()
    server.now -= 61
    replica.sync(account.connector())
    assert not replica.documents
    replica.sync(account.connector())
    assert set(replica.documents) == {f"ticket/{number}"}


def many_people(server: ZendeskServer) -> dict[str, int]:
    """One of each kind of customer and agent there is."""
    server.custom_roles = {
        31: {"id": 31, "name": "Light", "role_type": 1, "configuration": {"ticket_access": "all"}},
        32: {"id": 32, "name": "Groups", "configuration": {"ticket_access": "within-groups"}},
        33: {"id": 33, "name": "Open", "configuration": {"ticket_access": "within-groups-and-public-groups"}},
        34: {"id": 34, "name": "New kind", "configuration": {"ticket_access": "by-phase-of-the-moon"}},
    }
    server.organization(40, "Shared Ltd", shared_tickets=True)
    server.organization(41, "Private Ltd")
    people = {
        "requester": server.user(10, "R", "end-user", "r@a.example"),
        "colleague": server.user(11, "C", "end-user", "c@a.example"),
        "stranger": server.user(12, "S", "end-user", "s@b.example"),
        "suspended": server.user(13, "X", "agent", "x@example.com", suspended=True),
        "grouped": server.user(14, "G", "agent", "g@example.com", ticket_restriction="groups"),
        "elsewhere": server.user(15, "E", "agent", "e@example.com", ticket_restriction="groups"),
        "assigned": server.user(16, "A", "agent", "a@example.com", ticket_restriction="assigned"),
        "by organization": server.user(17, "O", "agent", "o@example.com", ticket_restriction="organization"),
        "light": server.user(18, "L", "agent", "l@example.com", custom_role_id=31),
        "role": server.user(19, "M", "agent", "m@example.com", custom_role_id=32),
        "public groups": server.user(20, "P", "agent", "p@example.com", custom_role_id=33),
        "unknown role": server.user(21, "U", "agent", "u@example.com", custom_role_id=34),
        "chat": server.user(22, "H", "agent", "h@example.com", chat_only=True),
        "both": server.user(
            23, "B", "agent", "b@example.com", custom_role_id=31, ticket_restriction="assigned"
        ),
        "agent as requester": server.user(24, "Q", "agent", "q@example.com", ticket_restriction="assigned"),
    }
    for person, organization in ((10, 40), (11, 40), (12, 41), (17, 40)):
        server.join(person, organization=organization)
    for person, group in ((14, 5), (15, 6), (19, 5), (13, 5)):
        server.join(person, group=group)
    server.groups[5]["is_public"] = False
    return people


def test_each_person_finds_what_zendesk_shows_them(server: ZendeskServer, account: Account) -> None:
    people = many_people(server)
    number = server.ticket("Shared", "question", requester=10, organization_id=40, group_id=5, assignee_id=16)
    server.comment(number, "note", public=False, files={"note.txt": b"file of the note"})
    own = server.ticket("Of an agent", "agent asks", requester=24, group_id=6)
    server.comment(own, "note about the agent", public=False)
    kept = server.ticket("Never shown", "talk among agents", requester=10, group_id=5, is_public=False)
    for comment in server.comments[kept]:
        comment["public"] = False
    documents = synced(account).documents
    first, agents = {"question"}, {"note", "file of the note"}
    other, other_note, hidden = {"agent asks"}, {"note about the agent"}, {"talk among agents"}
    everything = first | agents | other | other_note | hidden
    expected = {
        "requester": first,
        "colleague": first,
        "stranger": set[str](),
        "suspended": set[str](),
        "grouped": first | agents | hidden,
        "elsewhere": other | other_note,
        "assigned": first | agents,
        "by organization": first | agents,
        "light": everything,
        "role": first | agents | hidden,
        "public groups": other | other_note,
        "unknown role": set[str](),
        "chat": set[str](),
        "both": set[str](),
        "agent as requester": other,
    }
    assert {name: texts(account, documents, person) for name, person in people.items()} == expected
    assert texts(account, documents, 1) == everything
    server.users[16]["role"] = "end-user"
    assert texts(account, documents, 16) == set(), "an agent no longer, whatever is still assigned"


def test_only_verified_addresses(server: ZendeskServer, account: Account) -> None:
    server.user(10, "One", "end-user", "claimed@example.com", verified=False)
    server.identity(10, "proved@example.com", verified=True)
    server.user(11, "Two", "end-user", "both@example.com")
    server.identity(11, "second@example.com", verified=True)
    emails = {member.user: member.email for member in account.connector().memberships()}
    assert emails == {"1": EMAIL, "10": "proved@example.com", "11": "both@example.com"}


def test_articles_are_for_their_segments(server: ZendeskServer, account: Account) -> None:
    common: dict[str, Any] = {
        "user_type": "signed_in_users",
        "tags": [],
        "or_tags": [],
        "organization_ids": [],
    }
    common |= {"group_ids": [], "added_user_ids": []}
    server.segments = {
        3: {"id": 3, **common},
        4: {"id": 4, **common, "user_type": "staff"},
        5: {"id": 5, **common, "tags": ["gold"], "organization_ids": [40]},
        6: {"id": 6, **common, "user_type": "staff", "added_user_ids": [10]},
        7: {"id": 7, **common, "user_type": "a new kind"},
    }
    server.organization(40, "Gold Ltd")
    server.user(10, "Gold", "end-user", "gold@example.com", tags=["gold"])
    server.user(11, "Tagged only", "end-user", "tag@example.com", tags=["gold"])
    server.join(10, organization=40)
    server.article("Open", "open")
    for number in server.segments:
        server.article(f"For {number}", f"for {number}", user_segment_id=number)
    server.article("Two doors", "two doors", user_segment_id=4, user_segment_ids=[4, 5])
    draft = server.article("Draft", "draft", draft=True)
    documents = synced(account).documents
    assert f"article/{draft}" not in documents

    def seen(person: int) -> set[str]:
        return {text.removeprefix("<p>").removesuffix("</p>") for text in texts(account, documents, person)}

    assert seen(99) == {"open"}
    assert seen(11) == {"open", "for 3"}
    assert seen(10) == {"open", "for 3", "for 5", "for 6", "two doors"}
    assert seen(1) == {"open", "for 3", "for 4", "for 6", "two doors"}
    account.settings["public_articles"] = False
    documents = synced(account).documents
    assert seen(99) == set()


def test_a_withdrawn_article_goes(server: ZendeskServer, account: Account) -> None:
    number = server.article("Shown", "shown")
    replica = synced(account)
    server.revise(number, draft=True)
    assert changes(replica.sync(account.connector())) == [Delete(f"article/{number}")]


def test_attachments_come_without_credentials(server: ZendeskServer, account: Account) -> None:
    number = server.ticket("With files", "see there")
    server.comment(number, "here", files={"manual.txt": b"read me"})
    picture = server.attachment("logo.png", b"png", inline=True, content_type="image/png")
    server.comments[number][1]["attachments"].append(picture)
    replica = synced(account)
    (file,) = (d for d in replica.documents.values() if d.parent)
    assert (file.body, file.title, file.parent) == (b"read me", "manual.txt", f"ticket/{number}")
    assert server.cdn.calls
    assert set(account.connector().inventory()) == set(replica.documents)
    server.comments[number][1]["attachments"][0]["deleted"] = True
    server.touch(number)
    replica.sync(account.connector())
    assert set(replica.documents) == {f"ticket/{number}"}


def test_a_redacted_attachment_goes(server: ZendeskServer, account: Account) -> None:
    number = server.ticket("With a file", "see there", status="open")
    server.comment(number, "here", files={"passport.txt": b"secret"})
    replica = synced(account)
    (file,) = server.comments[number][1]["attachments"]
    assert f"attachment/{file['id']}" in replica.documents
    server.comments[number][1]["attachments"] = [server.attachment("redacted.txt", b"redacted")]
    event = {"id": 1, "type": "AttachmentRedactionEvent", "attachment_id": file["id"], "comment_id": 1}
    server.audits[number].append(
        {"id": server.number(), "created_at": server.tick(), "events": [event], "via": {}}
    )
    server.touch(number)
    replica.sync(account.connector())
    assert [d.body for d in replica.documents.values() if d.parent] == [b"redacted"]


def test_only_the_named_brands(server: ZendeskServer, account: Account) -> None:
    number = server.ticket("Ours", "text", brand_id=1)
    server.ticket("Another brand's", "text", brand_id=2)
    account.settings["brands"] = [1]
    assert set(synced(account).documents) == set(account.connector().inventory()) == {f"ticket/{number}"}


@pytest.mark.parametrize(
    ("url", "hosts"),
    [("http://localhost:1/x", ["127.0.0.1"]), ("http://127.0.0.1.evil.example/x", ["127.0.0.1"])],
)
def test_files_elsewhere_are_not_fetched(
    server: ZendeskServer, account: Account, url: str, hosts: list[str]
) -> None:
    account.settings["attachment_hosts"] = hosts
    number = server.ticket("With a file", "see there")
    server.comment(number, "here", files={"a.txt": b"x"})
    server.comments[number][1]["attachments"][0]["content_url"] = url
    (change,) = (
        c for c in changes(list(account.connector().sync(None))) if isinstance(c, Upsert) and c.document.fetch
    )
    assert isinstance(change, Upsert)
    assert change.document.fetch
    with pytest.raises(ItemError, match="none of the hosts"):
        change.document.fetch()


def test_a_file_that_is_gone_or_too_large_is_its_own_failure(server: ZendeskServer, account: Account) -> None:
    number = server.ticket("With files", "see there")
    server.comment(number, "here", files={"gone.txt": b"x", "huge.bin": b"y"})
    gone, huge = server.comments[number][1]["attachments"]
    del server.cdn.files[f"/data/{gone['id']}"]
    huge["size"] = 2**40
    found = changes(list(account.connector().sync(None)))
    assert [c.external_id for c in found if isinstance(c, Failed)] == [f"attachment/{huge['id']}"]
    (file,) = (c.document for c in found if isinstance(c, Upsert) and c.document.fetch)
    assert file.fetch
    with pytest.raises(ItemError, match="HTTP 404"):
        file.fetch()


def test_more_attachments_than_a_batch_holds(server: ZendeskServer, account: Account) -> None:
    number = server.ticket("Many files", "see there")
    server.comment(number, "here", files={f"{n}.txt": b"%d" % n for n in range(70)})
    replica = Replica()
    while replica.sync(account.connector(), batches=1):
        assert len(server.calls) < 500
    assert len(replica.documents) == 71


def test_the_export_is_asked_no_faster_than_allowed(
    server: ZendeskServer, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connectors_zendesk, "LIST_PAGE", 1)
    clock = [1000.0]
    monkeypatch.setattr(connectors_zendesk.time, "monotonic", lambda: clock[0])

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        server.now += int(seconds) + 1

    monkeypatch.setattr(connectors_zendesk.time, "sleep", sleep)
    for number in range(24):
        server.ticket(f"Ticket {number}", "text")
    account.settings |= {"attachments": False, "help_center": False}
    assert len(list(account.connector().inventory())) == 24
    assert clock[0] >= 1120


def test_a_used_up_allowance_says_when_to_come_again(
    server: ZendeskServer, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connectors_http.time, "sleep", lambda _: None)
    connector = account.connector()
    server.exports = [server.now] * 10
    with pytest.raises(SourceBusy) as caught:
        list(connector.sync(None))
    assert caught.value.retry_after == 60


def test_other_accounts_are_refused(server: ZendeskServer, account: Account) -> None:
    assert "0 tickets" in account.connector().check()
    server.users[1]["role"] = "agent"
    for attempt in (account.connector().check, lambda: list(account.connector().sync(None))):
        with pytest.raises(SourceRefused):
            attempt()
    account.settings["api_token"] = "wrong"
    with pytest.raises(SourceRefused, match="401"):
        account.connector().check()
    account.settings["api_token"] = ""
    with pytest.raises(SourceRefused, match="API token"):
        account.connector()
    account.settings |= {"oauth_token": "zd-oauth"}
    server.users[1]["role"] = "admin"
    account.connector().check()


def test_webhooks(account: Account) -> None:
    account.settings["webhook_secret"] = "shh"
    connector = account.connector()

    def headers(stamp: str, body: bytes, secret: bytes = b"shh") -> dict[str, str]:
        digest = hmac.new(secret, stamp.encode() + body, hashlib.sha256).digest()
        return {
            "x-zendesk-webhook-signature": base64.b64encode(digest).decode(),
            "x-zendesk-webhook-signature-timestamp": stamp,
        }

    now, old = stamp(int(time.time())), stamp(int(time.time()) - 301)
    assert connector.hint(headers(now, b"{}"), b"{}")
    assert connector.hint(headers(now, b""), b"")
    assert not connector.hint(headers(now, b"{}"), b"{ }")
    assert not connector.hint(headers(old, b"{}"), b"{}")
    assert not connector.hint(headers(now, b"{}", b"other"), b"{}")
    assert not connector.hint(headers("soon", b"{}"), b"{}")
    assert not connector.hint({}, b"{}")
    account.settings["webhook_secret"] = ""
    assert not account.connector().hint(headers(now, b"{}", b""), b"{}")


def test_another_shape_fails_alone(server: ZendeskServer, account: Account) -> None:
    server.ticket("Odd", CONTENT_WORD, created_at=None)
    number = server.ticket("Even", "text", assignee_id=404)
    replica = synced(account)
    assert set(replica.documents) == {f"ticket/{number}"}
    assert len(replica.failures) == 1
    assert Access.nobody() != replica.documents[f"ticket/{number}"].access


# ── what can't be read ───────────────────────────────────────────────────────


@pytest.mark.parametrize("what", ["comments", "audits"])
def test_a_ticket_that_is_never_told_fails_alone(
    server: ZendeskServer, account: Account, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(connectors_http.time, "sleep", lambda _seconds: None)
    server.ticket("Before", "text")
    number = server.ticket("Broken", "text", status="open")
    server.ticket("After", "text")
    server.refuse[f"/tickets/{number}/{what}.json"] = Reply(503, {"error": "ServiceUnavailable"})
    replica = synced(account)
    assert {d.title for d in replica.documents.values()} == {"Before", "After"}
    assert list(replica.failures) == [f"ticket/{number}"]
    assert "by itself" in replica.failures[f"ticket/{number}"]
    server.refuse.clear()
    replica.read_again(account.connector())
    assert not replica.failures
    assert replica.summary() == synced(account).summary()


def test_where_zendesk_as_a_whole_is_in_trouble_no_ticket_fails(
    server: ZendeskServer, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connectors_http.time, "sleep", lambda _seconds: None)
    number = server.ticket("Broken", "text")
    broken = f"/tickets/{number}/comments.json"
    server.refuse = {broken: Reply(503, {}), "/users/me.json": Reply(503, {})}
    with pytest.raises(SourceBusy) as down:
        synced(account)
    assert down.value.retry_after is None
    server.refuse = {broken: Reply(503, {}), "/users/me.json": Reply(200, b"<html>Sign in")}
    with pytest.raises(SourceBusy, match="no JSON"):
        synced(account)
    server.refuse = {broken: Reply(429, {}, {"Retry-After": "5"})}
    with pytest.raises(SourceBusy) as limited:
        synced(account)
    assert limited.value.retry_after == 5.0


def test_what_is_out_of_scope_is_not_read_again(server: ZendeskServer, account: Account) -> None:
    ours = server.ticket("Ours", "text", brand_id=1)
    other = server.ticket("Another brand's", "text", brand_id=2)
    draft = server.article("Draft", "text", draft=True)
    article = server.article("Article", "text")
    names = [f"ticket/{ours}", f"ticket/{other}", f"article/{draft}", f"article/{article}"]

    def deleted(**settings: Any) -> list[str]:
        account.settings |= settings
        found = list(account.connector().read(names))
        assert all(isinstance(change, Delete | Upsert) for change in found)
        return [change.external_id for change in found if isinstance(change, Delete)]

    assert deleted(brands=[1]) == names[1:3]
    assert deleted(brands=[], help_center=False) == names[2:]
    assert deleted(help_center=True, tickets=False) == names[:3]


def test_who_is_no_administrator_any_more_deletes_nothing(server: ZendeskServer, account: Account) -> None:
    number = server.ticket("Hidden", "text")
    server.users[1]["role"] = "agent"
    server.refuse[f"/tickets/{number}.json"] = Reply(404, {"error": "RecordNotFound"})
    with pytest.raises(SourceRefused, match="Nothing was"):
        list(account.connector().read([f"ticket/{number}"]))
    server.users[1]["role"] = "admin"
    server.refuse[f"/tickets/{number}.json"] = Reply(403, {"error": "Forbidden"})
    (failed,) = account.connector().read([f"ticket/{number}"])
    assert isinstance(failed, Failed)


def test_a_file_that_is_too_large_is_known_by_its_ticket(server: ZendeskServer, account: Account) -> None:
    number = server.ticket("With a file", "text")
    server.comment(number, "see there", files={"large.txt": b"x" * 2**21})
    account.settings["max_file_mb"] = 1
    failed = [c for c in account.connector().read([f"ticket/{number}"]) if isinstance(c, Failed)]
    assert [c.parent for c in failed] == [f"ticket/{number}"]
