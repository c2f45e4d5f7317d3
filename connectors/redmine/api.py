"""Redmine's REST API as far as it is read here, with its peculiarities."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from assistant.errors import ItemError, SourceBusy, SourceRefused
from connectors.http import Http

PAGE = 100
"""rows in a page; Redmine gives no more"""
GONE = (403, 404, 410)
PRESENT = "1|5"
"""states of projects that are listed: active and closed. Nobody sees into archived ones."""

Json = dict[str, Any]
Filters = Mapping[str, tuple[str, tuple[object, ...]]]
"""field of an issue → operator and values"""


def seconds(text: str | None) -> int:
    """Epoch seconds of a time as Redmine writes it; 0 for none."""
    at = moment(text)
    return int(at.timestamp()) if at else 0


def moment(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC) if text else None


def iso(second: int) -> str:
    return dt.datetime.fromtimestamp(second, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _query(filters: Filters) -> Json:
    params: Json = {"set_filter": 1, "f[]": list(filters)}
    for field, (operator, values) in filters.items():
        params[f"op[{field}]"] = operator
        params[f"v[{field}][]"] = [str(value) for value in values]
    return params


class RedmineApi:
    def __init__(self, http: Http) -> None:
        self.http = http

    @property
    def now(self) -> int:
        """The server's clock at its last answer."""
        return int(self.http.clock)

    def get(self, path: str, params: Mapping[str, Any] | None = None, **options: Any) -> Json:
        answer = self.http.json("GET", path, params=dict(params or {}), **options)
        return answer if isinstance(answer, dict) else {}

    def maybe(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        refused: tuple[int, ...] = GONE,
        **options: Any,
    ) -> Json | None:
        """None when Redmine answers with a status in `refused`: it isn't there, or not for us."""
        for _ in range(2):
            response = self.http.get(path, params=dict(params or {}), accept=refused, **options)
            if not response.is_success:
                return None
            try:
                return response.json()
            except ValueError:
                continue
        raise SourceBusy(
            f"{self.http.base_url.host} answered {path} with something that is no JSON. Nothing was lost; it is "
            "tried again later."
        )

    def require_admin(self) -> None:
        """Raise `SourceRefused` unless the key is an administrator's: any other sees a part, and not whose."""
        user = self.get("users/current.json").get("user", {})
        if not user.get("admin"):
            raise SourceRefused(
                f"The key belongs to «{user.get('login', '?')}», who is no administrator of this Redmine, so it "
                "does not tell who may read what, nor show everything. Nothing was read, and nothing was "
                "deleted. Use the API key of an account with the administrator's box ticked."
            )

    def everything(self, path: str, key: str, **params: object) -> list[Json]:
        """All rows of a list that has no order to hold on to: read again when it moved meanwhile.

        None where its project is gone.
        """
        project = path.startswith("projects/")
        for _ in range(3):
            found: dict[object, Json] = {}
            offset, total = 0, 1
            while offset < total:
                page = self.maybe(
                    path, {**params, "limit": PAGE, "offset": offset}, refused=GONE if project else ()
                )
                if page is None:
                    return []
                found |= {row["id"]: row for row in page[key]}
                total = int(page.get("total_count", len(page[key])))
                offset += PAGE
            if len(found) == total:
                return list(found.values())
        raise SourceBusy(
            f"The list {path} kept changing while it was read. Nothing was changed; it is read again later."
        )

    def projects(self) -> list[Json]:
        return self.everything(
            "projects.json", "projects", status=PRESENT, include="trackers,enabled_modules"
        )

    def issues(self, filters: Filters, sort: str, include: str = "", limit: int = PAGE) -> list[Json]:
        filters = {"status_id": ("*", ("",)), **filters}
        params = _query(filters) | {"sort": sort, "limit": limit}
        if include:
            params["include"] = include
        return self.get("issues.json", params)["issues"]

    def issues_by_id(self, filters: Filters, after: int = 0, include: str = "") -> Iterator[list[Json]]:
        """Pages of all issues beyond an id; what comes or goes meanwhile shifts nothing."""
        while rows := self.issues({**filters, "issue_id": (">=", (after + 1,))}, "id", include):
            yield rows
            if len(rows) < PAGE:
                return
            after = int(rows[-1]["id"])

    def issues_since(self, filters: Filters, since: int) -> Iterator[list[Json]]:
        """Pages of all issues updated at that second or later; one that is edited meanwhile comes again.

        Redmine may keep fractions of a second, which it does not show, and takes `>= t` for `> t - 1`.
        So where a page ends within a second, that whole second is read in the order of ids,
        with the beginning of the next one, which what is asked for then leaves out.
        """
        while rows := self.issues({**filters, "updated_on": (">=", (iso(since),))}, "updated_on,id"):
            yield rows
            if len(rows) < PAGE:
                return
            last = seconds(rows[-1]["updated_on"])
            yield from self.issues_by_id({**filters, "updated_on": ("><", (iso(last), iso(last + 1)))})
            since = last + 2

    def count(self, filters: Filters) -> int:
        filters = {"status_id": ("*", ("",)), **filters}
        return int(self.get("issues.json", _query(filters) | {"limit": 1}).get("total_count", 0))

    def issue(self, number: int) -> Json | None:
        """With its journals; None when it is gone. Raises `ItemError` when it alone can't be given."""
        found = self.item(f"issues/{number}.json", {"include": "journals,attachments,relations"})
        return found["issue"] if found else None

    def private_note(self, number: int, text: str) -> None:
        """Add one to an issue; sent once, since Redmine takes it each time. Raises `ItemError`."""
        answer = self.http.request(
            "PUT",
            f"issues/{number}.json",
            json={"issue": {"notes": text, "private_notes": True}},
            accept=(*GONE, 409, 422),
            tries=1,
        )
        if not answer.is_success:
            raise ItemError(
                f"Redmine takes no note on issue {number} (HTTP {answer.status_code}). It was not written; see "
                "whether its project is closed."
            )

    def wiki(self, project: int) -> list[Json]:
        """Titles and versions of all its pages; none where the module was switched off meanwhile."""
        return (self.maybe(f"projects/{project}/wiki/index.json") or {}).get("wiki_pages", [])

    def item(self, path: str, params: Mapping[str, Any]) -> Json | None:
        """One item; None when it is gone. Raises `ItemError` when it alone can't be given."""
        try:
            return self.maybe(path, params)
        except SourceBusy:
            # Is it the server or this item? An answer to something else tells.
            self.get("users/current.json")
            response = self.http.get(path, params=dict(params), accept=(404, 500))
            if response.status_code == 500:
                raise ItemError(
                    "Redmine fails to show this item (HTTP 500), while it shows others. It was not read, and "
                    "is tried again later; Redmine's log/production.log says what is wrong with it.",
                    permanent=False,
                ) from None
            return self.get(path, params) if response.is_success else None

    def download(self, attachment: int, limit: int) -> bytes:
        response = self.http.get(
            f"attachments/download/{attachment}", accept=(403, 404, 410), max_bytes=limit
        )
        if not response.is_success:
            raise ItemError(
                "Redmine lists this attachment but does not give its file, which may be missing from its folder "
                "«files». It was not read; put the file back, or delete the attachment."
            )
        return response.content
