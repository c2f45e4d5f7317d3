"""Against a server that answers as GitHub's OpenAPI description says. Not yet run against the vendor."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.errors import SourceBusy, SourceRefused
from assistant.model import Access, Delete, Event, SourceDocument, Upsert
from connectors import http as connectors_http
from connectors.github_issues.connector import GitHubIssuesConnector, GitHubIssuesSettings
from connectors.network import Network
from tests.conformance.connector import CONTENT_WORD, ReadsAgain, Replica, WritableSource, changes
from tests.servers.github import TOKEN, GitHubServer, user
from tests.servers.protocol import Reply

REPO = "acme/engine"


class Tracker(WritableSource):
    def __init__(self, server: GitHubServer, **settings: Any) -> None:
        self.server = server
        self.port = server.port
        self.settings: dict[str, Any] = {"token": TOKEN, "repositories": [REPO], "public_is_everyone": True}
        self.settings |= {"requests_a_second": 10_000, **settings}
        self.numbers: dict[str, int] = {}
        self.made: list[GitHubIssuesConnector] = []
        self.spoilt = 0

    def connector(self, port: int | None = None) -> GitHubIssuesConnector:
        settings = {"url": f"http://127.0.0.1:{port or self.port}", **self.settings}
        self.made.append(
            GitHubIssuesConnector(GitHubIssuesSettings.model_validate(settings), Network(("127.0.0.1",)))
        )
        return self.made[-1]

    def close(self) -> None:
        for connector in self.made:
            connector.close()

    def id(self, number: int) -> str:
        return f"{self.server.repositories[REPO]['id']}/{number}"

    def put(self, name: str, text: str) -> str:
        if name in self.numbers:
            self.server.edit(REPO, self.numbers[name], body=text)
        else:
            self.numbers[name] = self.server.issue(REPO, f"About {name}", text)
        return self.id(self.numbers[name])

    def remove(self, name: str) -> None:
        self.server.delete(REPO, self.numbers.pop(name))

    def spoil(self) -> None:
        self.spoilt = self.server.issue(REPO, "Without labels", CONTENT_WORD, labels=None)

    def mend(self) -> None:
        self.server.issues[REPO][self.spoilt]["labels"] = []

    def withdraw(self, name: str) -> None:
        self.server.repositories[REPO] |= {"private": True, "permissions": {"push": False}}

    def restrict(self, name: str) -> str:
        self.server.repositories[REPO] |= {"private": True}
        return "everyone"

    def vanish(self) -> None:
        self.server.gone = True


@pytest.fixture
def server() -> Iterator[GitHubServer]:
    server = GitHubServer()
    server.repository(REPO)
    yield server
    server.close()
    assert server.violations == []


@pytest.fixture
def tracker(server: GitHubServer) -> Iterator[Tracker]:
    tracker = Tracker(server)
    yield tracker
    tracker.close()


class TestGitHubIssues(ReadsAgain):
    @pytest.fixture
    def source(self, tracker: Tracker) -> WritableSource:
        return tracker


def synced(tracker: Tracker) -> Replica:
    replica = Replica()
    replica.sync(tracker.connector())
    return replica


def bodies(document: SourceDocument) -> list[str]:
    assert isinstance(document.body, tuple)
    return [part.text for part in document.body]


def test_everything_about_an_issue(server: GitHubServer, tracker: Tracker) -> None:
    parent = server.issue(REPO, "Parent", "all of it")
    number = server.issue(
        REPO,
        "It broke",
        "**smoke**",
        labels=[{"name": "bug"}, "old"],
        milestone={"title": "v2"},
        assignees=[user("maintainer"), user("helper")],
        type={"name": "Bug"},
        parent_issue_url=f"https://api.github.com/repos/{REPO}/issues/{parent}",
    )
    server.comment(REPO, number, "mended", by="maintainer", association="MEMBER")
    server.comment(REPO, number, "thanks", by="customer")
    server.comment(REPO, number, "stale?", by="stale[bot]")
    server.edit(REPO, number, state="closed")
    closed = server.issues[REPO][number]["closed_at"]
    server.edit(REPO, number, state="open")
    server.edit(REPO, number, state="closed")
    document = synced(tracker).documents[tracker.id(number)]
    assert isinstance(document.body, tuple)
    assert [(p.text, p.role, p.media_type) for p in document.body] == [
        ("**smoke**", "customer", "text/markdown"),
        ("mended", "agent", "text/markdown"),
        ("thanks", "customer", "text/markdown"),
        ("stale?", "", "text/markdown"),
    ]
    ticket = document.ticket
    assert ticket
    assert (ticket.status, ticket.version, ticket.tags) == ("closed", "v2", ("bug", "old"))
    assert (ticket.requester, ticket.assignee) == ("customer", "maintainer, helper")
    assert [(e.old, e.new) for e in ticket.events] == [
        ("", "open"),
        ("open", "closed"),
        ("closed", "open"),
        ("open", "closed"),
    ]
    assert ticket.events[1] == Event(ticket.events[1].at, "open", "closed")
    assert ticket.events[1].at.strftime("%Y-%m-%dT%H:%M:%SZ") == closed
    assert ticket.custom_fields == {"reason": "completed", "type": "Bug", "repository": REPO}
    assert [(link.relation, link.external_id) for link in ticket.links] == [("parent", tracker.id(parent))]
    assert document.url == f"https://github.com/{REPO}/issues/{number}"


def test_an_empty_body_and_a_deleted_account(server: GitHubServer, tracker: Tracker) -> None:
    number = server.issue(REPO, "Only a title", None, user=None)
    document = synced(tracker).documents[tracker.id(number)]
    assert bodies(document) == ["Only a title"]
    assert document.ticket
    assert document.ticket.requester == "ghost"


@pytest.mark.parametrize("included", [False, True])
def test_edited_and_deleted_comments_are_noticed(
    server: GitHubServer, tracker: Tracker, included: bool
) -> None:
    server.includes_since = included
    number = server.issue(REPO, "Talk", "first")
    for n in range(3):
        server.comment(REPO, number, f"comment {n}")
    replica = synced(tracker)
    name = tracker.id(number)
    new = server.comment(REPO, number, "comment 3")
    replica.sync(tracker.connector())
    assert bodies(replica.documents[name])[-1] == "comment 3"
    server.edit_comment(REPO, new, "comment 3, corrected")
    replica.sync(tracker.connector())
    assert bodies(replica.documents[name])[-1] == "comment 3, corrected"
    server.delete_comment(REPO, new)
    replica.sync(tracker.connector())
    assert bodies(replica.documents[name]) == ["first", "comment 0", "comment 1", "comment 2"]
    assert changes(replica.sync(tracker.connector())) == []


def test_nothing_new_costs_nothing(server: GitHubServer, tracker: Tracker) -> None:
    for n in range(150):
        server.comment(REPO, server.issue(REPO, f"Issue {n}", "text"), "comment")
    replica = synced(tracker)
    replica.sync(tracker.connector())
    before, server.not_modified = server.remaining, 0
    assert replica.sync(tracker.connector()) == []
    assert server.not_modified == 2
    assert before - server.remaining == 2, "the repository and its newest events"


@pytest.mark.parametrize("included", [False, True])
@pytest.mark.parametrize("moving", [False, True])
def test_more_issues_of_one_second_than_a_page_holds(
    server: GitHubServer, tracker: Tracker, moving: bool, included: bool
) -> None:
    server.includes_since = included
    for n in range(250):
        server.issue(REPO, f"Issue {n}", "text")
    at = server.tick()
    for row in server.issues[REPO].values():
        row["updated_at"] = at
    server.issue(REPO, "The last", "text")
    replica = Replica()
    for number, batch in enumerate(tracker.connector().sync(None)):
        replica.apply(batch)
        if moving:
            server.edit(REPO, number * 30 + 1, body="edited meanwhile")
            server.edit(REPO, number * 30 + 2, body="edited meanwhile")
    replica.sync(tracker.connector())
    assert len(replica.documents) == 251
    assert replica.summary() == synced(tracker).summary()
    assert len(set(tracker.connector().inventory())) == 251


def test_deleted_and_transferred_issues(server: GitHubServer, tracker: Tracker) -> None:
    server.repository("acme/other")
    kept, deleted, moved = (server.issue(REPO, name, name) for name in ("kept", "deleted", "moved"))
    replica = synced(tracker)
    server.delete(REPO, deleted)
    server.transfer(REPO, moved, "acme/other")
    replica.prune(tracker.connector())
    assert set(replica.documents) == {tracker.id(kept)}
    # A comment that was edited just before makes them be asked for one by one.
    replica = synced(tracker)
    for number in (deleted, moved):
        server.edit_comment(REPO, server.comment(REPO, number, "late"), "later")
    found = changes(replica.sync(tracker.connector()))
    assert set(found) == {Delete(tracker.id(deleted)), Delete(tracker.id(moved))}


def test_pull_requests_only_if_asked_for(server: GitHubServer, tracker: Tracker) -> None:
    issue = server.issue(REPO, "Issue", "text")
    request = server.issue(REPO, "Pull", "text", pull_request={"url": "x"})
    server.comment(REPO, request, "looks good")
    replica = synced(tracker)
    assert set(replica.documents) == {tracker.id(issue)}
    server.edit_comment(REPO, server.comments[REPO][0]["id"], "looks bad")
    assert changes(replica.sync(tracker.connector())) == []
    tracker.settings["pull_requests"] = True
    assert set(synced(tracker).documents) == {tracker.id(issue), tracker.id(request)}


def test_a_renamed_repository_keeps_its_issues(server: GitHubServer, tracker: Tracker) -> None:
    number = server.issue(REPO, "Issue", "text")
    replica = synced(tracker)
    name = tracker.id(number)
    for store in (server.repositories, server.issues, server.comments, server.events, server.collaborators):
        store["acme/motor"] = store.pop(REPO)
    server.repositories["acme/motor"]["full_name"] = "acme/motor"
    server.renamed[REPO] = "acme/motor"
    assert set(tracker.connector().inventory()) == {name}
    assert changes(replica.sync(tracker.connector())) == []


def test_who_may_read(server: GitHubServer, tracker: Tracker, tmp_path: Path) -> None:
    server.issue(REPO, "Issue", "text")
    group = f"repo:{server.repositories[REPO]['id']}"
    server.collaborators[REPO] = [user(f"person-{n:03}") for n in range(130)]
    people = [{"id": "Person-007", "email": "seven@example.com", "name": "Seven"}]
    (tmp_path / "people.json").write_text(json.dumps({"users": people}))
    tracker.settings["people"] = str(tmp_path / "people.json")

    def access() -> Access:
        (document,) = synced(tracker).documents.values()
        return document.access

    assert access() == Access.public()
    assert list(tracker.connector().memberships()) == []
    tracker.settings["public_is_everyone"] = None
    assert access() == Access.of(groups=(group,)), "public on a server of one's own is not public"
    server.repositories[REPO] |= {"private": True}
    assert access() == Access.of(groups=(group,))
    members = {m.name: m for m in tracker.connector().memberships()}
    assert len(members) == len({u["id"] for u in server.collaborators[REPO]})
    assert all(m.groups == {group} for m in members.values())
    assert {m.email for m in members.values()} == {"", "seven@example.com"}
    server.collaborators[REPO] = server.collaborators[REPO][:1]
    assert [m.name for m in tracker.connector().memberships()] == ["person-000"]
    server.repositories[REPO]["permissions"] = {"pull": True, "push": False}
    assert access() == Access.nobody()
    assert list(tracker.connector().memberships()) == []
    assert "1 of them" in tracker.connector().check()


def test_used_up_limits(server: GitHubServer, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connectors_http.time, "sleep", lambda _: None)
    server.issue(REPO, "Issue", "text")
    server.secondary = 2
    assert len(synced(tracker).documents) == 1, "a short one is waited for"
    server.secondary = 100
    with pytest.raises(SourceBusy):
        list(tracker.connector().sync(None))
    server.secondary, server.remaining = 0, 0
    with pytest.raises(SourceBusy) as caught:
        list(tracker.connector().sync(None))
    assert caught.value.retry_after
    assert 1700 < caught.value.retry_after <= 1801


def test_a_repository_that_cannot_be_seen_deletes_nothing(server: GitHubServer, tracker: Tracker) -> None:
    server.issue(REPO, "Issue", "text")
    tracker.settings["repositories"] = [REPO, "acme/secret"]
    for attempt in (tracker.connector().sync(None), tracker.connector().inventory()):
        with pytest.raises(SourceRefused, match=r"acme/secret can't be seen.*Nothing was"):
            list(attempt)
    tracker.settings["repositories"] = [REPO]
    server.repositories[REPO]["has_issues"] = False
    with pytest.raises(SourceRefused, match="turned off"):
        list(tracker.connector().inventory())


def test_webhooks(tracker: Tracker) -> None:
    tracker.settings["webhook_secret"] = "shh"
    connector = tracker.connector()
    signature = "sha256=" + hmac.new(b"shh", b"{}", hashlib.sha256).hexdigest()
    assert connector.hint({"x-hub-signature-256": signature}, b"{}")
    assert not connector.hint({"x-hub-signature-256": signature}, b"{ }")
    assert not connector.hint({"x-hub-signature": signature}, b"{}")
    tracker.settings["webhook_secret"] = ""
    unsigned = "sha256=" + hmac.new(b"", b"{}", hashlib.sha256).hexdigest()
    assert not tracker.connector().hint({"x-hub-signature-256": unsigned}, b"{}")


@pytest.mark.parametrize("what", ["comments", "events", ""])
def test_an_issue_that_is_never_told_fails_alone(
    server: GitHubServer, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(connectors_http.time, "sleep", lambda _seconds: None)
    server.issue(REPO, "Before", "text")
    number = server.issue(REPO, "Broken", "text")
    comment = server.comment(REPO, number, "a comment")
    server.edit(REPO, number, state="closed")
    server.issue(REPO, "After", "text")
    replica = Replica()
    if not what:  # the issue itself is asked for where its comments tell of a change
        replica = synced(tracker)
        server.edit_comment(REPO, comment, "edited")
    server.refuse[f"/issues/{number}/{what}".rstrip("/")] = Reply(502, b"<html>Unicorn!")
    replica.sync(tracker.connector())
    assert {d.title for d in replica.documents.values()} >= {"Before", "After"}
    assert list(replica.failures) == [tracker.id(number)]
    assert "by itself" in replica.failures[tracker.id(number)]
    server.refuse.clear()
    assert changes(replica.sync(tracker.connector())) == []
    replica.read_again(tracker.connector())
    assert not replica.failures
    assert replica.summary() == synced(tracker).summary()


@pytest.mark.parametrize(("what", "status"), [("comments", 404), ("events", 410)])
def test_an_issue_that_goes_while_it_is_read_is_gone(
    server: GitHubServer, tracker: Tracker, what: str, status: int
) -> None:
    kept = server.issue(REPO, "Kept", "text")
    gone = server.issue(REPO, "Gone", "text")
    server.comment(REPO, gone, "a comment")
    server.edit(REPO, gone, state="closed")
    server.refuse[f"/issues/{gone}/{what}"] = Reply(status, {"message": "Not Found"})
    replica = synced(tracker)
    assert set(replica.documents) == {tracker.id(kept)}
    assert not replica.failures, "and the source goes on"


def test_where_github_as_a_whole_is_in_trouble_no_issue_fails(
    server: GitHubServer, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connectors_http.time, "sleep", lambda _seconds: None)
    number = server.issue(REPO, "Broken", "text")
    server.comment(REPO, number, "a comment")
    connector = tracker.connector()
    connector.check()
    server.refuse = {f"/issues/{number}/comments": Reply(503, {}), f"/repos/{REPO}": Reply(503, {})}
    with pytest.raises(SourceBusy):
        list(connector.sync(None))


def test_what_is_out_of_scope_is_not_read_again(server: GitHubServer, tracker: Tracker) -> None:
    server.repository("acme/other")
    issue = server.issue(REPO, "Issue", "text")
    request = server.issue(REPO, "Pull", "text", pull_request={"url": "x"})
    moved = server.issue(REPO, "Moved", "text")
    server.transfer(REPO, moved, "acme/other")
    elsewhere = f"{server.repositories['acme/other']['id']}/1"
    names = [tracker.id(issue), tracker.id(request), tracker.id(moved), elsewhere, "5/x", f"{tracker.id(1)}x"]

    def kinds() -> list[type]:
        return [type(change) for change in tracker.connector().read(names)]

    assert kinds() == [Upsert, *[Delete] * 5]
    tracker.settings |= {"pull_requests": True, "repositories": [REPO, "acme/other"]}
    assert kinds() == [Upsert, Upsert, Delete, Upsert, Delete, Delete]
