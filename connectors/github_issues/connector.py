"""Issues of GitHub repositories, github.com or Enterprise Server. Not yet run against the vendor.

**Account.** A fine-grained token with read access to Issues and Metadata of the repositories,
or a classic one with `repo` and `read:org`. To read who may see a private repository, its
owner needs push access to it and, in an organisation, membership.

**What is read.** Issues (and pull requests, if asked for) with their comments as Markdown,
labels as tags, milestone as version, assignees, changes of status, and the parent of a
sub-issue. Owners, members and collaborators count as agents, everybody else as customers.
Discussions and the review comments of pull requests are not read.

**Changes and deletions.** The list by last update is read on from where the last sync
stopped, the list of comments too, since an edited comment need not move its issue, and the
repository's events tell of deleted comments. Where nothing changed GitHub answers for free.
Deleted and transferred issues are missed by the inventory, which reads the whole list. A
signed webhook calls for a sync at once.

**Who may read.** A public repository's issues are for everybody. Those of a private one are for
its collaborators; where the account may not list them, for nobody. On an Enterprise Server,
where public means everybody who can sign in there, collaborators alone unless `public_is_everyone`
says otherwise. GitHub does not tell other people's verified e-mail addresses, so collaborators
are known to Deskhand only by a `people` file that names the addresses of their logins:
`{"users": [{"id": "octocat", "email": "octo@example.com"}]}`.

**Limits.** GitHub allows 5,000 requests an hour; an issue with comments takes one, one that was
closed another, so a first import of more than some thousand issues takes hours. Deleted
comments are known by the event `comment_deleted`, which GitHub describes for GraphQL only:
should a server not send it, such a comment stays until its issue changes next.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

import httpx
from pydantic import Field, SecretStr

from assistant.errors import ItemError, SourceBusy, SourceRefused
from assistant.model import (
    Access,
    AccessChanged,
    Batch,
    Change,
    Delete,
    Failed,
    Member,
    SourceDocument,
    Upsert,
)
from connectors.access import read_people
from connectors.base import BATCH_SIZE, Connector, ConnectorSettings
from connectors.github_issues.issue import Repository, Row, issue_document, moment
from connectors.http import Http, signed
from connectors.network import PUBLIC, Network
from connectors.paths import AbsolutePath

GITHUB = "https://api.github.com"
PAGE = 100
EPOCH = "1970-01-01T00:00:00Z"


class GitHubIssuesSettings(ConnectorSettings):
    url: str = Field(
        default=GITHUB, description="Address of the API; of an Enterprise Server: https://<host>/api/v3."
    )
    token: SecretStr = Field(
        default=SecretStr(""), description="Access token; empty for public repositories."
    )
    repositories: tuple[str, ...] = Field(min_length=1, description="Repositories, as owner/name.")
    pull_requests: bool = Field(default=False, description="Read pull requests as issues, too.")
    people: AbsolutePath | None = Field(
        default=None, description="JSON file with the e-mail addresses of logins; without it nobody is known."
    )
    public_is_everyone: bool | None = Field(
        default=None,
        description="Whether issues of public repositories are for everyone; default: on github.com only.",
    )
    webhook_secret: SecretStr = Field(
        default=SecretStr(""), description="Secret of a webhook that calls for a sync; empty: none."
    )
    requests_a_second: float = Field(default=10.0, gt=0, description="Requests a second at most.")


class GitHubIssuesConnector(Connector):
    Settings: ClassVar[type[ConnectorSettings]] = GitHubIssuesSettings

    def __init__(self, settings: GitHubIssuesSettings, network: Network = PUBLIC) -> None:
        self._settings = settings
        token = settings.token.get_secret_value()
        self._http = Http(
            settings.url,
            network,
            headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
            | ({"Authorization": f"Bearer {token}"} if token else {}),
            each_second=settings.requests_a_second,
        )
        everyone = settings.public_is_everyone
        self._open = settings.url.rstrip("/") == GITHUB if everyone is None else everyone
        self._known: list[Repository] = []

    def check(self) -> str:
        repositories = self._repositories()
        closed = sum(not r.access.tokens for r in repositories)
        note = f"; of {closed} of them can't be told who may read them" if closed else ""
        names = ", ".join(repository.name for repository in repositories)
        return f"{len(repositories)} repositories can be read on {self._http.base_url.host}: {names}{note}."

    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        state: dict[str, Any] = dict(checkpoint or {})
        for repository in self._repositories():
            key = str(repository.id)
            before: Row = state.get(key) or self._start(repository)
            for changes, after in self._changes(repository, dict(before)):
                state[key] = after
                yield Batch(tuple(changes), dict(state))

    def inventory(self) -> Iterator[str]:
        found = [r.item(number) for r in self._repositories() for number in self._numbers(r)]
        if not found:
            raise SourceBusy(
                f"{self._http.base_url.host} shows no issue of {', '.join(self._settings.repositories)}. Nothing "
                "was deleted. Has the token lost its rights? If they are really gone, remove this source."
            )
        yield from found

    def read(self, ids: Collection[str]) -> Iterator[Change]:
        repositories = {str(repository.id): repository for repository in self._repositories()}
        for name in ids:
            repository, number = repositories.get(name.partition("/")[0]), name.partition("/")[2]
            # Nothing is told of a pull request that is not to be read.
            found = self._again(repository, int(number)) if repository and number.isdecimal() else []
            yield from found or [Delete(name)]

    def accesses(self) -> Iterator[AccessChanged]:
        """A repository made private takes all its issues with it and touches none of them."""
        for repository in self._repositories():
            for number in self._numbers(repository):
                yield AccessChanged(repository.item(number), repository.access)

    def memberships(self) -> Iterator[Member]:
        people = (
            {p.user.lower(): p for p in read_people(self._settings.people)} if self._settings.people else {}
        )
        logins: dict[int, str] = {}
        groups: dict[int, set[str]] = defaultdict(set)
        for repository in self._repositories():
            if not repository.access.tokens or "everyone" in repository.access.tokens:
                continue
            for page in self._pages(f"{repository.path}/collaborators", affiliation="all", accept=(403, 404)):
                for user in page:
                    logins[user["id"]] = user["login"]
                    groups[user["id"]].add(f"repo:{repository.id}")
        for number, login in sorted(logins.items()):
            person = people.get(login.lower())
            email, name = (person.email, person.name) if person else ("", "")
            # The number, not the login: a login that was given up can be taken by somebody else.
            yield Member(str(number), email=email, name=name or login, groups=frozenset(groups[number]))

    def hint(self, headers: Mapping[str, str], body: bytes) -> bool:
        secret = self._settings.webhook_secret.get_secret_value()
        return signed(secret, body, headers.get("x-hub-signature-256", ""))

    def close(self) -> None:
        self._http.close()

    def _repositories(self) -> list[Repository]:
        if self._known:
            return self._known
        for name in self._settings.repositories:
            response = self._http.get(f"repos/{name.strip('/')}", accept=(404, 451))
            row = response.json() if response.status_code == 200 else {}
            if not row.get("has_issues"):
                why = "can't be seen with this token" if not row else "has its issues turned off"
                raise SourceRefused(
                    f"The repository {name} {why}. Nothing was changed or deleted; correct the token, or take the "
                    "repository out of the source's settings."
                )
            private = bool(row.get("private", True)) or row.get("visibility", "public") != "public"
            listed = bool((row.get("permissions") or {}).get("push"))
            access = Access.nobody()
            if not private and self._open:
                access = Access.public()
            elif listed:
                access = Access.of(groups=(f"repo:{row['id']}",))
            self._known.append(Repository(row["id"], row["full_name"], access))
        return self._known

    def _start(self, repository: Repository) -> dict[str, Any]:
        """A first checkpoint: comments and events from now on, because issues are read with the older ones."""
        newest = self._http.json(
            "GET",
            f"{repository.path}/issues/comments",
            params={"sort": "updated", "direction": "desc", "per_page": "1"},
        )
        events = self._http.json("GET", f"{repository.path}/issues/events", params={"per_page": "1"})
        return {
            "comments": newest[0]["updated_at"] if newest else EPOCH,
            "event": events[0]["id"] if events else 0,
        }

    def _changes(
        self, repository: Repository, before: dict[str, Any]
    ) -> Iterator[tuple[list[Change], dict[str, Any]]]:
        """Batches of changes of one repository, each with the state that stands after it."""
        state, etags = dict(before), dict(before.get("etags", {}))
        pending: list[Change] = []
        read: dict[int, str] = {}
        for row, position in self._feed(f"{repository.path}/issues", state, etags, "since", state="all"):
            if self._wanted(row):
                if len(pending) == BATCH_SIZE:
                    yield pending, dict(state)
                    pending = []
                pending.append(self._change(repository, row))
                read[row["number"]] = row["updated_at"]
            state |= position
        touched, position = self._touched(repository, state, etags, read)
        for number in touched:
            if len(pending) == BATCH_SIZE:
                yield pending, dict(state)
                pending = []
            pending += self._again(repository, number)
        state |= {**position, "etags": etags}
        if pending or state != before:
            yield pending, state

    def _wanted(self, row: Row) -> bool:
        return self._settings.pull_requests or "pull_request" not in row

    def _numbers(self, repository: Repository) -> Iterator[int]:
        """All issues there are. By last update, as no list by number can be read on without pages that shift."""
        rows = self._feed(f"{repository.path}/issues", {}, {}, "since", state="all")
        return (row["number"] for row, _ in rows if self._wanted(row))

    def _feed(
        self, path: str, place: Row, etags: dict[str, str], name: str, **params: str
    ) -> Iterator[tuple[Row, dict[str, Any]]]:
        """A list by last update from `place[name]` on, each row with the position after it.

        Each first page starts at the time the one before ended with, so nothing is skipped
        when rows move meanwhile. That time is given a second early, whether or not GitHub
        includes it; what was seen of these seconds is known by id and time. Pages are
        counted only where one time fills more than a page, and over again until a pass
        shows nothing new of it: only then is it left. `etags` gets the tag of the answer
        without news.
        """
        since, seen = str(place.get(name, EPOCH)), set(place.get(f"{name}_seen", ()))
        page, news = 1, False
        while True:
            response = self._feed_page(path, page, since, etags.get(name, "") if page == 1 else "", params)
            if response.status_code == 304:
                return
            rows: list[Row] = response.json()
            last = rows[-1]["updated_at"] if rows else ""
            fresh = [row for row in rows if _version(row) not in seen]
            for row in fresh:
                seen.add(_version(row))
                if page == 1 and last > since and row is fresh[-1]:
                    yield row, {name: last, f"{name}_seen": sorted(_from(last, seen))}
                else:
                    yield row, {name: since, f"{name}_seen": sorted(seen)}
            news = news or any(row["updated_at"] <= since for row in fresh)
            if last > since and (page == 1 or not news):
                since, seen, page, news = last, _from(last, seen), 1, False
            elif last <= since and "next" in response.links:
                page += 1
            elif news:
                page, news = 1, False
            else:
                if page == 1 and response.headers.get("etag"):
                    etags[name] = response.headers["etag"]
                return

    def _feed_page(
        self, path: str, page: int, since: str, tag: str, params: Mapping[str, str]
    ) -> httpx.Response:
        query = {**params, "sort": "updated", "direction": "asc", "since": _earlier(since)}
        query |= {"per_page": str(PAGE), "page": str(page)}
        return self._http.get(
            path, params=query, headers={"If-None-Match": tag} if tag else {}, accept=(304,)
        )

    def _touched(
        self, repository: Repository, state: Row, etags: dict[str, str], read: Mapping[int, str]
    ) -> tuple[list[int], dict[str, Any]]:
        """Issues to read again, for comments edited since they were `read` or deleted, and the position after that."""
        position: dict[str, Any] = {}
        found: set[int] = set()
        for row, after in self._feed(f"{repository.path}/issues/comments", state, etags, "comments"):
            position |= after
            number = int(row["issue_url"].rpartition("/")[2])
            if row["updated_at"] > read.get(number, ""):
                found.add(number)
        newest = last = int(state.get("event", 0))
        for page in self._pages(f"{repository.path}/issues/events"):
            for event in page:
                newest = max(newest, event["id"])
                if event["id"] > last and event["event"] == "comment_deleted" and event.get("issue"):
                    found.add(event["issue"]["number"])
            if any(event["id"] <= last for event in page):
                break
        return sorted(found), {**position, "event": newest}

    def _again(self, repository: Repository, number: int) -> list[Change]:
        try:
            with self._http.one_item(repository.path):
                response = self._http.get(f"{repository.path}/issues/{number}", accept=(404, 410))
        except ItemError as error:
            return [Failed(repository.item(number), str(error))]
        if response.status_code != 200:
            return [Delete(repository.item(number))]
        row = response.json()
        if row["number"] != number or not row["repository_url"].lower().endswith(
            f"/{repository.name.lower()}"
        ):
            return [
                Delete(repository.item(number))
            ]  # it was transferred, and the answer is from its new place
        if "pull_request" in row and not self._settings.pull_requests:
            return []
        return [self._change(repository, row)]

    def _change(self, repository: Repository, row: Row) -> Change:
        try:
            with self._http.one_item(repository.path):
                return Upsert(self._document(repository, row))
        except _Gone:
            return Delete(repository.item(row["number"]))
        except ItemError as error:
            return Failed(repository.item(row["number"]), str(error))
        except (KeyError, TypeError, ValueError) as error:
            return Failed(
                repository.item(row["number"]),
                f"GitHub describes it otherwise than documented ({type(error).__name__}). It was not read; it is "
                "tried again by itself.",
            )

    def _document(self, repository: Repository, row: Row) -> SourceDocument:
        path = f"{repository.path}/issues/{row['number']}"
        comments = list(self._of_issue(f"{path}/comments")) if row["comments"] else []
        ended = row["state"] == "closed" or row.get("state_reason") == "reopened"
        history = list(self._of_issue(f"{path}/events")) if ended else []
        return issue_document(repository, row, comments, history)

    def _of_issue(self, path: str) -> Iterator[Row]:
        """What hangs on one issue. Raises `_Gone` when that is deleted or was transferred since it was listed."""
        empty = True
        for page in self._pages(path, accept=(404, 410)):
            empty = False
            yield from page
        if empty:
            raise _Gone

    def _pages(self, path: str, *, accept: tuple[int, ...] = (), **params: str) -> Iterator[list[Row]]:
        """Pages of a list, following the Link header; none where the status is one of `accept`."""
        response: httpx.Response = self._http.get(
            path, params={"per_page": str(PAGE), **params}, accept=accept
        )
        while response.status_code == 200:
            yield response.json()
            if "next" not in response.links:
                return
            response = self._http.get(response.links["next"]["url"], accept=accept)


class _Gone(Exception):
    """The issue is no longer there."""


def _version(row: Row) -> str:
    return f"{row['id']}@{row['updated_at']}"


def _from(time: str, seen: set[str]) -> set[str]:
    edge = _earlier(time)
    return {version for version in seen if version.partition("@")[2] >= edge}


def _earlier(text: str) -> str:
    if text == EPOCH:
        return text
    return (moment(text) - dt.timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
