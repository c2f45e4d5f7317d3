"""Zendesk's API as https://developer.zendesk.com/api-reference documents it, as far as the connector needs it.

It has no behaviour of the real thing that isn't documented; the connector has not yet
been run against the vendor. Time stands still unless a test moves `now`.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from typing import Any

from tests.servers.protocol import ProtocolServer, Refused, Reply, Request

EMAIL, TOKEN = "admin@example.com", "zd-token"
OAUTH = {"zd-oauth": 1}
ID = r"(\d+)"
SIDELOADS = {"users", "groups", "organizations", "metric_sets", "comment_count", "ticket_forms", "dates"}


class Cdn(ProtocolServer):
    """Where files are; whoever sends credentials here gave them away."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    def answer(self, request: Request) -> Reply:
        if "authorization" in request.headers or "cookie" in request.headers:
            self.violations.append("credentials were sent to the CDN")
        if request.path not in self.files:
            return Reply(404, b"")
        return Reply(200, self.files[request.path], {"Content-Type": "application/octet-stream"})


class ZendeskServer(ProtocolServer):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000
        self.gone = False
        self.viewer = 1
        self.exports: list[int] = []
        self.exports_a_minute = 10
        self.cdn = Cdn()
        self.users: dict[int, dict[str, Any]] = {}
        self.identities: list[dict[str, Any]] = []
        self.groups: dict[int, dict[str, Any]] = {}
        self.organizations: dict[int, dict[str, Any]] = {}
        self.group_memberships: list[dict[str, Any]] = []
        self.organization_memberships: list[dict[str, Any]] = []
        self.custom_roles: dict[int, dict[str, Any]] | None = None
        self.segments: dict[int, dict[str, Any]] = {}
        self.fields: dict[int, dict[str, Any]] = {}
        self.tickets: dict[int, dict[str, Any]] = {}
        self.comments: dict[int, list[dict[str, Any]]] = {}
        self.audits: dict[int, list[dict[str, Any]]] = {}
        self.articles: dict[int, dict[str, Any]] = {}
        self.archived: set[int] = set()
        self.unreadable: set[int] = set()
        self._next = 1000
        self.user(1, "Ada Admin", "admin", EMAIL)
        self._routes()

    # what a test writes

    def number(self) -> int:
        self._next += 1
        return self._next

    def tick(self) -> str:
        self.now += 1
        return stamp(self.now)

    def user(
        self, number: int, name: str, role: str, email: str, *, verified: bool = True, **more: Any
    ) -> int:
        with self.lock:
            self.users[number] = {
                "id": number,
                "name": name,
                "email": email,
                "role": role,
                "active": True,
                "suspended": False,
                "verified": verified,
                "organization_id": None,
                "custom_role_id": None,
                "tags": [],
                "ticket_restriction": None if role != "end-user" else "requested",
                "chat_only": False,
                **more,
            }
            self.identity(number, email, verified=verified, primary=True)
        return number

    def identity(self, user: int, value: str, *, verified: bool, primary: bool = False) -> None:
        row = {"id": self.number(), "user_id": user, "type": "email", "value": value}
        self.identities.append({**row, "verified": verified, "primary": primary})

    def join(
        self, user: int, *, group: int | None = None, organization: int | None = None, **more: Any
    ) -> None:
        if group is not None:
            self.groups.setdefault(group, {"id": group, "name": f"Group {group}", "is_public": True})
            self.group_memberships.append({"id": self.number(), "user_id": user, "group_id": group, **more})
        if organization is not None:
            row = {
                "id": self.number(),
                "user_id": user,
                "organization_id": organization,
                "view_tickets": True,
            }
            self.organization_memberships.append({**row, **more})
            if self.users[user]["organization_id"] is None:
                self.users[user]["organization_id"] = organization

    def organization(self, number: int, name: str, **more: Any) -> int:
        row = {
            "id": number,
            "name": name,
            "domain_names": [],
            "shared_tickets": False,
            "organization_fields": {},
        }
        self.organizations[number] = {**row, **more}
        return number

    def ticket(self, subject: str, text: str, *, requester: int = 1, **more: Any) -> int:
        with self.lock:
            number = self.number()
            at = self.tick()
            self.tickets[number] = {
                "id": number,
                "url": f"https://example.zendesk.com/api/v2/tickets/{number}.json",
                "subject": subject,
                "raw_subject": subject,
                "description": text,
                "type": None,
                "status": "new",
                "priority": None,
                "requester_id": requester,
                "submitter_id": requester,
                "assignee_id": None,
                "group_id": None,
                "organization_id": None,
                "tags": [],
                "problem_id": None,
                "custom_fields": [],
                "satisfaction_rating": None,
                "is_public": True,
                "followup_ids": [],
                "via": {"channel": "web", "source": {"from": {}, "to": {}, "rel": None}},
                "created_at": at,
                "updated_at": at,
                "generated_timestamp": self.now,
                "collaborator_ids": [],
                **more,
            }
            self.comments[number] = []
            self.audits[number] = []
            self._audit(number, requester, at, "Create", "status", None, self.tickets[number]["status"])
            self.comment(number, text, author=requester)
            return number

    def comment(
        self,
        ticket: int,
        text: str,
        *,
        author: int = 1,
        public: bool = True,
        files: dict[str, bytes] | None = None,
    ) -> int:
        with self.lock:
            at = self.tick()
            row = {
                "id": self.number(),
                "type": "Comment",
                "author_id": author,
                "body": text,
                "plain_body": text,
                "html_body": f'<div class="zd-comment">{escaped(text)}</div>',
                "public": public,
                "created_at": at,
                "attachments": [self.attachment(n, c) for n, c in (files or {}).items()],
            }
            self.comments[ticket].append(row)
            self.touch(ticket)
            return row["id"]

    def attachment(self, name: str, content: bytes, **more: Any) -> dict[str, Any]:
        number = self.number()
        self.cdn.files[f"/data/{number}"] = content
        row = {"id": number, "file_name": name, "content_type": "text/plain", "size": len(content)}
        url = f"/attachments/token/tok{number}/?name={name}"
        return {**row, "content_url": url, "inline": False, "deleted": False, **more}

    def update(self, ticket: int, **changes: Any) -> None:
        with self.lock:
            old = self.tickets[ticket]
            if "status" in changes and changes["status"] != "deleted":
                self._audit(
                    ticket, 1, stamp(self.now + 1), "Change", "status", old["status"], changes["status"]
                )
            self.tickets[ticket] = {**old, **changes}
            self.touch(ticket)

    def touch(self, ticket: int) -> None:
        self.tickets[ticket] |= {"updated_at": self.tick(), "generated_timestamp": self.now}

    def article(self, title: str, body: str, **more: Any) -> int:
        with self.lock:
            number, at = self.number(), self.tick()
            self.articles[number] = {
                "id": number,
                "title": title,
                "body": f"<p>{escaped(body)}</p>",
                "locale": "en-us",
                "draft": False,
                "user_segment_id": None,
                "label_names": [],
                "section_id": 7,
                "created_at": at,
                "updated_at": at,
                "html_url": f"https://example.zendesk.com/hc/en-us/articles/{number}",
                **more,
            }
            return number

    def revise(self, article: int, **changes: Any) -> None:
        with self.lock:
            self.articles[article] = {**self.articles[article], "updated_at": self.tick(), **changes}

    def close(self) -> None:
        self.cdn.close()
        super().close()

    def _audit(self, ticket: int, author: int, at: str, kind: str, name: str, old: Any, new: Any) -> None:
        event = {"id": self.number(), "type": kind, "field_name": name, "value": new}
        if kind == "Change":
            event["previous_value"] = old
        row = {
            "id": self.number(),
            "ticket_id": ticket,
            "created_at": at,
            "author_id": author,
            "events": [event],
        }
        self.audits[ticket].append(
            {**row, "via": {"channel": "web", "source": {"from": {}, "to": {}, "rel": None}}}
        )

    # what the connector reads

    def _routes(self) -> None:
        paged = "page[size] page[after]"
        self.route(r"/api/v2/users/me(?:\.json)?", "", lambda _: {"user": self.users[self.viewer]})
        self.route(
            r"/api/v2/tickets/count(?:\.json)?",
            "",
            lambda _: {"count": {"value": len(self.tickets), "refreshed_at": stamp(self.now)}},
        )
        self.route(
            r"/api/v2/incremental/tickets/cursor(?:\.json)?",
            "start_time cursor per_page include exclude_deleted support_type_scope",
            self._export,
        )
        self.route(rf"/api/v2/tickets/{ID}(?:\.json)?", "include", self._ticket_with)
        self.route(rf"/api/v2/tickets/{ID}/comments(?:\.json)?", f"{paged} include sort", self._comments)
        self.route(rf"/api/v2/tickets/{ID}/audits(?:\.json)?", paged, self._audits)
        for path, rows in (
            ("groups", lambda: list(self.groups.values())),
            ("group_memberships", lambda: self.group_memberships),
            ("organizations", lambda: list(self.organizations.values())),
            ("organization_memberships", lambda: self.organization_memberships),
            ("ticket_fields", lambda: list(self.fields.values())),
            ("help_center/user_segments", lambda: list(self.segments.values())),
            (
                "help_center/articles",
                lambda: [a for a in self.articles.values() if a["id"] not in self.archived],
            ),
        ):
            self.route(
                rf"/api/v2/{path}(?:\.json)?",
                paged,
                lambda request, key=path, rows=rows: self._page(request, key.rpartition("/")[2], rows()),
            )
        self.route(r"/api/v2/users(?:\.json)?", f"{paged} include role", self._users)
        self.route(r"/api/v2/custom_roles(?:\.json)?", "", self._roles)
        self.route(r"/api/v2/search/export(?:\.json)?", f"{paged} query filter[type]", self._search)
        self.route(rf"/api/v2/help_center/articles/{ID}(?:\.json)?", "", self._article)
        self.route(r"/api/v2/help_center/incremental/articles(?:\.json)?", "start_time", self._article_export)
        self.route(r"/attachments/token/tok(\d+)/", "name", self._attachment)

    def answer(self, request: Request) -> Reply:
        if self.gone:
            return Reply(404, b"<html>No help desk at this address</html>", {"Content-Type": "text/html"})
        self._authenticate(request)
        return self.dispatch(request)

    def _authenticate(self, request: Request) -> None:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and value in OAUTH:
            return
        try:
            known = scheme == "Basic" and base64.b64decode(value) == f"{EMAIL}/token:{TOKEN}".encode()
        except (binascii.Error, ValueError):
            known = False
        if not known:
            raise Refused(401, {"error": "Couldn't authenticate you"})

    def _admin(self) -> None:
        if self.users[self.viewer]["role"] != "admin":
            raise Refused(
                403, {"error": {"title": "Forbidden", "message": "You do not have access to this page."}}
            )

    def _limited(self) -> None:
        self.exports = [at for at in self.exports if at > self.now - 60]
        if len(self.exports) >= self.exports_a_minute:
            wait = self.exports[0] + 60 - self.now
            headers = {"Retry-After": str(wait), "X-Rate-Limit": "700", "X-Rate-Limit-Remaining": "600"}
            raise Refused(429, {"error": "APIRateLimitExceeded"}, headers)
        self.exports.append(self.now)

    def _export(self, request: Request) -> Any:
        self._admin()
        self._limited()
        query = request.query
        size = int(query.get("per_page", "1000"))
        include = set(query.get("include", "").split(",")) - {""}
        if not 1 <= size <= 1000 or include - SIDELOADS or ("cursor" in query) == ("start_time" in query):
            raise self.violation(400, f"export {query}")
        if "cursor" in query:
            after = cursor_of(query["cursor"])
        else:
            if int(query["start_time"]) > self.now - 60:
                raise Refused(422, {"error": "StartTimeTooRecent", "description": "Too recent start_time"})
            after = (int(query["start_time"]), -1)
        ready = [t for t in self.tickets.values() if t["generated_timestamp"] <= self.now - 60]
        rows = sorted(ready, key=lambda t: (t["generated_timestamp"], t["id"]))
        rows = [t for t in rows if (t["generated_timestamp"], t["id"]) > after]
        page = rows[:size]
        last = (page[-1]["generated_timestamp"], page[-1]["id"]) if page else after
        cursor = query.get("cursor") if not page else cursor_text(last)
        answer: dict[str, Any] = {
            "tickets": page,
            "after_cursor": cursor,
            "after_url": f"{request.base}{request.path}?cursor={cursor}" if cursor else None,
            "before_cursor": None,
            "before_url": None,
            "end_of_stream": len(rows) <= size,
        }
        people = {t[k] for t in page for k in ("requester_id", "submitter_id", "assignee_id") if t.get(k)}
        if "users" in include:
            answer["users"] = [self.users[n] for n in sorted(people) if n in self.users]
        if "organizations" in include:
            used = {t.get("organization_id") for t in page}
            answer["organizations"] = [row for n, row in sorted(self.organizations.items()) if n in used]
        return answer

    def _ticket(self, number: int, *, comments: bool = True) -> None:
        deleted = self.tickets.get(number, {}).get("status") == "deleted"
        if number not in self.tickets or deleted or (comments and number in self.unreadable):
            raise Refused(404, {"error": "RecordNotFound", "description": "Not found"})

    def _ticket_with(self, request: Request, number: int) -> Any:
        self._ticket(number, comments=False)
        ticket = self.tickets[number]
        people = [ticket[role] for role in ("requester_id", "submitter_id", "assignee_id") if ticket[role]]
        found: dict[str, Any] = {"ticket": ticket}
        for name in filter(None, request.query.get("include", "").split(",")):
            if name not in SIDELOADS:
                raise self.violation(400, f"sideload {name} of a ticket")
            if name == "users":
                found["users"] = [self.users[user] for user in dict.fromkeys(people)]
            if name == "organizations":
                found["organizations"] = [
                    row for n, row in self.organizations.items() if n == ticket["organization_id"]
                ]
        return found

    def _article(self, request: Request, number: int) -> Any:
        if number not in self.articles or number in self.archived:
            raise Refused(404, {"error": "RecordNotFound", "description": "Not found"})
        return {"article": self.articles[number]}

    def _comments(self, request: Request, number: int) -> Any:
        self._ticket(number)
        rows = [
            {**c, "attachments": [{**f, "content_url": self._absolute(request, f)} for f in c["attachments"]]}
            for c in self.comments[number]
        ]
        page = self._page(request, "comments", rows)
        include = request.query.get("include")
        if include not in (None, "users"):
            raise self.violation(400, f"sideload {include} of comments")
        if include:
            page["users"] = [self.users[n] for n in sorted({c["author_id"] for c in page["comments"]})]
        return page

    def _absolute(self, request: Request, file: dict[str, Any]) -> str:
        url = file["content_url"]
        return url if "://" in url else f"{request.base}{url}"

    def _audits(self, request: Request, number: int) -> Any:
        self._ticket(number)
        return self._page(request, "audits", self.audits[number])

    def _users(self, request: Request) -> Any:
        page = self._page(request, "users", [u for u in self.users.values() if u["active"]])
        include = set(request.query.get("include", "").split(",")) - {""}
        if include - {"organizations", "abilities", "roles", "identities", "groups"}:
            raise self.violation(400, f"sideloads {include} of users")
        if "identities" in include:
            shown = {user["id"] for user in page["users"]}
            page["identities"] = [row for row in self.identities if row["user_id"] in shown]
        return page

    def _roles(self, _: Request) -> Any:
        if self.custom_roles is None:
            raise Refused(404, {"error": "RecordNotFound"})
        return {"custom_roles": list(self.custom_roles.values()), "count": len(self.custom_roles)}

    def _search(self, request: Request) -> Any:
        if (
            request.query.get("filter[type]") != "ticket"
            or request.query.get("query") != "has_attachment:true"
        ):
            raise self.violation(422, f"search {request.query}")
        rows = [
            {"id": n, "result_type": "ticket"}
            for n, ticket in self.tickets.items()
            if ticket["status"] != "deleted" and any(c["attachments"] for c in self.comments[n])
        ]
        return self._page(request, "results", rows, limit=1000)

    def _page(
        self, request: Request, key: str, rows: list[dict[str, Any]], *, limit: int = 100
    ) -> dict[str, Any]:
        """https://developer.zendesk.com/api-reference/introduction/pagination: by cursor, or it's a violation."""
        size = int(request.query.get("page[size]", "0"))
        if not 1 <= size <= limit:
            raise self.violation(400, f"page[size] {size} of {request.path}")
        rows = sorted(rows, key=lambda row: row["id"])
        after = cursor_of(request.query["page[after]"])[1] if "page[after]" in request.query else -1
        rows = [row for row in rows if row["id"] > after]
        page = rows[:size]
        cursor = cursor_text((0, page[-1]["id"])) if page else None
        return {
            key: page,
            "meta": {"has_more": len(rows) > size, "after_cursor": cursor, "before_cursor": None},
            "links": {"next": None, "prev": None},
        }

    def _article_export(self, request: Request) -> Any:
        start = int(request.query["start_time"])
        rows = [a for a in self.articles.values() if a["id"] not in self.archived]
        rows = sorted(
            (a for a in rows if epoch(a["updated_at"]) >= start), key=lambda a: (a["updated_at"], a["id"])
        )
        page = rows[: self.article_page]
        while len(page) < len(rows) and rows[len(page)]["updated_at"] == page[-1]["updated_at"]:
            page.append(rows[len(page)])
        end = epoch(page[-1]["updated_at"]) if page else None
        more = len(rows) > len(page)
        following = f"{request.base}{request.path}?start_time={end}" if more else None
        return {"articles": page, "count": len(page), "end_time": end, "next_page": following}

    article_page = 50

    def _attachment(self, _: Request, number: int) -> Reply:
        return Reply(302, b"", {"Location": f"http://127.0.0.1:{self.cdn.port}/data/{number}"})


def stamp(at: int) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def epoch(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp())


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def cursor_text(position: tuple[int, int]) -> str:
    return base64.b64encode(f"{position[0]}||{position[1]}|".encode()).decode()


def cursor_of(text: str) -> tuple[int, int]:
    try:
        at, _, number = base64.b64decode(text, validate=True).decode().partition("||")
        return int(at), int(number.rstrip("|"))
    except ValueError:
        raise Refused(400, {"error": "InvalidCursor", "description": "Invalid cursor"}) from None
