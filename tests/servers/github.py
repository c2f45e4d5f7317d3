"""GitHub's REST API for issues, as its OpenAPI description and https://docs.github.com/rest say.

Its answers were compared by hand with the schemas of npm `@octokit/openapi` 23.0.2. The
connector has not yet been run against the vendor. Time stands still unless a test moves `now`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import zlib
from typing import Any
from urllib.parse import urlencode

from tests.servers.protocol import ProtocolServer, Refused, Reply, Request

TOKEN = "ghp-token"
ENUMS = {
    "state": {"open", "closed", "all"},
    "direction": {"asc", "desc"},
    "affiliation": {"outside", "direct", "all"},
}
PAGING = "per_page page"


class GitHubServer(ProtocolServer):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000
        self.gone = False
        self.includes_since = False
        """the documentation says «after», the server has been seen to include the time"""
        self.remaining = 5000
        self.secondary = 0
        """so many answers of the secondary limit are due"""
        self.repositories: dict[str, dict[str, Any]] = {}
        self.renamed: dict[str, str] = {}
        self.issues: dict[str, dict[int, dict[str, Any]]] = {}
        self.comments: dict[str, list[dict[str, Any]]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.collaborators: dict[str, list[dict[str, Any]]] = {}
        self.deleted: set[tuple[str, int]] = set()
        self.transferred: dict[tuple[str, int], tuple[str, int]] = {}
        self.not_modified = 0
        self._next = 1000
        repo = r"/repos/([\w.-]+/[\w.-]+)"
        self.route(repo, "", self._repository)
        self.route(
            rf"{repo}/issues",
            f"milestone state assignee type creator mentioned labels sort direction since {PAGING}",
            self._issues,
        )
        self.route(rf"{repo}/issues/comments", f"sort direction since {PAGING}", self._all_comments)
        self.route(rf"{repo}/issues/events", PAGING, self._all_events)
        self.route(rf"{repo}/issues/(\d+)", "", self._issue)
        self.route(rf"{repo}/issues/(\d+)/comments", f"since {PAGING}", self._comments)
        self.route(rf"{repo}/issues/(\d+)/events", PAGING, self._events)
        self.route(rf"{repo}/collaborators", f"affiliation permission {PAGING}", self._collaborators)

    # what a test writes

    def number(self) -> int:
        self._next += 1
        return self._next

    def tick(self) -> str:
        self.now += 1
        return stamp(self.now)

    def repository(self, name: str, *, private: bool = False, push: bool = True) -> None:
        self.repositories[name] = {
            "id": self.number(),
            "name": name.split("/")[1],
            "full_name": name,
            "private": private,
            "has_issues": True,
            "visibility": "private" if private else "public",
            "permissions": {"admin": False, "push": push, "pull": True},
        }
        self.issues[name], self.comments[name], self.events[name], self.collaborators[name] = {}, [], [], []

    def issue(self, repo: str, title: str, body: str | None, *, by: str = "customer", **more: Any) -> int:
        with self.lock:
            number, at = len(self.issues[repo]) + 1, self.tick()
            url = f"https://api.github.com/repos/{repo}"
            self.issues[repo][number] = {
                "id": self.number(),
                "node_id": "I_x",
                "url": f"{url}/issues/{number}",
                "repository_url": url,
                **{f"{k}_url": f"{url}/issues/{number}/{k}" for k in ("labels", "comments", "events")},
                "html_url": f"https://github.com/{repo}/issues/{number}",
                "number": number,
                "state": "open",
                "title": title,
                "body": body,
                "user": user(by),
                "labels": [],
                "assignee": None,
                "assignees": [],
                "milestone": None,
                "locked": False,
                "comments": 0,
                "closed_at": None,
                "created_at": at,
                "updated_at": at,
                "author_association": "NONE",
                "state_reason": None,
                **more,
            }
            return number

    def edit(self, repo: str, number: int, **changes: Any) -> None:
        with self.lock:
            row = self.issues[repo][number]
            if changes.get("state", row["state"]) != row["state"]:
                closed = changes["state"] == "closed"
                self._event(repo, number, "closed" if closed else "reopened")
                changes = {"closed_at": stamp(self.now) if closed else None, **changes}
                changes = {"state_reason": "completed" if closed else "reopened", **changes}
            self.issues[repo][number] = {**row, **changes, "updated_at": self.tick()}

    def comment(
        self, repo: str, number: int, body: str, *, by: str = "customer", association: str = "NONE"
    ) -> int:
        with self.lock:
            at, url = self.tick(), f"https://api.github.com/repos/{repo}"
            row = {
                "id": self.number(),
                "node_id": "IC_x",
                "body": body,
                "user": user(by),
                "created_at": at,
                "html_url": f"https://github.com/{repo}/issues/{number}#c",
                "author_association": association,
                "issue_url": f"{url}/issues/{number}",
                "updated_at": at,
            }
            self.comments[repo].append({**row, "url": f"{url}/issues/comments/{row['id']}"})
            self._count(repo, number)
            self.issues[repo][number]["updated_at"] = at
            return int(row["id"])

    def edit_comment(self, repo: str, comment: int, body: str) -> None:
        """It leaves the issue's own time alone: no documentation says that it moves."""
        for row in self.comments[repo]:
            if row["id"] == comment:
                row |= {"body": body, "updated_at": self.tick()}

    def delete_comment(self, repo: str, comment: int) -> None:
        (row,) = [row for row in self.comments[repo] if row["id"] == comment]
        self.comments[repo].remove(row)
        number = int(row["issue_url"].rpartition("/")[2])
        self._count(repo, number)
        self._event(repo, number, "comment_deleted")

    def delete(self, repo: str, number: int) -> None:
        with self.lock:
            self.deleted.add((repo, number))

    def transfer(self, repo: str, number: int, to: str) -> None:
        new = self.issue(to, "moved", self.issues[repo][number]["body"])
        self.transferred[repo, number] = (to, new)

    def _count(self, repo: str, number: int) -> None:
        self.issues[repo][number]["comments"] = len(self._of(repo, number))

    def _event(self, repo: str, number: int, what: str) -> None:
        at = self.tick()
        row = {
            "id": self.number(),
            "node_id": "E_x",
            "event": what,
            "created_at": at,
            "actor": user("maintainer"),
        }
        url = f"https://api.github.com/repos/{repo}/issues/events/{row['id']}"
        self.events[repo].append({**row, "url": url, "commit_id": None, "commit_url": None, "number": number})

    def _of(self, repo: str, number: int) -> list[dict[str, Any]]:
        return [c for c in self.comments[repo] if c["issue_url"].endswith(f"/issues/{number}")]

    def _visible(self, repo: str) -> list[dict[str, Any]]:
        return [
            row
            for n, row in self.issues[repo].items()
            if (repo, n) not in self.deleted and (repo, n) not in self.transferred
        ]

    # what the connector reads

    def answer(self, request: Request) -> Reply:
        if self.gone:
            return Reply(404, {"message": "Not Found", "status": "404"})
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Reply(401, {"message": "Bad credentials", "status": "401"})
        if (
            not request.headers.get("user-agent")
            or request.headers.get("accept") != "application/vnd.github+json"
        ):
            raise self.violation(403, "no user agent, or no documented media type")
        if request.headers.get("x-github-api-version") != "2022-11-28":
            raise self.violation(400, f"API version {request.headers.get('x-github-api-version')}")
        if self.secondary:
            self.secondary -= 1
            return Reply(
                403, {"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}
            )
        if self.remaining <= 0:
            return Reply(403, {"message": "API rate limit exceeded"}, self._limits())
        reply = self.dispatch(request)
        tag = '"' + hashlib.sha256(reply.content() + str(reply.headers).encode()).hexdigest()[:32] + '"'
        if request.headers.get("if-none-match") == tag:
            self.not_modified += 1
            return Reply(304, None, {"ETag": tag, **self._limits()})
        self.remaining -= 1
        return Reply(reply.status, reply.body, {**reply.headers, "ETag": tag, **self._limits()})

    def _limits(self) -> dict[str, str]:
        reset = str(int(dt.datetime.now(dt.UTC).timestamp()) + 1800)
        return {
            "X-RateLimit-Limit": "5000",
            "X-RateLimit-Remaining": str(max(self.remaining, 0)),
            "X-RateLimit-Reset": reset,
        }

    def _name(self, request: Request, name: str) -> str:
        known = {n.lower(): n for n in self.repositories}
        if name in self.renamed:
            moved = request.path.replace(name, self.renamed[name], 1)
            raise Refused(301, {"message": "Moved Permanently"}, {"Location": f"{request.base}{moved}"})
        if name.lower() not in known:
            raise Refused(404, {"message": "Not Found", "status": "404"})
        return known[name.lower()]

    def _repository(self, request: Request, name: str) -> Any:
        return self.repositories[self._name(request, name)]

    def _issues(self, request: Request, name: str) -> Reply:
        repo, query = self._name(request, name), request.query
        state = query.get("state", "open")
        rows = [row for row in self._visible(repo) if state in ("all", row["state"])]
        return self._sorted(request, rows, {"created", "updated", "comments"}, "desc")

    def _all_comments(self, request: Request, name: str) -> Reply:
        rows = self.comments[self._name(request, name)]
        return self._sorted(request, rows, {"created", "updated"}, "asc")

    def _sorted(self, request: Request, rows: list[dict[str, Any]], sorts: set[str], direction: str) -> Reply:
        query = request.query
        sort = query.get("sort", "created")
        if sort not in sorts:
            raise self.violation(422, f"sort {sort}")
        rows = self._since(request, rows)
        key = {"created": "created_at", "updated": "updated_at", "comments": "comments"}[sort]
        # Rows of the same time stand in no documented order: an odd one is as good as any.
        rows = sorted(rows, key=lambda row: (row[key], row["id"] * 7919 % 101))
        return self._page(request, rows[::-1] if query.get("direction", direction) == "desc" else rows)

    def _since(self, request: Request, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        since = request.query.get("since")
        if since is None:
            return rows
        try:
            dt.datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ")
        except ValueError:
            raise self.violation(422, f"since {since}") from None
        return [
            r for r in rows if r["updated_at"] > since or (self.includes_since and r["updated_at"] == since)
        ]

    def _all_events(self, request: Request, name: str) -> Reply:
        repo = self._name(request, name)
        rows = [
            {**{k: v for k, v in event.items() if k != "number"}, "issue": self.issues[repo][event["number"]]}
            for event in reversed(self.events[repo])
        ]
        return self._page(request, rows)

    def _here(self, request: Request, name: str, number: int) -> str:
        repo = self._name(request, name)
        if (repo, number) in self.transferred:
            to, new = self.transferred[repo, number]
            location = f"{request.base}/repos/{to}/issues/{new}"
            raise Refused(301, {"message": "Moved Permanently", "url": location}, {"Location": location})
        if (repo, number) in self.deleted:
            raise Refused(410, {"message": "This issue was deleted", "status": "410"})
        if number not in self.issues[repo]:
            raise Refused(404, {"message": "Not Found", "status": "404"})
        return repo

    def _issue(self, request: Request, name: str, number: int) -> Any:
        return self.issues[self._here(request, name, number)][number]

    def _comments(self, request: Request, name: str, number: int) -> Reply:
        return self._page(request, self._since(request, self._of(self._here(request, name, number), number)))

    def _events(self, request: Request, name: str, number: int) -> Reply:
        repo = self._here(request, name, number)
        rows = [
            {k: v for k, v in e.items() if k != "number"} for e in self.events[repo] if e["number"] == number
        ]
        return self._page(request, rows)

    def _collaborators(self, request: Request, name: str) -> Reply:
        repo = self._name(request, name)
        if not self.repositories[repo]["permissions"]["push"]:
            raise Refused(403, {"message": "Must have push access to view repository collaborators."})
        return self._page(request, self.collaborators[repo])

    def _page(self, request: Request, rows: list[dict[str, Any]]) -> Reply:
        """A page with its Link header: https://docs.github.com/rest/using-the-rest-api/using-pagination-in-the-rest-api."""
        for name, allowed in ENUMS.items():
            if request.query.get(name, next(iter(allowed))) not in allowed:
                raise self.violation(422, f"{name} {request.query[name]}")
        size, page = int(request.query.get("per_page", "30")), int(request.query.get("page", "1"))
        if not 1 <= size <= 100 or page < 1:
            raise self.violation(422, f"page {page} of {size}")
        part = rows[(page - 1) * size : page * size]
        headers: dict[str, str] = {}
        if len(rows) > page * size:
            query = urlencode({**request.query, "page": str(page + 1)})
            headers["Link"] = f'<{request.base}{request.path}?{query}>; rel="next"'
        return Reply(200, json.loads(json.dumps(part)), headers)


def user(login: str) -> dict[str, Any]:
    number = zlib.crc32(login.encode())
    return {
        "login": login,
        "id": number,
        "node_id": "U_x",
        "type": "Bot" if login.endswith("[bot]") else "User",
    }


def stamp(at: int) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
