"""Jira Cloud's REST API as Atlassian documents it, before a `Site` in memory, on loopback.

It refuses what they refuse: wrong credentials, unknown parameters, `startAt` in the search, JQL
without a restriction, what an account may not see or administer. Pages of the search are counted
by position when `offset` is set, as nothing documented rules out, else by value.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from tests.servers.jira_data import Issue, Json, Site, iso
from tests.servers.jira_jql import BadQuery, Row, Setting, parse

INLINE_COMMENTS = 20
BASE = "https://desk.example.net"
"""what the site calls itself"""


@dataclass
class Refusal(Exception):
    status: int
    message: str = ""


@dataclass
class Call:
    """A request, and once `status` is set its answer."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    account: str
    status: int = 0
    answer: Any = None


Handler = Callable[["JiraServer", Call, re.Match[str]], Any]
ROUTES: list[tuple[str, re.Pattern[str], frozenset[str], Handler]] = []


def route(method: str, path: str, *parameters: str) -> Callable[[Handler], Handler]:
    """Register a handler; `parameters` are those of the query, or the keys of a body."""

    def register(handler: Handler) -> Handler:
        ROUTES.append((method, re.compile(path), frozenset(parameters), handler))
        return handler

    return register


@dataclass
class JiraServer:
    site: Site
    offset: bool = True
    id_cap: int = 5000
    field_cap: int = 100
    page_cap: int = 50
    """rows of other lists"""
    calls: list[Call] = field(default_factory=list[Call])
    before_answer: Callable[[Call], None] | None = None
    """called once a request was worked out, to change the site meanwhile"""
    refuse: dict[str, int] = field(default_factory=dict[str, int])
    """paths' ends that are answered with a status"""

    def __post_init__(self) -> None:
        outer = self
        self.lock = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: apart, the second waits for the first's receipt

            def do_GET(self) -> None:
                with outer.lock:
                    call, status, content, kind = outer.serve(self)
                    if outer.before_answer and call is not None:
                        outer.before_answer(call)
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", "1")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None: ...

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that went away."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, request: http.server.BaseHTTPRequestHandler) -> tuple[Call | None, int, bytes, str]:
        size = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(size) if size else b""
        parts = urlsplit(request.path)
        call = None
        try:
            account = self.account(request.headers.get("Authorization", ""))
            query = parse_qs(parts.query, keep_blank_values=True)
            call = Call(request.command, parts.path, query, json.loads(body) if body else None, account)
            self.calls.append(call)
            call.answer = self.dispatch(call)
            call.status = 200
        except Refusal as refusal:
            answer = {"errorMessages": [refusal.message], "errors": {}}
            if call is not None:
                call.status, call.answer = refusal.status, answer
            return call, refusal.status, json.dumps(answer).encode(), "application/json;charset=UTF-8"
        if isinstance(call.answer, bytes):
            return call, 200, call.answer, "application/octet-stream"
        return call, 200, json.dumps(call.answer).encode(), "application/json;charset=UTF-8"

    def account(self, header: str) -> str:
        kind, _, value = header.partition(" ")
        try:
            email, _, token = base64.b64decode(value).decode().partition(":")
        except ValueError:
            email, token = "", ""
        account = self.site.credentials.get((email, token))
        if kind != "Basic" or account is None:
            raise Refusal(401, "Client must be authenticated to access this resource.")
        return account

    def dispatch(self, call: Call) -> Any:
        for end, status in self.refuse.items():
            if call.path.endswith(end):
                raise Refusal(status, "refused by the test")
        known = [entry for entry in ROUTES if entry[1].fullmatch(call.path)]
        if not known:
            raise Refusal(404, f"No such resource: {call.path}")
        for method, path, parameters, handler in known:
            if method == call.method:
                given = set(call.query) | set(call.body or {})
                if not given <= parameters:
                    raise Refusal(400, f"Unknown: {sorted(given - parameters)}")
                match = path.fullmatch(call.path)
                assert match
                return handler(self, call, match)
        raise Refusal(405)

    # ── pieces ───────────────────────────────────────────────────────────────

    def need_admin(self, call: Call) -> None:
        if call.account not in self.site.admins:
            raise Refusal(403, "You need the permission Administer Jira.")

    def user(self, account: str) -> Json:
        known = self.site.users[account]
        return {key: value for key, value in known.items() if key != "timeZone"}

    def project_json(self, number: int, *, lead: bool = True) -> Json:
        project = self.site.projects[number]
        found = {key: project[key] for key in ("id", "key", "projectTypeKey")}
        found |= {"name": project["key"].title(), "self": f"{BASE}/rest/api/3/project/{number}"}
        if lead and project["lead"]:
            found["lead"] = self.user(project["lead"])
        return found

    def project(self, call: Call, name: str) -> int:
        for number, project in self.site.projects.items():
            if name in (str(number), project["key"]) and (
                self.site.may_browse(call.account, number) or call.account in self.site.admins
            ):
                return number
        raise Refusal(404, f"No project could be found with id or key '{name}'.")

    def issue(self, call: Call, name: str) -> Issue:
        issue = self.site.issues.get(int(name)) if name.isdigit() else None
        if issue is None:
            issue = next((i for i in self.site.issues.values() if self.site.key(i) == name), None)
        if issue is not None and self.site.may_see(call.account, issue):
            if issue.id in self.site.broken:
                raise Refusal(500, "The issue could not be loaded.")
            return issue
        raise Refusal(404, "Issue does not exist or you do not have permission to see it.")

    def page(self, call: Call, rows: list[Any]) -> Json:
        start = number(call, "startAt", 0)
        size = min(number(call, "maxResults", self.page_cap), self.page_cap)
        values = rows[start : start + size]
        return {
            "startAt": start,
            "maxResults": size,
            "total": len(rows),
            "isLast": start + size >= len(rows),
            "values": values,
        }

    def row(self, issue: Issue) -> Row:
        return Row(
            issue.id,
            issue.project,
            (self.site.projects[issue.project]["key"], issue.number),
            issue.created,
            issue.updated,
            bool(issue.attachments),
            dict(issue.fields),
        )

    def rows(self, call: Call, jql: object) -> list[Row]:
        """What the search finds: its own, possibly old, state of what may be seen now."""
        site = self.site
        visible = {n for n in site.projects if site.may_browse(call.account, n)}
        names = {str(n): n for n in visible} | {site.projects[n]["key"]: n for n in visible}
        zone = ZoneInfo(site.users[call.account]["timeZone"])
        try:
            test, order = parse(str(jql or ""), Setting(site.now, zone, names))
        except BadQuery as error:
            raise Refusal(400, str(error)) from None
        found: list[Row] = []
        for issue in site.issues.values():
            row = site.indexed.get(issue.id, self.row(issue))
            if row is not None and site.may_see(call.account, issue) and test(row):
                found.append(row)
        found.sort(key=lambda row: row.id)
        for name, falls in reversed(order):
            found.sort(key=lambda row, name=name: getattr(row, name), reverse=falls)
        return found

    def fields(self, issue: Issue, wanted: list[str], account: str) -> Json:
        if wanted == ["updated"]:
            return {"updated": iso(issue.updated)}
        everything = self._fields(issue, account)
        if "*all" in wanted:
            return everything
        return {name: everything[name] for name in wanted if name in everything}

    def _fields(self, issue: Issue, account: str) -> Json:
        site = self.site
        comments = [self.comment(c) for c in issue.comments if site.may_see_comment(account, issue, c)]
        parent = site.issues.get(issue.fields.get("parent") or 0)
        own = {
            **issue.fields,
            "status": {"id": "1", "name": issue.fields["status"]},
            "created": iso(issue.created),
            "updated": iso(issue.updated),
            "project": self.project_json(issue.project, lead=False),
            "reporter": self._person(issue, "reporter"),
            "assignee": self._person(issue, "assignee"),
            "security": None if issue.level is None else {"id": str(issue.level), "name": f"L{issue.level}"},
            "comment": {
                "comments": comments[:INLINE_COMMENTS],
                "total": len(comments),
                "maxResults": min(len(comments), INLINE_COMMENTS),
                "startAt": 0,
            },
            "attachment": [self.attachment(row) for row in issue.attachments],
            "issuelinks": [self._link(row) for row in issue.links],
            "subtasks": [self._short(o) for o in site.issues.values() if o.fields.get("parent") == issue.id],
        }
        if parent is not None:
            own["parent"] = self._short(parent)
        if issue.id in site.level_hidden:
            del own["security"]
        return own

    def _person(self, issue: Issue, role: str) -> Json | None:
        account = issue.fields.get(role)
        return self.user(account) if account else None

    def _short(self, issue: Issue) -> Json:
        return {
            "id": str(issue.id),
            "key": self.site.key(issue),
            "fields": {"summary": issue.fields["summary"]},
        }

    def _link(self, row: Json) -> Json:
        side = "outwardIssue" if "outwardIssue" in row else "inwardIssue"
        other = self.site.issues.get(row[side])
        return {"type": row["type"], **({side: self._short(other)} if other else {})}

    def comment(self, row: Json) -> Json:
        return {**row, "author": self.user(row["author"])}

    def attachment(self, row: Json) -> Json:
        shown = {key: value for key, value in row.items() if key != "comment"}
        return {
            **shown,
            "author": self.user(row["author"]),
            "content": f"{BASE}/rest/api/3/attachment/content/{row['id']}",
        }


def number(call: Call, name: str, default: int) -> int:
    value = call.query.get(name, [str(default)])[-1]
    if not value.isdigit():
        raise Refusal(400, f"{name} is no number.")
    return int(value)


# ── the site ─────────────────────────────────────────────────────────────────


@route("GET", r"/rest/api/3/serverInfo")
def server_info(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    return {"baseUrl": BASE, "deploymentType": "Cloud", "version": "1001.0.0"}


@route("GET", r"/rest/api/3/myself", "expand")
def myself(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    return dict(server.site.users[call.account])


@route("GET", r"/rest/api/3/field")
def fields(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    return [{"id": "summary", "key": "summary", "name": "Summary", "custom": False}, *server.site.fields]


@route("GET", r"/rest/api/3/project/search", "keys", "action", "expand", "startAt", "maxResults")
def project_search(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    keys = call.query.get("keys", [])
    if len(keys) > 50:
        raise Refusal(400, "Up to 50 keys.")
    site, browse = server.site, call.query.get("action") == ["browse"]
    found = [
        server.project_json(n, lead="lead" in call.query.get("expand", []))
        for n, project in site.projects.items()
        if (not keys or project["key"] in keys)
        and (site.may_browse(call.account, n) or (not browse and call.account in site.admins))
    ]
    return server.page(call, found)


@route("GET", r"/rest/api/3/project/([^/]+)", "expand", "properties")
def project_get(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    return server.project_json(server.project(call, match[1]))


@route("GET", r"/rest/api/3/project/([^/]+)/role")
def project_roles(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    project = server.project(call, match[1])
    return {
        name: f"{BASE}/rest/api/3/project/{project}/role/{role}" for role, name in server.site.roles.items()
    }


@route("GET", r"/rest/api/3/project/([^/]+)/role/(\d+)", "excludeInactiveUsers")
def project_role(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    project, role, site = server.project(call, match[1]), int(match[2]), server.site
    if role not in site.roles:
        raise Refusal(404, "No role.")
    actors: list[Json] = []
    for kind, name in site.actors.get((project, role), []):
        if kind == "user":
            actors.append({"type": "atlassian-user-role-actor", "actorUser": {"accountId": name}})
        else:
            group = {"groupId": name, "name": site.groups[name]["name"]}
            actors.append({"type": "atlassian-group-role-actor", "actorGroup": group})
    return {"id": role, "name": site.roles[role], "actors": actors}


@route("GET", r"/rest/api/3/project/([^/]+)/permissionscheme", "expand")
def permission_scheme(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    server.need_admin(call)
    project = server.project(call, match[1])
    found: Json = {"id": project, "name": f"Scheme of {project}"}
    if "permissions" in ",".join(call.query.get("expand", [])):
        found["permissions"] = server.site.grants[project]
    return found


@route("GET", r"/rest/api/3/project/([^/]+)/issuesecuritylevelscheme")
def security_scheme(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    server.need_admin(call)
    project = server.project(call, match[1])
    levels = server.site.security.get(project)
    if levels is None:
        raise Refusal(404, "The project has no issue security scheme.")
    rows = [{"id": str(level), "name": f"L{level}", "self": f"{BASE}/level/{level}"} for level in levels]
    return {"id": project, "name": "Levels", "levels": rows}


@route(
    "GET",
    r"/rest/api/3/issuesecurityschemes/level/member",
    *("startAt", "maxResults", "id", "schemeId", "levelId", "expand"),
)
def security_members(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    server.need_admin(call)
    rows = [
        {
            "id": f"{level}-{n}",
            "issueSecurityLevelId": str(level),
            "issueSecuritySchemeId": str(scheme),
            "holder": who,
        }
        for scheme, levels in server.site.security.items()
        for level, holders in levels.items()
        for n, who in enumerate(holders)
        if str(scheme) in call.query.get("schemeId", [str(scheme)])
    ]
    return server.page(call, rows)


@route("GET", r"/rest/api/3/applicationrole")
def application_roles(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    server.need_admin(call)
    return [
        {"key": key, "name": key, "groupDetails": [{"groupId": g, "name": g[4:]} for g in groups]}
        for key, groups in server.site.products.items()
    ]


@route("GET", r"/rest/api/3/group/bulk", "startAt", "maxResults", "groupId", "groupName")
def group_bulk(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    server.need_admin(call)
    rows = [{"groupId": name, "name": group["name"]} for name, group in server.site.groups.items()]
    return server.page(call, rows)


@route(
    "GET",
    r"/rest/api/3/group/member",
    *("groupId", "groupname", "includeInactiveUsers", "startAt", "maxResults"),
)
def group_member(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    server.need_admin(call)
    group = server.site.groups.get(call.query.get("groupId", [""])[0])
    if group is None:
        raise Refusal(404, "The group does not exist.")
    inactive = call.query.get("includeInactiveUsers") == ["true"]
    users = [server.site.users[account] for account in group["members"]]
    return server.page(call, [user for user in users if user["active"] or inactive])


# ── issues ───────────────────────────────────────────────────────────────────


@route("GET", r"/rest/api/3/search")
@route("POST", r"/rest/api/3/search")
def old_search(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    raise Refusal(
        410, "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API."
    )


@route(
    "POST",
    r"/rest/api/3/search/jql",
    *(
        "jql",
        "nextPageToken",
        "maxResults",
        "fields",
        "expand",
        "fieldsByKeys",
        "properties",
        "reconcileIssues",
    ),
)
def search(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    body = call.body or {}
    wanted = body.get("fields", ["id"])
    cap = server.id_cap if set(wanted) <= {"id", "key"} else server.field_cap
    size = min(int(body.get("maxResults", 50)), cap)
    rows = server.rows(call, body.get("jql"))
    seal = hashlib.sha1(f"{body.get('jql')}{wanted}".encode()).hexdigest()
    start = 0
    if token := body.get("nextPageToken"):
        try:
            made_for, position, last = json.loads(base64.b64decode(token))
        except ValueError:
            raise Refusal(400, "The nextPageToken is invalid.") from None
        if made_for != seal:
            raise Refusal(400, "The nextPageToken belongs to another query.")
        start = position
        if not server.offset:
            keys = [[iso(row.updated), row.id] for row in rows]
            start = sum(key <= last for key in keys)
    page = rows[start : start + size]
    found: Json = {"issues": [shown(server, call, row, wanted) for row in page]}
    found["isLast"] = start + size >= len(rows)
    if not found["isLast"]:
        key = [iso(page[-1].updated), page[-1].id]
        found["nextPageToken"] = base64.b64encode(json.dumps([seal, start + size, key]).encode()).decode()
    return found


def shown(server: JiraServer, call: Call, row: Row, wanted: list[str]) -> Json:
    found: Json = {"id": str(row.id)}
    if set(wanted) - {"id"}:
        issue = server.site.issues[row.id]
        fields = server.fields(issue, wanted, call.account)
        if "updated" in fields:
            fields["updated"] = iso(row.updated)
        found |= {
            "key": server.site.key(issue),
            "self": f"{BASE}/rest/api/3/issue/{row.id}",
            "fields": fields,
        }
    return found


@route("POST", r"/rest/api/3/search/approximate-count", "jql")
def approximate_count(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    return {"count": len(server.rows(call, (call.body or {}).get("jql")))}


@route("POST", r"/rest/api/3/jql/match", "issueIds", "jqls")
def jql_match(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    asked = set(call.body["issueIds"])
    found = ([row.id for row in server.rows(call, jql) if row.id in asked] for jql in call.body["jqls"])
    return {"matches": [{"matchedIssues": ids, "errors": []} for ids in found]}


@route(
    "POST",
    r"/rest/api/3/issue/bulkfetch",
    *("issueIdsOrKeys", "fields", "expand", "fieldsByKeys", "properties"),
)
def bulk_fetch(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    names = call.body["issueIdsOrKeys"]
    if not 1 <= len(names) <= 100:
        raise Refusal(400, "From 1 to 100 issues.")
    wanted = call.body.get("fields", ["*navigable"])
    found: dict[int, Json] = {}
    errors: list[Json] = []
    for name in names:
        try:
            issue = server.issue(call, name)
        except Refusal as refusal:
            errors.append({"id": name, "errorMessage": refusal.message})
            continue
        found[issue.id] = {
            "id": str(issue.id),
            "key": server.site.key(issue),
            "self": f"{BASE}/rest/api/3/issue/{issue.id}",
            "fields": server.fields(issue, wanted, call.account),
        }
    return {"issues": [found[n] for n in sorted(found)], "issueErrors": errors}


@route(
    "POST", r"/rest/api/3/changelog/bulkfetch", "issueIdsOrKeys", "fieldIds", "maxResults", "nextPageToken"
)
def bulk_changes(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    body = call.body
    if not 1 <= len(body["issueIdsOrKeys"]) <= 1000 or len(body.get("fieldIds", [])) > 10:
        raise Refusal(400, "Too many issues or fields.")
    rows: list[tuple[str, str, Json]] = []
    for name in body["issueIdsOrKeys"]:
        issue = server.issue(call, name)
        rows += [(str(change["created"]), str(issue.id), change) for change in issue.changes]
    rows.sort(key=lambda row: row[:2])
    start, size = int(body.get("nextPageToken", 0)), min(int(body.get("maxResults", 1000)), server.page_cap)
    found: dict[str, list[Json]] = {}
    for _, name, change in rows[start : start + size]:
        found.setdefault(name, []).append(change)
    answer: Json = {"issueChangeLogs": [{"issueId": k, "changeHistories": v} for k, v in found.items()]}
    if start + size < len(rows):
        answer["nextPageToken"] = str(start + size)
    return answer


@route("GET", r"/rest/api/3/issue/([^/]+)", "fields", "expand")
def issue_get(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    issue = server.issue(call, match[1])
    wanted = ",".join(call.query.get("fields", ["*all"])).split(",")
    return {
        "id": str(issue.id),
        "key": server.site.key(issue),
        "fields": server.fields(issue, wanted, call.account),
    }


@route("GET", r"/rest/api/3/issue/([^/]+)/comment", "startAt", "maxResults", "orderBy", "expand")
def comments(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    issue = server.issue(call, match[1])
    rows = [
        server.comment(row) for row in issue.comments if server.site.may_see_comment(call.account, issue, row)
    ]
    page = server.page(call, rows)
    return {"comments": page["values"], **{k: page[k] for k in ("startAt", "maxResults", "total")}}


@route("GET", r"/rest/api/3/attachment/content/(\d+)", "redirect")
def attachment_content(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    for issue in server.site.issues.values():
        if any(row["id"] == match[1] for row in issue.attachments) and server.site.may_see(
            call.account, issue
        ):
            if call.query.get("redirect") != ["false"]:
                raise Refusal(303)
            return server.site.contents[int(match[1])]
    raise Refusal(404, f"The attachment with id '{match[1]}' does not exist.")


@route(
    "GET",
    r"/rest/servicedeskapi/request/([^/]+)/comment",
    *("public", "internal", "expand", "start", "limit"),
)
def request_comments(server: JiraServer, call: Call, match: re.Match[str]) -> Any:
    issue = server.issue(call, match[1])
    if server.site.projects[issue.project]["projectTypeKey"] != "service_desk":
        raise Refusal(404, "The request does not exist.")
    rows = [
        {
            "id": row["id"],
            "public": row["jsdPublic"],
            "attachments": {
                "values": [
                    {
                        "filename": file["filename"],
                        "_links": {"jiraRest": f"{BASE}/rest/api/2/attachment/{file['id']}"},
                    }
                    for file in issue.attachments
                    if str(file["comment"]) == row["id"]
                ]
            },
        }
        for row in issue.comments
        if row["jsdPublic"] or call.query.get("internal", ["true"]) == ["true"]
    ]
    start, limit = number(call, "start", 0), min(number(call, "limit", 50), server.page_cap)
    return {
        "start": start,
        "limit": limit,
        "size": len(rows[start : start + limit]),
        "isLastPage": start + limit >= len(rows),
        "values": rows[start : start + limit],
    }
