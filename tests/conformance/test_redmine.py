from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import hmac
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.errors import ItemError, SourceBusy, SourceRefused
from assistant.model import Audience, Customer, Link, Member, Part
from connectors import http as connectors_http
from connectors.base import BATCH_SIZE
from connectors.network import Network
from connectors.redmine import connector as connectors_redmine
from connectors.redmine import rights as connectors_rights
from connectors.redmine.connector import RedmineConnector, RedmineSettings
from tests.conformance.connector import CONTENT_WORD, ConnectorConformance, Replica, WritableSource, changes
from tests.servers.faults import HttpFaults, TcpFaults
from tests.servers.redmine import Redmine, redmine
from tests.servers.redmine_life import Company

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]
ROUNDS = 5
NON_MEMBER, MANAGER, DEVELOPER, REPORTER = 1, 3, 4, 5


class Source(WritableSource):
    """One private project, with one customer in it."""

    def __init__(self, server: Redmine, **settings: Any) -> None:
        self.server = server
        self.port = server.port
        self.settings = {"api_key": server.key, "link_url": server.url, **settings}
        self.gone = False
        self.made: list[RedmineConnector] = []
        self.project = int(server.call("GET", "/projects/support.json")["project"]["id"])
        ((self.customer,),) = server.sql("select cast(id as text) from users where login = 'customer'")
        rows = server.call("GET", "/issues.json?status_id=*&limit=100")["issues"]
        self.ids = {str(row["subject"]): int(row["id"]) for row in rows}

    def connector(self, port: int | None = None) -> RedmineConnector:
        if self.gone:
            with socket.create_server(("127.0.0.1", 0)) as closed:
                port = int(closed.getsockname()[1])
        url = f"http://127.0.0.1:{port or self.port}"
        settings = RedmineSettings.model_validate({"url": url, **self.settings})
        self.made.append(RedmineConnector(settings, Network(("127.0.0.1",))))
        return self.made[-1]

    def close(self) -> None:
        for connector in self.made:
            connector.close()

    def put(self, name: str, text: str) -> str:
        if name in self.ids:
            self.server.call("PUT", f"/issues/{self.ids[name]}.json", {"issue": {"description": text}})
        else:
            self.ids[name] = self.issue(subject=name, description=text)
        return f"ticket/{self.ids[name]}"

    def issue(self, *, user: str = "", **fields: Any) -> int:
        issue = {"project_id": self.project, "tracker_id": 3, "subject": "Printer", **fields}
        return int(self.server.call("POST", "/issues.json", {"issue": issue}, user=user)["issue"]["id"])

    def note(self, issue: int, text: str, *, user: str = "", **fields: Any) -> None:
        self.server.call("PUT", f"/issues/{issue}.json", {"issue": {"notes": text, **fields}}, user=user)

    def upload(self, name: str, content: bytes, media_type: str = "text/plain") -> dict[str, str]:
        answer = self.server.client.post(
            f"/uploads.json?filename={name}",
            content=content,
            headers={"Content-Type": "application/octet-stream"},
        )
        token = answer.raise_for_status().json()["upload"]["token"]
        return {"token": token, "filename": name, "content_type": media_type}

    def remove(self, name: str) -> None:
        self.server.call("DELETE", f"/issues/{self.ids.pop(name)}.json")

    def spoil(self) -> None:
        self.settings["max_attachment_mb"] = 1
        large = self.upload("large.txt", CONTENT_WORD.encode() * 200_000)
        self.server.call("PUT", f"/issues/{self.ids['item-000']}.json", {"issue": {"uploads": [large]}})

    def withdraw(self, name: str) -> None:
        pytest.skip(
            "an issue always has a project, a tracker and a flag; a role that can't be read is tested"
        )

    def vanish(self) -> None:
        self.gone = True

    def restrict(self, name: str) -> str:
        user = self.member("customer").user
        (row,) = (
            row
            for row in self.server.call("GET", "/projects/support/memberships.json")["memberships"]
            if str(row.get("user", {}).get("id")) == user
        )
        self.server.call("DELETE", f"/memberships/{row['id']}.json")
        return f"user:{user}"

    def lost(self, replica: Replica, document: str, token: str) -> bool:
        member = self.member("customer")
        assert token == f"user:{member.user}"
        return not reads(member, replica.documents[document].access.tokens)

    def member(self, login: str) -> Member:
        ((user,),) = self.server.sql("select id from users where login = ?", login)
        members = self.members()
        return members[str(user)]

    def members(self, **settings: Any) -> dict[str, Member]:
        self.settings |= settings
        connector = self.connector()
        found = {member.user: member for member in connector.memberships()}
        connector.close()
        return found


def reads(member: Member, tokens: frozenset[str]) -> bool:
    own = {"everyone", f"user:{member.user}"} | {f"group:{group}" for group in member.groups}
    return bool(own & tokens)


@pytest.fixture(scope="session")
def places() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="deskhand-redmine-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def server(places: Path) -> Iterator[Redmine]:
    with redmine(places) as running:
        project = {"name": "Support", "identifier": "support", "is_public": False}
        running.call("POST", "/projects.json", {"project": project})
        person(running, "customer")
        join(running, "support", "customer", REPORTER)
        running.save(places / "empty.sqlite3")
        yield running


def person(server: Redmine, login: str) -> int:
    user = {
        "login": login,
        "firstname": login.title(),
        "lastname": "Example",
        "mail": f"{login}@{login}.example",
        "password": "a-long-password",
    }
    return int(server.call("POST", "/users.json", {"user": user})["user"]["id"])


def join(server: Redmine, project: str, login: str, *roles: int) -> int:
    ((principal,),) = server.sql("select id from users where login = ? or lastname = ?", login, login)
    membership = {"user_id": principal, "role_ids": list(roles)}
    answer = server.call("POST", f"/projects/{project}/memberships.json", {"membership": membership})
    return int(answer["membership"]["id"])


@pytest.fixture
def source(server: Redmine, places: Path) -> Iterator[Source]:
    server.restore(places / "empty.sqlite3")
    with contextlib.closing(Source(server)) as made:
        yield made


class TestRedmine(ConnectorConformance):
    @pytest.fixture
    def source(self, source: Source) -> WritableSource:
        return source

    @pytest.fixture
    def filled(self, server: Redmine, places: Path) -> Iterator[WritableSource]:
        """Filled once, and copied from then on."""
        copy = places / "filled.sqlite3"
        server.restore(copy if copy.exists() else places / "empty.sqlite3")
        with contextlib.closing(Source(server)) as source:
            if not copy.exists():
                for number in range(2 * BATCH_SIZE + 9):
                    source.put(f"item-{number:03}", f"{CONTENT_WORD} number {number}")
                server.save(copy)
            yield source

    @contextlib.contextmanager
    def behind(
        self, source: WritableSource, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[HttpFaults | TcpFaults]:
        """Each issue is a request, and hundreds of them stall: wait less for them."""
        with super().behind(source, monkeypatch) as proxy:
            monkeypatch.setattr(connectors_http, "TIMEOUT", 0.7)
            yield proxy


def test_nobody_is_shown_what_redmine_refuses(source: Source, capsys: pytest.CaptureFixture[str]) -> None:
    """All pairs of people and issues, some of wikis and private notes, while rights change at random."""
    company = Company(source.server, seed=7, people=20, groups=4, projects=7, issues=200)
    source.server.call("PUT", "/projects/support/archive.json")
    replica = Replica()
    leaks: list[str] = []
    pairs = shown = withheld = 0
    for round in range(ROUNDS):
        done = [company.change() for _ in range(12 if round else 0)]
        replica.sync(source.connector())
        members = source.members()
        for user, login in company.active().items():
            member = members[str(user)]
            for what, theirs, ours in verdicts(company, replica, member, login):
                pairs, shown = pairs + 1, shown + theirs
                withheld += theirs and not ours
                if ours and not theirs:
                    leaks.append(f"round {round} ({', '.join(done)}): {login} {what}")
        assert not set(members) - {str(user) for user in company.active()} - {"1", source.customer}
    with capsys.disabled():
        print(f"\nRedmine: {pairs:,} pairs, {shown:,} shown by it, {withheld:,} of them withheld")
    assert not leaks, f"{len(leaks)}: {leaks[:10]}"
    assert withheld <= shown / 100


def verdicts(
    company: Company, replica: Replica, member: Member, login: str
) -> Iterator[tuple[str, bool, bool]]:
    """What, whether Redmine shows it to that person, and whether we do."""
    documents = replica.documents
    theirs = company.issues_shown(login)
    for issue in company.issues:
        document = documents.get(f"ticket/{issue}")
        ours = bool(document) and reads(member, document.access.tokens)
        shown = issue in theirs or (ours and company.issue_shown(login, issue))
        yield f"issue {issue}", shown, ours
    for issue in company.random.sample(company.issues, 3):
        document = documents.get(f"ticket/{issue}")
        ours = False
        if document and reads(member, document.access.tokens):
            notes = [part for part in document.body if isinstance(part, Part) and part.access]
            ours = any(reads(member, part.access.tokens) for part in notes if part.access)
        yield f"note of {issue}", company.note_shown(login, issue), ours
    project = company.random.choice(company.projects)
    page = documents.get(f"wiki/{project}/Page0")
    ours = bool(page) and reads(member, page.access.tokens)
    yield f"wiki of {project}", company.wiki_shown(login, project), ours


@pytest.fixture
def agent(source: Source) -> str:
    person(source.server, "agent")
    join(source.server, "support", "agent", MANAGER)
    return "agent"


def synced(source: Source, replica: Replica | None = None) -> Replica:
    replica = replica or Replica()
    replica.sync(source.connector())
    return replica


def texts(replica: Replica, issue: int) -> list[str]:
    body = replica.documents[f"ticket/{issue}"].body
    assert isinstance(body, tuple)
    return [part.text for part in body]


def test_all_of_an_issue_is_kept(source: Source, agent: str) -> None:
    call = source.server.call
    version = call("POST", "/projects/support/versions.json", {"version": {"name": "4.2"}})["version"]["id"]
    category = {"issue_category": {"name": "Hardware"}}
    category_id = call("POST", "/projects/support/issue_categories.json", category)["issue_category"]["id"]
    parent = source.issue(subject="All printers")
    issue = source.issue(user="customer", description="It *smokes*.", parent_issue_id=parent)
    call("PUT", f"/issues/{issue}.json", {"issue": {"parent_issue_id": parent, "category_id": category_id}})
    relation = {"relation": {"issue_to_id": parent, "relation_type": "duplicates"}}
    call("POST", f"/issues/{source.issue()}/relations.json", relation)
    source.note(issue, "Is it on fire?", user=agent, status_id=2, fixed_version_id=version, priority_id=4)
    source.note(issue, "Yes.", user="customer")
    source.note(issue, "He is clumsy.", user=agent, private_notes=True)
    source.note(issue, "Pour water on it.", user=agent, status_id=5, assigned_to_id=user_id(source, agent))
    document = synced(source).documents[f"ticket/{issue}"]
    ticket = document.ticket
    assert ticket
    assert isinstance(document.body, tuple)
    assert [(p.text, p.role, p.audience, p.is_solution) for p in document.body] == [
        ("It *smokes*.", "customer", Audience.PUBLIC, False),
        ("Is it on fire?", "agent", Audience.PUBLIC, False),
        ("Yes.", "customer", Audience.PUBLIC, False),
        ("He is clumsy.", "agent", Audience.INTERNAL, False),
        ("Pour water on it.", "agent", Audience.PUBLIC, True),
    ]
    assert [(event.old, event.new) for event in ticket.events] == [
        ("New", "In Progress"),
        ("In Progress", "Closed"),
    ]
    assert (ticket.status, ticket.priority, ticket.version) == ("Closed", "Urgent", "4.2")
    assert (ticket.requester, ticket.requester_email) == ("Customer Example", "customer@customer.example")
    assert (ticket.assignee, ticket.product, ticket.tags) == (
        "Agent Example",
        "Support",
        ("Support", "Hardware"),
    )
    assert ticket.links == (Link("parent", f"ticket/{parent}"),)
    assert ticket.solved_at
    # Redmine writes the two in turn, so a second may end between them.
    assert abs(ticket.solved_at - ticket.events[-1].at) <= dt.timedelta(seconds=2)
    assert document.customer == Customer(str(source.project), "Support")
    assert document.url.endswith(f"/issues/{issue}")


def user_id(source: Source, login: str) -> int:
    return int(source.server.sql("select id from users where login = ?", login)[0][0])


def test_private_notes_are_for_those_who_may_see_them(source: Source, agent: str) -> None:
    issue = source.issue(user="customer")
    source.note(issue, "Between us.", user=agent, private_notes=True)
    document = synced(source).documents[f"ticket/{issue}"]
    note = document.body[-1]
    assert isinstance(note, Part)
    assert note.access
    assert reads(source.member(agent), note.access.tokens)
    assert reads(source.member("customer"), document.access.tokens)
    assert not reads(source.member("customer"), note.access.tokens)


def test_custom_fields_of_some_roles_are_for_these(source: Source, agent: str) -> None:
    sql = source.server.sql
    for number, (name, visible) in enumerate((("Model", 1), ("Margin", 0)), start=1):
        sql(
            "insert into custom_fields (id, type, name, field_format, is_for_all, visible, position) "
            "values (?, 'IssueCustomField', ?, 'string', 1, ?, ?)", number, name, visible, number,
        )  # fmt: skip
        sql("insert into custom_fields_trackers (custom_field_id, tracker_id) values (?, 3)", number)
    sql("insert into custom_fields_roles (custom_field_id, role_id) values (2, ?)", MANAGER)
    fields = [{"id": 1, "value": "LX-80"}, {"id": 2, "value": "40 percent"}]
    issue = source.issue(custom_fields=fields)
    replica = synced(source)
    document = replica.documents[f"ticket/{issue}"]
    assert document.ticket
    assert document.ticket.custom_fields == {"Model": "LX-80"}
    part = document.body[-1]
    assert isinstance(part, Part)
    assert (part.text, part.audience) == ("Margin: 40 percent", Audience.INTERNAL)
    assert part.access
    assert reads(source.member(agent), part.access.tokens)
    assert not reads(source.member("customer"), part.access.tokens)
    sql("update custom_fields set visible = 0 where id = 1")
    sql("insert into custom_fields_roles (custom_field_id, role_id) values (1, ?)", MANAGER)
    synced(source, replica)
    assert replica.documents[f"ticket/{issue}"].ticket.custom_fields == {}
    source.settings["customer_from"] = "field:Model"
    synced(source, replica)
    assert replica.documents[f"ticket/{issue}"].customer == Customer("LX-80", "LX-80")
    source.settings["customer_from"] = "email_domain"
    synced(source, replica)
    assert replica.documents[f"ticket/{issue}"].customer == Customer(
        "example.net", "example.net", ("example.net",)
    )


def test_silent_changes_of_a_recent_issue_are_looked_for(
    source: Source, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue, other = source.issue(), source.issue()
    source.note(issue, "The password is 1234.", user=agent)
    replica = synced(source)
    journal = source.server.sql("select id from journals")[0][0]
    backdate(source, replica)
    source.server.call("PUT", f"/journals/{journal}.json", {"journal": {"private_notes": True}}, user=agent)
    relation = {"relation": {"issue_to_id": issue, "relation_type": "blocks"}}
    source.server.call("POST", f"/issues/{other}/relations.json", relation)
    assert changes(replica.sync(source.connector())) == []
    monkeypatch.setattr(connectors_redmine, "RECHECK", 0)
    synced(source, replica)
    assert replica.documents[f"ticket/{issue}"].body[-1].audience is Audience.INTERNAL
    assert replica.documents[f"ticket/{issue}"].ticket.links == (Link("blocked_by", f"ticket/{other}"),)
    source.server.call("PUT", f"/journals/{journal}.json", {"journal": {"notes": ""}}, user=agent)
    synced(source, replica)
    assert "The password is 1234." not in texts(replica, issue)
    assert changes(replica.sync(source.connector())) == []


def backdate(source: Source, replica: Replica) -> None:
    """As if all had happened a minute earlier, so that nothing is read again just for being new."""
    source.server.sql(
        "update issues set updated_on = datetime(updated_on, '-60 seconds'), "
        "created_on = datetime(created_on, '-60 seconds')"
    )
    synced(source, replica)


def test_old_issues_are_read_anew_after_a_while(source: Source, agent: str) -> None:
    issue = source.issue()
    source.note(issue, "As it was.", user=agent)
    source.server.sql("update issues set created_on = '2020-01-01', updated_on = '2020-01-01'")
    replica = synced(source)
    source.server.sql("update journals set notes = 'As it is.' where notes <> ''")
    assert changes(replica.sync(source.connector())) == []
    assert replica.checkpoint
    replica.checkpoint["full"] -= 25 * 3600
    synced(source, replica)
    assert texts(replica, issue)[-1] == "As it is."


def test_attachments(source: Source, agent: str) -> None:
    log = source.upload("error log.txt", b"Paper jam")
    issue = source.issue(uploads=[log])
    source.note(
        issue, "Look.", user=agent, private_notes=True, uploads=[source.upload("bill.txt", b"99 euro")]
    )
    replica = synced(source)
    public, internal = (doc for name, doc in replica.documents.items() if name.startswith("attachment/"))
    assert (public.title, public.body, public.audience) == ("error log.txt", b"Paper jam", Audience.PUBLIC)
    assert (internal.title, internal.audience) == ("bill.txt", Audience.INTERNAL)
    assert {public.parent, internal.parent} == {f"ticket/{issue}"}
    assert public.access == replica.documents[f"ticket/{issue}"].access
    assert set(source.connector().inventory()) == set(replica.documents)
    source.server.call("DELETE", f"/{public.external_id.replace('/', 's/')}.json")
    synced(source, replica)
    assert public.external_id not in replica.documents
    assert internal.external_id in replica.documents
    for file in source.server.app.rglob("*bill.txt"):
        file.unlink()
    with pytest.raises(ItemError, match="put the file back"):
        Replica().sync(source.connector())


def test_wiki_pages(source: Source, agent: str) -> None:
    def write(title: str, text: str) -> None:
        source.server.call("PUT", f"/projects/support/wiki/{title}.json", {"wiki_page": {"text": text}})

    source.issue()
    write("Über_uns", "h1. Wir")
    write("Old", "old")
    replica = synced(source)
    names = {f"wiki/{source.project}/Über_uns", f"wiki/{source.project}/Old"}
    assert {name for name in replica.documents if name.startswith("wiki/")} == names
    page = replica.documents[f"wiki/{source.project}/Über_uns"]
    assert page.title == "Über uns"
    assert page.url.endswith("/projects/support/wiki/%C3%9Cber_uns")
    assert reads(source.member("customer"), page.access.tokens)
    assert changes(replica.sync(source.connector())) == []
    write("Über_uns", "h1. Wir alle")
    assert len(changes(replica.sync(source.connector()))) == 1
    source.server.call("DELETE", "/projects/support/wiki/Old.json")
    replica.prune(source.connector())
    assert f"wiki/{source.project}/Old" not in replica.documents
    source.server.sql("update roles set permissions = ? where id = ?", "---\n- :view_issues\n", REPORTER)
    assert not reads(source.member("customer"), page.access.tokens)


def test_an_issue_that_leaves_the_chosen_projects_goes_at_once(source: Source) -> None:
    hidden = {"name": "Hidden", "identifier": "hidden", "is_public": False, "tracker_ids": [1, 2, 3]}
    source.server.call("POST", "/projects.json", {"project": hidden})
    source.settings["projects"] = "support"
    issue = source.issue()
    stays = source.issue()
    replica = synced(source)
    source.server.call("PUT", f"/issues/{issue}.json", {"issue": {"project_id": "hidden"}})
    synced(source, replica)
    assert set(replica.documents) == {f"ticket/{stays}"}
    source.settings["projects"] = "nowhere"
    with pytest.raises(SourceRefused, match="nowhere"):
        source.connector().check()
    source.settings["projects"] = "support, nowhere"
    assert "there is no nowhere" in source.connector().check()
    with pytest.raises(SourceBusy, match="Nothing was deleted"):
        list(source.connector().inventory())


def test_a_project_that_comes_back_is_read_again(source: Source) -> None:
    """Meanwhile its documents may have been deleted here, and nothing in it needs to have changed."""
    old, recent = source.issue(), source.issue()
    source.server.sql(
        "update issues set created_on = '2020-01-01', updated_on = '2020-01-01' where id = ?", old
    )
    source.server.call("PUT", "/projects/support/wiki/Page.json", {"wiki_page": {"text": "x"}})
    source.server.call("POST", "/projects.json", {"project": {"name": "Empty", "identifier": "empty"}})
    replica = synced(source)
    names = {f"ticket/{old}", f"ticket/{recent}", f"wiki/{source.project}/Page"}
    assert set(replica.documents) == names
    source.server.call("PUT", "/projects/support/archive.json")
    synced(source, replica)
    replica.documents.clear()
    source.server.call("PUT", "/projects/support/unarchive.json")
    synced(source, replica)
    assert set(replica.documents) == names
    assert changes(replica.sync(source.connector())) == []


def test_more_than_a_page_of_one_second_is_read(source: Source) -> None:
    source.issue()
    replica = synced(source)
    second = (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=20)).strftime("%Y-%m-%d %H:%M:%S")
    for number in range(130):
        source.server.sql(
            "insert into issues (tracker_id, project_id, subject, author_id, status_id, priority_id, root_id, "
            "lft, rgt, created_on, updated_on) values (3, ?, ?, 1, 1, 2, 0, 1, 2, ?, ?)",
            source.project, f"bulk {number}", second, f"{second}.{999 - number:03}",
        )  # fmt: skip
    source.server.sql("update issues set root_id = id")
    synced(source, replica)
    assert len(replica.documents) == 131


def test_an_issue_redmine_fails_to_show_is_a_failure(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connectors_http.time, "sleep", lambda seconds: None)
    good, bad = source.issue(), source.issue()
    note = "insert into journals (journalized_id, journalized_type, user_id, notes, created_on) "
    source.server.sql(note + "values (?, 'Issue', 1, cast(x'fffe' as text), '2024-01-01')", bad)
    replica = synced(source)
    assert set(replica.documents) == {f"ticket/{good}"}
    assert "production.log" in replica.failures[f"ticket/{bad}"]
    source.server.sql("delete from journals")
    synced(source, replica)
    assert not replica.failures


def test_another_key_than_an_administrators_is_refused(source: Source) -> None:
    user = source.server.call("GET", f"/users/{source.customer}.json")["user"]
    source.settings["api_key"] = user["api_key"]
    for attempt in (
        lambda: source.connector().check(),
        lambda: list(source.connector().sync(None)),
        lambda: list(source.connector().inventory()),
        lambda: list(source.connector().memberships()),
    ):
        with pytest.raises(SourceRefused, match=r"no administrator.*othing was"):
            attempt()


def test_a_role_that_cannot_be_read_gives_nothing(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    assert source.member("customer").groups
    monkeypatch.setattr(connectors_rights.Rights, "_role", lambda self, number: None)
    assert not source.member("customer").groups


def test_what_is_open_to_anybody_is_for_everyone_only_if_wished(source: Source) -> None:
    source.server.call("PUT", "/projects/support.json", {"project": {"is_public": True}})
    public, private = source.issue(), source.issue(is_private=True)
    assert not any("everyone" in doc.access.tokens for doc in synced(source).documents.values())
    source.settings["anonymous_is_everyone"] = True
    replica = synced(source)
    assert "everyone" in replica.documents[f"ticket/{public}"].access.tokens
    assert "everyone" not in replica.documents[f"ticket/{private}"].access.tokens
    source.server.call("PUT", "/projects/support.json", {"project": {"is_public": False}})
    replica.check_access(source.connector())
    assert "everyone" not in replica.documents[f"ticket/{public}"].access.tokens


def test_addresses_and_hints_are_trusted_as_set(source: Source) -> None:
    assert source.member("customer").email == "customer@customer.example"
    source.settings["trust_email"] = False
    assert source.member("customer").email == ""
    assert not source.connector().hint({"x-deskhand-signature": "sha256="}, b"{}")
    source.settings["webhook_secret"] = "secret"
    signature = hmac.new(b"secret", b"{}", hashlib.sha256).hexdigest()
    assert source.connector().hint({"x-deskhand-signature": f"sha256={signature}"}, b"{}")
    assert not source.connector().hint({"x-deskhand-signature": f"sha256={signature}"}, b"{ }")
