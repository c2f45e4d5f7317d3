"""What of a Jira issue is kept, and how the connector copes with how Jira answers."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from assistant.errors import ItemError, SourceBusy, SourceError, SourceRefused
from assistant.model import Audience, Batch, Customer, Failed, Kind, Link, Part, SourceDocument
from connectors import http as connectors_http
from connectors.jira import connector as connector_module
from connectors.jira.connector import JiraConnector
from tests.conformance.connector import Replica, changes
from tests.conformance.test_jira import connect, new_site
from tests.servers.jira import Call, JiraServer
from tests.servers.jira_data import Site, iso

Made = Callable[..., JiraConnector]
SERVICE = "com.atlassian.servicedesk"


@pytest.fixture
def site() -> Site:
    return new_site()


@pytest.fixture
def server(site: Site) -> Iterator[JiraServer]:
    server = JiraServer(site, page_cap=6)
    yield server
    server.close()


@pytest.fixture
def connector(server: JiraServer) -> Iterator[Made]:
    made: list[JiraConnector] = []

    def make(port: int | None = None, **settings: object) -> JiraConnector:
        made.append(connect(server, port, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def project(site: Site) -> int:
    return next(iter(site.projects))


def synced(connector: JiraConnector) -> Replica:
    replica = Replica()
    replica.sync(connector)
    return replica


def parts(document: SourceDocument) -> tuple[Part, ...]:
    assert isinstance(document.body, tuple)
    return document.body


def custom(number: int, name: str, kind: str = "") -> dict[str, Any]:
    schema = {"type": "any", "custom": kind, "customId": number}
    return {"id": f"customfield_{number}", "name": name, "custom": True, "schema": schema}


# ── what is kept ─────────────────────────────────────────────────────────────


def test_a_ticket_is_kept_whole(site: Site, project: int, connector: Made) -> None:
    other = site.create(project, "other", "text")
    parent = site.create(project, "parent", "text")
    issue = site.create(
        project,
        "Printer on fire",
        "It burns",
        reporter="acc-cal",
        assignee="acc-ann",
        priority={"name": "High"},
        resolution={"name": "Fixed"},
        resolutiondate="2026-01-06T11:30:00.000+1300",
        issuetype={"name": "Incident"},
        labels=["fire", "printer"],
        components=[{"name": "Printers"}, {"name": "Paper"}],
        fixVersions=[{"name": "2.1"}],
        parent=parent,
    )
    site.edit(issue, status="In progress")
    site.edit(issue, status="Done")
    site.link(issue, other, "Duplicate", "is duplicated by", "duplicates")
    site.link(other, issue, "Blocks", "is blocked by", "blocks")
    documents = synced(connector()).documents
    ticket = documents[str(issue)].ticket
    assert ticket is not None
    assert documents[str(issue)].title == "SUP-3: Printer on fire"
    assert documents[str(issue)].url == "https://desk.example.net/browse/SUP-3"
    assert (ticket.requester, ticket.requester_email) == ("Cal", "cal@example.com")
    assert (ticket.assignee, ticket.priority, ticket.status) == ("Ann", "High", "Done")
    assert (ticket.product, ticket.version) == ("Printers, Paper", "2.1")
    assert ticket.tags == ("fire", "printer")
    assert ticket.solved_at == dt.datetime(2026, 1, 5, 22, 30, tzinfo=dt.UTC)
    assert [(event.old, event.new) for event in ticket.events] == [
        ("Open", "In progress"),
        ("In progress", "Done"),
    ]
    assert ticket.links == (
        Link("blocked_by", str(other)),
        Link("duplicate", str(other)),
        Link("parent", str(parent)),
    )
    assert documents[str(issue)].metadata["resolution"] == "Fixed"
    assert documents[str(parent)].ticket.links == (Link("child", str(issue)),)


def test_custom_fields_go_by_their_names(site: Site, project: int, connector: Made) -> None:
    site.fields = [
        custom(1, "Severity"),
        custom(2, "Place"),
        custom(3, "Notes"),
        custom(4, "Time to resolution", f"{SERVICE}:sd-sla-field"),
        custom(5, "Request Type", f"{SERVICE}:vp-origin"),
        custom(6, "Twice"),
        custom(7, "Twice"),
        custom(8, "Satisfaction", f"{SERVICE}:sd-request-feedback"),
        custom(9, "Rank", "com.pyxis.greenhopper.jira:gh-lexo-rank"),
        custom(10, "Empty"),
    ]
    issue = site.create(
        project,
        "words",
        customfield_1={"value": "S1", "id": "3"},
        customfield_2={"value": "Earth", "child": {"value": "Here"}},
        customfield_3={"type": "doc", "content": [{"type": "paragraph", "content": [{"type": "emoji"}]}]},
        customfield_4={"ongoingCycle": {"remainingTime": {"millis": 1}}},
        customfield_5={"requestType": {"name": "Report a fire"}, "currentStatus": {"status": "x"}},
        customfield_6=7.5,
        customfield_7=[{"displayName": "Ann"}, {"name": "two"}],
        customfield_8={"rating": 4},
        customfield_9="0|i0001:",
        customfield_10=None,
    )
    ticket = synced(connector()).documents[str(issue)].ticket
    assert ticket is not None
    assert dict(ticket.custom_fields) == {
        "Severity": "S1",
        "Place": "Earth / Here",
        "Request Type": "Report a fire",
        "Twice (customfield_6)": "7.5",
        "Twice (customfield_7)": "Ann, two",
    }
    assert ticket.satisfaction == "4/5"


def test_the_customer(site: Site, project: int, connector: Made) -> None:
    site.fields = [custom(1, "Organizations", f"{SERVICE}:sd-customer-organizations")]
    site.users["acc-cal"]["emailAddress"] = "Cal@Acme.example"
    site.user("jon", kind="customer")
    site.users["acc-jon"]["emailAddress"] = "jon@gmail.com"
    acme = [{"id": "4", "name": "Acme"}, {"id": "5", "name": "Bolt"}]
    first = site.create(project, "words", reporter="acc-cal", customfield_1=acme)
    second = site.create(project, "words", reporter="acc-jon", customfield_1=[])
    found = synced(connector()).documents
    assert found[str(first)].customer == Customer("organisation/4", "Acme")
    assert found[str(first)].ticket.custom_fields == {"Organizations": "Acme, Bolt"}
    assert found[str(second)].customer is None
    found = synced(connector(customer_from="email_domain")).documents
    assert found[str(first)].customer == Customer("acme.example", "acme.example", ("acme.example",))
    assert found[str(second)].customer == Customer("jon@gmail.com", "Jon")


def test_every_comment_with_author_role_and_audience(site: Site, project: int, connector: Made) -> None:
    issue = site.create(project, "words", "text", reporter="acc-cal")
    for number in range(23):
        site.comment(
            issue, "acc-cal" if number % 3 == 0 else "acc-ann", f"no. {number}", public=number % 2 == 0
        )
    found = parts(synced(connector()).documents[str(issue)])
    assert [part.text for part in found] == ["text", *(f"no. {number}" for number in range(23))]
    assert [part.role for part in found[1:4]] == ["customer", "agent", "agent"]
    assert found[1].author == "Cal"
    assert found[1].created_at is not None
    assert [part.audience for part in found[1:3]] == [Audience.PUBLIC, Audience.INTERNAL]


def test_a_comment_that_does_not_say_is_internal_in_a_service_project(
    site: Site, project: int, connector: Made
) -> None:
    issue = site.create(project, "words")
    site.comment(issue, "acc-ann", "who may see me?")
    del site.issues[issue].comments[0]["jsdPublic"]
    assert parts(synced(connector()).documents[str(issue)])[1].audience is Audience.INTERNAL
    site.projects[project]["projectTypeKey"] = "software"
    assert parts(synced(connector()).documents[str(issue)])[1].audience is Audience.PUBLIC
    site.issues[issue].comments[0] |= {
        "jsdPublic": True,
        "properties": [{"key": "sd.public.comment", "value": {"internal": True}}],
    }
    assert parts(synced(connector()).documents[str(issue)])[1].audience is Audience.INTERNAL


def test_attachments_hang_on_their_ticket(site: Site, project: int, connector: Made) -> None:
    issue = site.create(project, "words", reporter="acc-cal")
    public = site.comment(issue, "acc-ann", "public")
    hidden = site.comment(issue, "acc-ann", "hidden", public=False)
    for _ in range(6):  # another page of comments
        site.comment(issue, "acc-ann", "more")
    last = site.comment(issue, "acc-ann", "public as well")
    audiences = {
        site.attach(issue, "acc-cal", "from-customer.txt", b"one"): Audience.PUBLIC,
        site.attach(issue, "acc-ann", "answer.txt", b"two", comment=public): Audience.PUBLIC,
        site.attach(issue, "acc-ann", "note.txt", b"three", comment=hidden): Audience.INTERNAL,
        site.attach(issue, "acc-ann", "loose.txt", b"four"): Audience.INTERNAL,
        site.attach(issue, "acc-ann", "late.txt", b"five", comment=last): Audience.PUBLIC,
    }
    documents = synced(connector()).documents
    for number, audience in audiences.items():
        attachment = documents[f"attachment/{number}"]
        assert attachment.body == site.contents[number]
        assert attachment.parent == str(issue)
        assert attachment.kind is Kind.DOCUMENT
        assert attachment.access == documents[str(issue)].access
        assert attachment.audience is audience, attachment.title
    assert set(connector().inventory()) == set(documents)
    assert set(connector(attachments=False).inventory()) == {str(issue)}
    internal = synced(connector(service_management=False)).documents
    assert internal[f"attachment/{min(audiences)}"].audience is Audience.PUBLIC
    assert sum(d.audience is Audience.INTERNAL for d in internal.values()) == 4, "unasked is not public"


def test_a_large_or_missing_attachment(site: Site, project: int, connector: Made) -> None:
    issue = site.create(project, "words")
    large = site.attach(issue, "acc-ann", "large.txt", b"x" * (2**20 + 1))
    gone = site.attach(issue, "acc-ann", "gone.txt", b"here")
    found = changes(list(connector(max_attachment_mb=1).sync(None)))
    assert [c.external_id for c in found if isinstance(c, Failed)] == [f"attachment/{large}"]
    assert f"attachment/{large}" not in set(connector(max_attachment_mb=1).inventory())
    document = next(c.document for c in found if getattr(c, "document", None) and c.document.parent)
    assert document.external_id == f"attachment/{gone}"
    site.delete(issue)
    with pytest.raises(ItemError, match="gone"):
        document.fetch()


def test_an_issue_of_many_attachments(site: Site, project: int, connector: Made) -> None:
    issue = site.create(project, "words")
    for number in range(70):
        site.attach(issue, "acc-ann", f"{number}.txt", b"x")
    batches = list(connector().sync(None))
    assert [len(batch.changes) for batch in batches] == [32, 32, 7]
    replica = Replica()
    replica.sync(connector(), batches=1)
    replica.sync(connector())
    assert len(replica.documents) == 71
    assert changes(replica.sync(connector())) == []


# ── changes ──────────────────────────────────────────────────────────────────


def revision(replica: Replica, name: int) -> str:
    return replica.documents[str(name)].revision


def test_the_revision_moves_with_whatever_is_kept(site: Site, project: int, connector: Made) -> None:
    issue, other = site.create(project, "words", "text"), site.create(project, "other")
    comment = site.comment(issue, "acc-ann", "a comment")
    replica = synced(connector())

    def level() -> None:
        site.issues[issue].comments[0]["visibility"] = {"type": "role", "value": "Agents"}
        site.edit(issue)

    for change in (
        lambda: site.edit(issue, summary="new words"),
        lambda: site.edit(issue, status="Done"),
        lambda: site.edit(issue, assignee="acc-ben"),
        lambda: site.edit(issue, labels=["new"]),
        lambda: site.comment(issue, "acc-ann", "another"),
        lambda: site.link(issue, other, "Relates", "relates to", "relates to"),
        level,
    ):
        before = revision(replica, issue)
        change()
        replica.sync(connector())
        assert revision(replica, issue) != before
    before = revision(replica, issue)
    site.edit(issue)  # touched, as by a field that is not kept
    replica.sync(connector())
    assert revision(replica, issue) == before
    assert comment


def test_a_moved_issue_stays_the_same_document(site: Site, project: int, connector: Made) -> None:
    other = site.project("NEW", *[g["holder"] for g in site.grants[project]])
    site.actors[other, next(iter(site.roles))] = site.actors[project, next(iter(site.roles))]
    issue = site.create(project, "words")
    replica = Replica()
    replica.sync(connector(projects="SUP, NEW"))
    before = replica.documents[str(issue)]
    site.move(issue, other)
    replica.sync(connector(projects="SUP, NEW"))
    assert replica.documents[str(issue)].title.startswith("NEW-")
    assert before.access != replica.documents[str(issue)].access
    assert len(replica.documents) == 1


def test_what_the_search_learns_late_is_not_lost(
    site: Site, server: JiraServer, project: int, connector: Made
) -> None:
    """Search lags behind the data by minutes, for some issues and not for others."""
    late, new = site.create(project, "late", "before"), None
    row = server.row(site.issues[late])
    replica = synced(connector())
    site.edit(late, summary="late edit")
    new = site.create(project, "new")
    site.indexed = {late: row, new: None}
    for number in range(200):  # 23 minutes of other people's work
        site.create(project, f"other {number}")
        if number % 50 == 0:
            replica.sync(connector())
    replica.sync(connector())
    assert str(new) not in replica.documents
    site.indexed = {}
    replica.sync(connector())
    assert "late edit" in replica.documents[str(late)].title
    assert str(new) in replica.documents
    assert changes(replica.sync(connector())) == []


def test_an_attachment_the_search_does_not_know_of_is_not_taken_for_deleted(
    site: Site, server: JiraServer, project: int, connector: Made
) -> None:
    issue = site.create(project, "words")
    site.indexed[issue] = server.row(site.issues[issue])
    name = site.attach(issue, "acc-ann", "new.txt", b"new")
    replica = synced(connector())
    assert f"attachment/{name}" in replica.documents
    assert set(connector().inventory()) == set(replica.documents)


@pytest.mark.parametrize("offset", [True, False])
def test_deletions_while_ids_are_listed_hide_nothing(
    site: Site, server: JiraServer, project: int, connector: Made, offset: bool
) -> None:
    issues = [site.create(project, f"issue {number}") for number in range(30)]
    server.offset, server.id_cap = offset, 10
    doomed = iter(issues[:3])

    def delete_one(call: Call) -> None:
        if call.path.endswith("/search/jql") and (name := next(doomed, None)):
            site.delete(name)

    server.before_answer = delete_one
    listed = set(connector().inventory())
    assert {str(name) for name in site.issues} <= listed
    assert len(site.issues) == 27


def test_edits_while_a_minute_is_paged_through_hide_nothing(
    site: Site, server: JiraServer, project: int, connector: Made
) -> None:
    site.step = dt.timedelta(0)
    issues = [site.create(project, f"issue {number}") for number in range(30)]
    site.step = dt.timedelta(minutes=3)
    server.field_cap = 10
    edited = iter(issues[:6])

    def edit_one(call: Call) -> None:
        if call.path.endswith("/search/jql") and (name := next(edited, None)):
            site.edit(name)

    server.before_answer = edit_one
    assert set(synced(connector()).documents) == {str(name) for name in issues}


def test_an_issue_deleted_between_search_and_reading_is_no_failure(
    site: Site, server: JiraServer, project: int, connector: Made
) -> None:
    first, second = site.create(project, "first"), site.create(project, "second")

    def delete(call: Call) -> None:
        if call.path.endswith("/search/jql") and first in site.issues:
            site.delete(first)

    server.before_answer = delete
    replica = synced(connector())
    assert set(replica.documents) == {str(second)}
    assert replica.failures == {}


def test_one_malformed_issue_does_not_stop_the_rest(site: Site, project: int, connector: Made) -> None:
    bad, good = site.create(project, "bad", "a secret"), site.create(project, "good")
    site.issues[bad].comments.append({"id": "x", "author": "acc-ann", "created": "a secret"})
    replica = synced(connector())
    assert set(replica.documents) == {str(good)}
    assert set(replica.failures) == {str(bad)}
    assert "secret" not in replica.failures[str(bad)]


def test_changes_of_status_come_in_pages_too(
    site: Site, server: JiraServer, project: int, connector: Made
) -> None:
    issues = [site.create(project, f"issue {number}") for number in range(3)]
    for number in range(5):
        for issue in issues:
            site.edit(issue, status=f"S{number}")
    # As the vendor's own example has it: a number.
    site.issues[issues[0]].changes[0]["created"] = 1_767_600_000_000
    documents = synced(connector()).documents
    for issue in issues:
        ticket = documents[str(issue)].ticket
        assert ticket is not None
        assert sorted(event.new for event in ticket.events) == ["S0", "S1", "S2", "S3", "S4"]
    assert sum(call.path.endswith("changelog/bulkfetch") for call in server.calls) == 3


def test_other_settings_read_all_anew(site: Site, project: int, connector: Made) -> None:
    site.create(project, "words", issuetype="Incident")
    site.create(project, "words", issuetype="Task")
    replica = synced(connector(jql="issuetype = Incident"))
    assert len(replica.documents) == 1
    replica.sync(connector())
    assert len(replica.documents) == 2


def test_a_time_zone_moves_nothing(site: Site, project: int, connector: Made) -> None:
    for zone in ("Pacific/Auckland", "America/Los_Angeles", "Asia/Kathmandu"):
        site.users["acc-bot"]["timeZone"] = zone
        replica = synced(connector())
        name = site.create(project, zone)
        replica.sync(connector())
        assert str(name) in replica.documents


# ── refusals ─────────────────────────────────────────────────────────────────


def test_a_project_the_account_lost_deletes_nothing(site: Site, project: int, connector: Made) -> None:
    other = site.project("HELP", {"type": "user", "parameter": "acc-bot", "value": "acc-bot"})
    site.create(project, "words")
    site.create(other, "words")
    replica = synced(connector(projects="SUP,HELP"))
    site.grants[other] = []
    for attempt in (
        lambda: list(connector(projects="SUP,HELP").inventory()),
        lambda: list(connector(projects="SUP,HELP").sync(replica.checkpoint)),
    ):
        with pytest.raises(SourceRefused, match=r"HELP.*Nothing was deleted"):
            attempt()


def test_a_right_lost_while_ids_are_listed(
    site: Site, server: JiraServer, project: int, connector: Made
) -> None:
    other = site.project("HELP", {"type": "user", "parameter": "acc-bot", "value": "acc-bot"})
    site.create(project, "words")
    site.create(other, "words")

    def lose(call: Call) -> None:
        if call.path.endswith("/project/search"):
            site.grants[other] = []

    server.before_answer = lose
    with pytest.raises(SourceError, match="othing was"):
        list(connector(projects="SUP,HELP").inventory())


def test_an_issue_that_can_not_be_loaded_stops_an_inventory_of_attachments(
    site: Site, project: int, connector: Made
) -> None:
    issue = site.create(project, "words")
    site.attach(issue, "acc-ann", "a.txt", b"x")
    site.broken.add(issue)
    with pytest.raises(SourceBusy, match="Nothing was deleted"):
        list(connector().inventory())


def test_a_wrong_filter_is_a_setting_to_correct(connector: Made) -> None:
    with pytest.raises(SourceRefused, match="settings"):
        list(connector(jql="nonsense ~~ 1").sync(None))
    with pytest.raises(ValidationError, match="ORDER BY"):
        connector(jql="issuetype = Bug ORDER BY created")
    with pytest.raises(ValidationError, match="projects"):
        connector(projects="")


def test_a_filter_stays_within_the_projects(site: Site, project: int, connector: Made) -> None:
    other = site.project("HELP", {"type": "user", "parameter": "acc-bot", "value": "acc-bot"})
    hidden = site.create(other, "words", issuetype="Task")
    site.create(project, "words", issuetype="Task")
    found = synced(connector(jql="issuetype = Task OR issuetype = Incident")).documents
    assert str(hidden) not in found
    assert len(found) == 1


def test_a_server_that_is_not_there(connector: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connectors_http.time, "sleep", lambda _seconds: None)
    with pytest.raises(SourceBusy, match="Nothing was lost"):
        list(connector(port=9).sync(None))


def test_a_limit_is_waited_for(
    site: Site, server: JiraServer, project: int, connector: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.create(project, "words")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        server.refuse.clear()

    monkeypatch.setattr(connectors_http.time, "sleep", sleep)
    server.refuse["/search/jql"] = 429
    assert len(synced(connector()).documents) == 1
    assert slept == [1.0], "what Retry-After says"


def test_what_was_read_before_it_breaks_off_is_kept(
    site: Site, server: JiraServer, project: int, connector: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        site.create(project, f"issue {number}")
    monkeypatch.setattr(connectors_http.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(connector_module, "BATCH_SIZE", 30)

    def fail(call: Call) -> None:
        server.refuse["/bulkfetch"] = 503

    server.before_answer = lambda call: fail(call) if "changelog" in call.path else None
    batches: list[Batch] = []
    with pytest.raises(SourceBusy):
        batches += list(_collect(connector().sync(None), batches))
    assert sum(len(batch.changes) for batch in batches) == 30


def _collect(run: Iterator[Batch], into: list[Batch]) -> Iterator[Batch]:
    for batch in run:
        into.append(batch)
        yield from ()


def test_a_webhook_is_known_by_its_signature(connector: Made) -> None:
    body = b'{"webhookEvent": "jira:issue_updated"}'
    signature = "sha256=" + hmac.new(b"a secret", body, hashlib.sha256).hexdigest()
    signed = connector(webhook_secret="a secret")
    assert signed.hint({"x-hub-signature": signature}, body)
    assert not signed.hint({"x-hub-signature": signature}, body + b" ")
    assert not signed.hint({"x-hub-signature": "sha256=ä"}, body)
    assert not signed.hint({}, body)
    unset = "sha256=" + hmac.new(b"", body, hashlib.sha256).hexdigest()
    assert not connector().hint({"x-hub-signature": unset}, body)


def test_the_checkpoint_stays_small(site: Site, project: int, connector: Made) -> None:
    site.step = dt.timedelta(minutes=1)
    for number in range(200):
        site.create(project, f"issue {number}")
    checkpoint = synced(connector()).checkpoint
    assert checkpoint is not None
    assert len(checkpoint["seen"]) <= 32
    assert iso(site.now)
