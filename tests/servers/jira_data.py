"""A Jira site in memory: projects, people, schemes and issues, and who may see what.

The rights are evaluated for one person and one issue at a time, straight from the schemes, as
Atlassian's administration guide tells it; nothing here is shared with the connector.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from tests.servers.jira_jql import Row

EPOCH = dt.datetime(2026, 1, 5, 9, 0, tzinfo=dt.UTC)
Json = dict[str, Any]


def iso(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}+0000"


def doc(*paragraphs: str) -> Json:
    """Paragraphs in Atlassian Document Format."""
    content = [{"type": "paragraph", "content": [{"type": "text", "text": text}]} for text in paragraphs]
    return {"type": "doc", "version": 1, "content": content}


def holder(kind: str, name: str = "", *, parameter: str | None = None) -> Json:
    found = {"type": kind}
    if name:
        found |= {"parameter": parameter if parameter is not None else name, "value": name}
    return found


@dataclass
class Issue:
    id: int
    number: int
    project: int
    created: dt.datetime
    updated: dt.datetime
    fields: Json
    comments: list[Json] = field(default_factory=list)
    attachments: list[Json] = field(default_factory=list)
    changes: list[Json] = field(default_factory=list)
    links: list[Json] = field(default_factory=list)
    level: int | None = None


class Site:
    """`step`: how much later every write is than the one before."""

    def __init__(self, *, step: dt.timedelta = dt.timedelta(seconds=7)) -> None:
        self.step = step
        self.now = EPOCH
        self._next = 10_000
        self.users: dict[str, Json] = {}
        self.credentials: dict[tuple[str, str], str] = {}
        self.admins: set[str] = set()
        self.groups: dict[str, Json] = {}
        self.products: dict[str, list[str]] = {}
        self.roles: dict[int, str] = {}
        self.actors: dict[tuple[int, int], list[tuple[str, str]]] = {}
        self.projects: dict[int, Json] = {}
        self.grants: dict[int, list[Json]] = {}
        """by project, those of BROWSE_PROJECTS among others"""
        self.security: dict[int, dict[int, list[Json]]] = {}
        """by project, holders by level"""
        self.fields: list[Json] = []
        self.issues: dict[int, Issue] = {}
        self.contents: dict[int, bytes] = {}
        self.broken: set[int] = set()
        """issues that can't be loaded"""
        self.level_hidden: set[int] = set()
        """issues that don't show their security level"""
        self.indexed: dict[int, Row | None] = {}
        """what the search still believes of an issue, where that is not its present state"""

    def fresh_id(self) -> int:
        self._next += 1
        return self._next

    def tick(self) -> dt.datetime:
        self.now += self.step
        return self.now

    # ── people ───────────────────────────────────────────────────────────────

    def user(
        self, name: str, *groups: str, kind: str = "atlassian", active: bool = True, email: bool = True
    ) -> str:
        """An account `acc-name` with the token `token-name`."""
        account = f"acc-{name}"
        self.users[account] = {
            "accountId": account,
            "accountType": kind,
            "displayName": name.title(),
            "active": active,
            "timeZone": "Pacific/Auckland",
            **({"emailAddress": f"{name}@example.com"} if email else {}),
        }
        self.credentials[f"{name}@example.com", f"token-{name}"] = account
        for group in groups:
            self.group(group)["members"].append(account)
        return account

    def group(self, name: str) -> Json:
        return self.groups.setdefault(f"gid-{name}", {"name": name, "members": []})

    def role(self, name: str) -> int:
        number = self.fresh_id()
        self.roles[number] = name
        return number

    def project(self, key: str, *grants: Json, kind: str = "software", lead: str = "") -> int:
        number = self.fresh_id()
        self.projects[number] = {"id": str(number), "key": key, "projectTypeKey": kind, "lead": lead}
        self.grants[number] = [{"permission": "BROWSE_PROJECTS", "holder": grant} for grant in grants]
        self.grants[number].append({"permission": "CREATE_ISSUES", "holder": holder("anyone")})
        return number

    # ── issues ───────────────────────────────────────────────────────────────

    def create(
        self, project: int, summary: str, text: str = "", *, level: int | None = None, **fields: Any
    ) -> int:
        number, now = self.fresh_id(), self.tick()
        count = sum(issue.project == project for issue in self.issues.values())
        base = {"summary": summary, "description": doc(text) if text else None, "status": "Open"}
        self.issues[number] = Issue(number, count + 1, project, now, now, base | fields, level=level)
        return number

    def edit(self, number: int, **fields: Any) -> None:
        issue = self.issues[number]
        if "status" in fields:
            issue.changes.append(
                {
                    "id": str(self.fresh_id()),
                    "created": iso(self.now + self.step),
                    "items": [
                        {
                            "field": "status",
                            "fieldId": "status",
                            "fromString": issue.fields["status"],
                            "toString": fields["status"],
                        }
                    ],
                }
            )
        issue.fields |= fields
        issue.updated = self.tick()

    def comment(self, number: int, author: str, text: str, *, public: bool = True, **more: Any) -> int:
        name, now = self.fresh_id(), self.tick()
        issue = self.issues[number]
        issue.comments.append(
            {
                "id": str(name),
                "author": author,
                "body": doc(text),
                "created": iso(now),
                "updated": iso(now),
                "jsdPublic": public,
                **more,
            }
        )
        issue.updated = now
        return name

    def attach(self, number: int, author: str, filename: str, content: bytes, *, comment: int = 0) -> int:
        name, now = self.fresh_id(), self.tick()
        issue = self.issues[number]
        issue.attachments.append(
            {
                "id": str(name),
                "author": author,
                "filename": filename,
                "created": iso(now),
                "size": len(content),
                "mimeType": "text/plain",
                "comment": comment,
            }
        )
        self.contents[name] = content
        issue.updated = now
        return name

    def link(self, number: int, other: int, name: str, inward: str, outward: str) -> None:
        kind = {"id": "1", "name": name, "inward": inward, "outward": outward}
        self.issues[number].links.append({"type": kind, "outwardIssue": other})
        self.issues[other].links.append({"type": kind, "inwardIssue": number})
        self.issues[number].updated = self.issues[other].updated = self.tick()

    def delete(self, number: int) -> None:
        del self.issues[number]
        self.tick()

    def move(self, number: int, project: int) -> None:
        issue = self.issues[number]
        issue.number = 1000 + sum(other.project == project for other in self.issues.values())
        issue.project, issue.updated = project, self.tick()

    def key(self, issue: Issue) -> str:
        return f"{self.projects[issue.project]['key']}-{issue.number}"

    # ── rights ───────────────────────────────────────────────────────────────

    def can_log_in(self, account: str) -> bool:
        user = self.users[account]
        return (
            user["active"]
            and user["accountType"] == "atlassian"
            and any(account in self.groups[g]["members"] for found in self.products.values() for g in found)
        )

    def holds(self, account: str, who: Json, project: int, issue: Issue | None) -> bool:
        """Whether `who` is `account`. Without an issue its reporter and assignee count as anybody."""
        name = who.get("value", "")
        if who["type"] in ("reporter", "assignee"):
            return issue is None or issue.fields.get(who["type"]) == account
        if who["type"] == "userCustomField":
            return issue is None or issue.fields.get(name) == account
        if who["type"] == "anyone":
            return True
        if who["type"] == "applicationRole":
            products = self.products.values() if not name else [self.products.get(name, [])]
            return any(account in self.groups[g]["members"] for found in products for g in found)
        if who["type"] == "group":
            return name in self.groups and account in self.groups[name]["members"]
        if who["type"] == "user":
            return account == name
        if who["type"] == "projectLead":
            return self.projects[project]["lead"] == account
        if who["type"] == "projectRole":
            return self.in_role(account, project, int(name))
        return False

    def in_role(self, account: str, project: int, role: int) -> bool:
        for kind, name in self.actors.get((project, role), []):
            if name == account or (kind == "group" and account in self.groups[name]["members"]):
                return True
        return False

    def may_browse(self, account: str, project: int, issue: Issue | None = None) -> bool:
        return self.can_log_in(account) and any(
            self.holds(account, grant["holder"], project, issue)
            for grant in self.grants[project]
            if grant["permission"] == "BROWSE_PROJECTS"
        )

    def may_see(self, account: str, issue: Issue) -> bool:
        if not self.may_browse(account, issue.project, issue):
            return False
        if issue.level is None:
            return True
        return any(
            self.holds(account, who, issue.project, issue)
            for who in self.security[issue.project][issue.level]
        )

    def may_see_comment(self, account: str, issue: Issue, comment: Json) -> bool:
        visibility = comment.get("visibility")
        if not self.may_see(account, issue):
            return False
        if not visibility:
            return True
        if visibility["type"] == "group":
            return account in self.groups[visibility["identifier"]]["members"]
        return any(
            name == visibility["value"] and self.in_role(account, issue.project, number)
            for number, name in self.roles.items()
        )
