"""One Jira issue that can't be read holds up no other, and is read again for itself."""

from __future__ import annotations

import pytest

from assistant.errors import ItemError, SourceBusy
from assistant.model import Change, Delete, Failed, Upsert
from connectors import http as connectors_http
from tests.conformance.connector import Replica
from tests.conformance.test_jira_issues import Made, connector, project, server, site, synced
from tests.servers.jira import INLINE_COMMENTS, JiraServer
from tests.servers.jira_data import Site

__all__ = ["connector", "project", "server", "site"]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connectors_http.time, "sleep", lambda _seconds: None)


@pytest.fixture
def talkative(site: Site, project: int) -> int:
    """An issue among others whose comments take a request of their own."""
    site.create(project, "before", "text")
    issue = site.create(project, "talkative", "text")
    for number in range(INLINE_COMMENTS + 1):
        site.comment(issue, "acc-ann", f"comment {number}")
    site.create(project, "after", "text")
    return issue


def again(connector: Made, *names: object, **settings: object) -> list[Change]:
    return list(connector(**settings).read([str(name) for name in names]))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_comments_that_never_come_fail_their_issue_alone(
    server: JiraServer, talkative: int, connector: Made, status: int
) -> None:
    server.refuse[f"/issue/{talkative}/comment"] = status
    replica = synced(connector())
    assert {d.title for d in replica.documents.values()} == {"SUP-1: before", "SUP-3: after"}
    assert list(replica.failures) == [str(talkative)]
    assert "by itself" in replica.failures[str(talkative)]
    server.refuse.clear()
    replica.sync(connector())
    assert str(talkative) not in replica.documents, "it did not change"
    replica.read_again(connector())
    assert len(replica.documents) == 3
    assert not replica.failures
    assert replica.summary() == synced(connector()).summary()


def test_a_request_s_files_that_are_not_told_fail_their_issue_alone(
    site: Site, server: JiraServer, project: int, connector: Made
) -> None:
    site.create(project, "before", "text")
    issue = site.create(project, "with a file", "text")
    site.attach(issue, "acc-ann", "a.txt", b"x")
    server.refuse[f"/request/{issue}/comment"] = 500
    replica = synced(connector())
    assert len(replica.documents) == 1
    assert list(replica.failures) == [str(issue)]


def test_an_issue_that_is_not_even_told_to_exist_fails_alone(
    site: Site, server: JiraServer, project: int, connector: Made
) -> None:
    site.create(project, "before", "text")
    issue = site.create(project, "bad", "text")
    site.broken.add(issue)
    server.refuse[f"/issue/{issue}"] = 503
    replica = synced(connector())
    assert len(replica.documents) == 1
    assert list(replica.failures) == [str(issue)]


def test_where_nothing_is_answered_it_is_the_source(
    server: JiraServer, talkative: int, connector: Made
) -> None:
    server.refuse |= {f"/issue/{talkative}/comment": 503, "/myself": 503}
    replica = Replica()
    with pytest.raises(SourceBusy):
        replica.sync(connector())
    assert not replica.failures
    server.refuse.clear()
    replica.sync(connector())
    assert len(replica.documents) == 3


def test_who_names_a_time_to_wait_is_waited_for(server: JiraServer, talkative: int, connector: Made) -> None:
    server.refuse[f"/issue/{talkative}/comment"] = 429
    with pytest.raises(SourceBusy) as raised:
        synced(connector())
    assert raised.value.retry_after == 1.0
    assert not any(call.path.endswith("/myself") for call in server.calls)


def test_a_file_that_is_not_given_out_is_read_again_with_its_issue(
    site: Site, server: JiraServer, project: int, connector: Made
) -> None:
    issue = site.create(project, "with files", "text")
    name = site.attach(issue, "acc-ann", "a.txt", b"x")
    site.attach(issue, "acc-ann", "large.txt", b"x" * 2**21)
    server.refuse[f"/content/{name}"] = 404
    found = again(connector, issue, max_attachment_mb=1)
    (file,) = [c.document for c in found if isinstance(c, Upsert) and c.document.fetch]
    assert file.fetch is not None
    with pytest.raises(ItemError, match="by itself"):
        file.fetch()
    assert file.parent == str(issue)
    assert [c.parent for c in found if isinstance(c, Failed)] == [str(issue)]


def test_what_is_out_of_scope_is_not_read_again(site: Site, project: int, connector: Made) -> None:
    other = site.project("HELP", {"type": "user", "parameter": "acc-bot", "value": "acc-bot"})
    moved = site.create(other, "in another project", "text", issuetype="Bug")
    chosen = site.create(project, "chosen", "text", issuetype="Bug")
    filtered = site.create(project, "filtered", "text", issuetype="Task")
    found = again(connector, moved, chosen, filtered, jql="issuetype = Bug")
    assert [c for c in found if isinstance(c, Delete)] == [Delete(str(moved)), Delete(str(filtered))]
    assert [c.document.external_id for c in found if isinstance(c, Upsert)] == [str(chosen)]
    assert [type(c) for c in again(connector, moved, chosen, filtered, projects="SUP, HELP")] == [Upsert] * 3


def test_an_issue_deleted_meanwhile_is_gone(
    site: Site, server: JiraServer, project: int, connector: Made
) -> None:
    issue = site.create(project, "gone", "text")
    server.before_answer = lambda call: site.delete(issue) if call.path.endswith("/jql/match") else None
    assert again(connector, issue) == [Delete(str(issue))]
    assert server.calls[-1].path.endswith(f"/issue/{issue}"), "the search may lag, so Jira was asked"


def test_nothing_is_asked_of_nothing(connector: Made) -> None:
    assert again(connector) == []
    assert again(connector, "attachment/5") == [Delete("attachment/5")]
