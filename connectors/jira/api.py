"""The requests to Jira Cloud that its connector makes, answers decoded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import cast

from assistant.errors import ItemError, SourceBusy, SourceRefused
from connectors.http import Http
from connectors.jira.issue import Project
from connectors.jira.rights import asked, decoded, role_ids, security_scheme, values
from connectors.jira.values import Json

PAGE = 100
"""issues of an answer that tells more than ids"""
ID_PAGE = 5000
PASSES = 6
"""readings of a list until two agree"""
ME = "rest/api/3/myself"
_GONE = (403, 404, 410)


class JiraApi:
    def __init__(self, http: Http) -> None:
        self.http = http
        self._projects: dict[str, Project] = {}

    def browsable(self, names: Iterable[str]) -> list[Json]:
        """The named projects. Raises `SourceRefused` unless all of them may be browsed.

        Search answers with nothing, and no error, where a right is missing.
        """
        keys = sorted(set(names))
        found: list[Json] = []
        for start in range(0, len(keys), 50):
            found += values(
                self.http,
                "rest/api/3/project/search",
                keys=keys[start : start + 50],
                action="browse",
                expand="lead",
            )
        missing = set(keys) - {str(project["key"]).upper() for project in found}
        if missing:
            raise SourceRefused(
                f"The account can't browse {', '.join(sorted(missing))}. Nothing was deleted. Give it the "
                "permission «Browse projects» there; if a project was renamed or deleted, correct the setting "
                "«projects»."
            )
        return found

    def site(self) -> str:
        """The address people open, which need not be the one that is asked."""
        return str(decoded(self.http.json("GET", "rest/api/3/serverInfo")).get("baseUrl") or "").rstrip("/")

    def count(self, jql: str) -> int:
        answer = self.http.json("POST", "rest/api/3/search/approximate-count", json={"jql": jql})
        return int(decoded(answer).get("count") or 0)

    def search(self, jql: str, fields: Sequence[str], size: int, page: str = "") -> tuple[list[Json], str]:
        """A page of issues and the token of the next one, empty at the end."""
        query: dict[str, object] = {"jql": jql, "fields": list(fields), "maxResults": size}
        if page:
            query["nextPageToken"] = page
        answer = decoded(self.http.json("POST", "rest/api/3/search/jql", json=query))
        if "issues" not in answer:
            raise SourceBusy("Jira's search answered without a list. Nothing was changed; it is tried again.")
        following = "" if answer.get("isLast") is True else str(answer.get("nextPageToken") or "")
        return cast("list[Json]", answer["issues"]), following

    def all_ids(self, scope: str) -> set[str]:
        """Ids of all issues there are, by their unchanging time of creation.

        Where they take more than one page, a deletion may pull an issue over a page's edge. What
        a reading missed so, it told of an issue that the next no longer has: so they are compared.
        """
        before: set[str] | None = None
        for _ in range(PASSES):
            found: set[str] = set()
            page, pages = "", 0
            while pages == 0 or page:
                rows, page = self.search(f"{scope} ORDER BY created ASC", ["id"], ID_PAGE, page)
                found |= {str(row["id"]) for row in rows}
                pages += 1
            if pages == 1 or (before is not None and before <= found):
                return found | (before or set())
            before = found
        raise SourceBusy(
            "So many issues are being deleted that no two lists of them agree. Nothing was deleted here; it is "
            "tried again later."
        )

    def within(self, ids: Sequence[str], jql: str) -> set[str]:
        """Those of the issues that `jql` finds."""
        if not ids:
            return set()
        query = {"issueIds": [int(name) for name in ids], "jqls": [jql]}
        answer = decoded(self.http.json("POST", "rest/api/3/jql/match", json=query))
        (match,) = cast("list[Json]", answer["matches"])
        if match["errors"]:
            raise SourceRefused(
                "Jira does not understand the setting «jql». Nothing was changed or deleted; correct it."
            )
        return {str(name) for name in match["matchedIssues"]}

    def issues(self, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Json]:
        """Issues by id, from Jira's data and not its search; what it can't load is left out."""
        if not ids:
            return {}
        query = {"issueIdsOrKeys": list(ids), "fields": list(fields)}
        answer = decoded(self.http.json("POST", "rest/api/3/issue/bulkfetch", json=query))
        return {str(row["id"]): row for row in cast("list[Json]", answer.get("issues") or [])}

    def exists(self, name: str) -> bool:
        """Of an issue that was left out of `issues`: whether it is there all the same."""
        path = f"rest/api/3/issue/{name}"
        answer = self.http.get(path, params={"fields": "updated"}, accept=(400, 500, *_GONE))
        return answer.status_code not in _GONE

    def histories(self, ids: Sequence[str]) -> dict[str, list[Json]]:
        """Changes of status by issue."""
        found: dict[str, list[Json]] = {}
        query: dict[str, object] = {"issueIdsOrKeys": list(ids), "fieldIds": ["status"], "maxResults": 1000}
        while ids:
            answer = decoded(self.http.json("POST", "rest/api/3/changelog/bulkfetch", json=query))
            for row in cast("list[Json]", answer.get("issueChangeLogs") or []):
                found.setdefault(str(row["issueId"]), []).extend(row.get("changeHistories") or [])
            if not answer.get("nextPageToken"):
                break
            query["nextPageToken"] = answer["nextPageToken"]
        return found

    def comments(self, issue: Json) -> Iterator[Json]:
        """All of them: an issue brings at most twenty along."""
        inline = cast(Json, issue["fields"].get("comment") or {})
        rows = cast("list[Json]", inline.get("comments") or [])
        if int(inline.get("total", len(rows) + 1)) <= len(rows):
            yield from rows
            return
        path, start = f"rest/api/3/issue/{issue['id']}/comment", 0
        while True:
            query = {"startAt": str(start), "maxResults": str(PAGE), "orderBy": "created"}
            page = asked(self.http, path, none=(404,), **query) or {}
            rows = cast("list[Json]", page.get("comments") or [])
            yield from rows
            start += len(rows)
            if not rows or start >= int(page.get("total") or 0):
                return

    def shared(self, issue: str) -> Iterator[str]:
        """Ids of attachments on comments that customers see."""
        path, start = f"rest/servicedeskapi/request/{issue}/comment", 0
        while True:
            query = {
                "public": "true",
                "internal": "false",
                "expand": "attachment",
                "start": str(start),
                "limit": str(PAGE),
            }
            page = asked(self.http, path, none=(403, 404), **query) or {}  # not all issues are requests
            rows = cast("list[Json]", page.get("values") or [])
            for row in rows:
                for file in cast("list[Json]", (row.get("attachments") or {}).get("values") or []):
                    address = str((file.get("_links") or {}).get("jiraRest") or "")
                    if row.get("public") is True and (match := re.search(r"/attachment/(\d+)$", address)):
                        yield match[1]
            start += len(rows)
            if not rows or page.get("isLastPage") is True:
                return

    def content(self, name: str, max_bytes: int) -> bytes:
        # Without a redirect, which would lead to another host.
        response = self.http.get(
            f"rest/api/3/attachment/content/{name}",
            params={"redirect": "false"},
            headers={"Accept": "*/*"},
            accept=_GONE,
            max_bytes=max_bytes,
        )
        if not response.is_success:
            raise ItemError(
                f"Jira does not give this attachment out (HTTP {response.status_code}): it is gone, or hidden from "
                "the account. It is tried again by itself.",
                permanent=False,
            )
        return response.content

    def project(self, number: str) -> Project:
        if number not in self._projects:
            row = decoded(self.http.json("GET", f"rest/api/3/project/{number}"))
            levels = True
            with suppress(SourceRefused):  # not told: then an issue's level must be
                levels = security_scheme(self.http, number) is not None
            self._projects[number] = Project(
                number,
                str(row["key"]),
                row.get("projectTypeKey") == "service_desk",
                role_ids(self.http, row),
                levels,
            )
        return self._projects[number]
