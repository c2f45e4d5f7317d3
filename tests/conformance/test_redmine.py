from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.model import Member, Part
from connectors import http as connectors_http
from connectors.base import BATCH_SIZE
from connectors.network import Network
from connectors.redmine import RedmineConnector, RedmineSettings
from tests.conformance.connector import CONTENT_WORD, ConnectorConformance, Replica, WritableSource
from tests.servers.faults import HttpFaults, TcpFaults
from tests.servers.redmine import Redmine, redmine
from tests.servers.redmine_life import Company

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]
ROUNDS = 6
NON_MEMBER, MANAGER, DEVELOPER, REPORTER = 1, 3, 4, 5


class Source(WritableSource):
    """One private project, with one customer in it."""

    def __init__(self, server: Redmine, **settings: Any) -> None:
        self.server = server
        self.port = server.port
        self.settings = {"api_key": server.key, **settings}
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
    def source(self, source: Source) -> WritableSource:  # pyright: ignore[reportIncompatibleMethodOverride]
        return source

    @pytest.fixture
    def filled(self, server: Redmine, places: Path) -> Iterator[WritableSource]:  # pyright: ignore
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
    for issue in company.random.sample(company.issues, 4):
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
