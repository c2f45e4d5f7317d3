"""Who may read what in Jira: permission schemes, roles, security levels and groups as memberships.

An issue has two locks: the right to browse its project and, where it has a security level, a
place in that level. Both are lists of holders, and some holders depend on the issue (its
reporter, its assignee). Tokens open a document one by one, so what must hold together is worked
out here, into a group for each project and level, and one for a user's own issues in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from assistant.errors import SourceBusy
from assistant.model import Member
from connectors.http import Http
from connectors.jira.issue import token
from connectors.jira.values import Json

BROWSE = "BROWSE_PROJECTS"
PORTAL_ONLY = "sd.customer.portal.only"
"""customers see their own requests in the portal; that is no right to browse"""
OWN = ("assignee", "reporter", "assignee+reporter")
_PAGE = 100


@dataclass(slots=True)
class Holders:
    """Who a scheme lets in: `users` always, and whoever is an issue's `own` (reporter, assignee)."""

    users: set[str] = field(default_factory=set[str])
    own: set[str] = field(default_factory=set[str])
    unknown: set[str] = field(default_factory=set[str])
    """types of holders that are not understood; nobody is let in by them"""

    def admits(self, user: str, roles: str = "") -> bool:
        return user in self.users or not self.own.isdisjoint(roles.split("+"))


def values(http: Http, path: str, *, gone: bool = False, **params: Any) -> Iterator[Json]:
    """The rows of a list that comes in pages by position; none where it is 404 and may be `gone`."""
    start, accept = 0, (404,) if gone else ()
    while True:
        query = {**params, "startAt": start, "maxResults": _PAGE}
        page = decoded(http.json("GET", path, params=query, accept=accept))
        rows = cast("list[Json]", page.get("values") or [])
        yield from rows
        start += len(rows)
        # `isLast` alone is not relied on: not all pages of Jira's have it.
        if not rows or page.get("isLast") is True or start >= int(page.get("total") or start + 1):
            return


class Rights:
    """What is read once for a run. Raises what `Http` raises; a right that can't be read is given to nobody."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._people: dict[str, Json] = {}
        self.group = cache(self._group)
        self.applications = cache(self._applications)
        self.licensed = cache(self._licensed)

    def members(self, projects: Sequence[Json]) -> Iterator[Member]:
        licensed = self.licensed()
        groups: dict[str, set[str]] = {user: set() for user in licensed}
        for project in projects:
            self._of_project(project, licensed, groups)
        for row in values(self._http, "rest/api/3/group/bulk"):  # a comment may be for any of them
            for user in self.group(str(row["groupId"])) & licensed:
                groups[user].add(f"group:{row['groupId']}")
        for user in sorted(licensed):
            row = self._people[user]
            yield Member(
                user,
                email=str(row.get("emailAddress") or ""),
                name=str(row.get("displayName") or ""),
                groups=frozenset(groups[user]),
            )

    def undetermined(self, projects: Sequence[Json]) -> list[str]:
        """What can't be worked out, in words for an admin."""
        notes: list[str] = []
        for project in projects:
            browse, levels = self.browse(project), self.levels(project)
            for where, holders in [
                ("Browse projects", browse),
                *((f"level {k}", v) for k, v in levels.items()),
            ]:
                if holders.unknown:
                    kinds = ", ".join(sorted(holders.unknown))
                    notes.append(f"{project['key']}, {where}: {kinds}")
        return notes

    def _of_project(self, project: Json, licensed: frozenset[str], groups: dict[str, set[str]]) -> None:
        """Put each licensed user into the groups that open this project's issues to them."""
        number, browse = str(project["id"]), self.browse(project)
        everything = Holders(users=set(licensed))
        for level, inside in {"": everything, **self.levels(project)}.items():
            for user in licensed:
                if browse.admits(user) and inside.admits(user):
                    groups[user].add(token(number, level))
                    continue
                for own in OWN:
                    if browse.admits(user, own) and inside.admits(user, own):
                        groups[user].add(token(number, level, own, user))
        for role, users in self.roles(project).items():
            for user in users & licensed:
                groups[user].add(f"project:{number}:role:{role}")

    def browse(self, project: Json) -> Holders:
        path = f"rest/api/3/project/{project['id']}/permissionscheme"
        scheme = asked(self._http, path, none=(403, 404), expand="permissions")
        if scheme is None:
            return Holders(unknown={"its permission scheme can't be read"})
        grants = cast("list[Json]", scheme.get("permissions") or [])
        return self._holders(
            project, [row.get("holder") for row in grants if row.get("permission") == BROWSE]
        )

    def levels(self, project: Json) -> dict[str, Holders]:
        """Holders by the id of the security level."""
        scheme = security_scheme(self._http, str(project["id"]))
        if scheme is None:
            return {}
        holders: dict[str, list[object]] = {str(row["id"]): [] for row in scheme.get("levels") or []}
        for row in values(
            self._http, "rest/api/3/issuesecurityschemes/level/member", schemeId=str(scheme["id"])
        ):
            holders.setdefault(str(row["issueSecurityLevelId"]), []).append(row.get("holder"))
        return {level: self._holders(project, rows) for level, rows in holders.items()}

    def roles(self, project: Json) -> dict[str, set[str]]:
        """Accounts by the id of the role they have in this project."""
        return {role: self._role(str(project["id"]), role) for role in role_ids(self._http, project).values()}

    def _holders(self, project: Json, rows: Sequence[object]) -> Holders:
        found = Holders()
        for row in rows:
            holder = cast(Json, row) if isinstance(row, Mapping) else {}
            kind = str(holder.get("type") or "a holder without a type")
            # `value` is the lasting identifier; `parameter` is a group's name, which may change.
            named = str(holder.get("value") or ("" if kind == "group" else holder.get("parameter") or ""))
            if kind in ("reporter", "assignee"):
                found.own.add(kind)
            elif kind == PORTAL_ONLY:
                continue
            elif (users := self._static(kind, named, project)) is None:
                found.unknown.add(kind)
            else:
                found.users |= users
        return found

    def _static(self, kind: str, named: str, project: Json) -> set[str] | None:
        """The accounts a holder stands for, whatever the issue; None where that is not known."""
        match kind:
            case "anyone":
                return set(self.licensed())
            case "applicationRole":
                return set(self.licensed()) if not named else self._application(named)
            case "group" if named:
                return set(self.group(named))
            case "user" if named:
                return {named}
            case "projectLead":
                lead = (project.get("lead") or {}).get("accountId")
                return {str(lead)} if lead else set()
            case "projectRole" if named:
                return self._role(str(project["id"]), named)
            case _:
                return None

    def _role(self, project: str, role: str) -> set[str]:
        users: set[str] = set()
        for actor in self._actors(project, role):
            if user := (actor.get("actorUser") or {}).get("accountId"):
                users.add(str(user))
            elif group := (actor.get("actorGroup") or {}).get("groupId"):
                users |= self.group(str(group))
        return users

    def _actors(self, project: str, role: str) -> list[Json]:
        # A role that is gone from the project has nobody in it.
        found = asked(self._http, f"rest/api/3/project/{project}/role/{role}", none=(404,))
        return cast("list[Json]", (found or {}).get("actors") or [])

    def _applications(self) -> dict[str, list[str]]:
        """Ids of the groups that give access to each product."""
        rows = cast("list[Json]", self._http.json("GET", "rest/api/3/applicationrole"))
        return {
            str(row.get("key")): [
                str(g["groupId"])
                for g in cast("list[Json]", row.get("groupDetails") or [])
                if g.get("groupId")
            ]
            for row in rows
        }

    def _application(self, key: str) -> set[str] | None:
        groups = self.applications().get(key)
        return None if groups is None else set[str]().union(*map(self.group, groups))

    def _licensed(self) -> frozenset[str]:
        """People who can log in to Jira at all: without a product's group no other right counts."""
        groups = {group for found in self.applications().values() for group in found}
        return frozenset[str]().union(*map(self.group, sorted(groups)))

    def _group(self, name: str) -> frozenset[str]:
        """Active people of a group; customers of a portal and apps are none."""
        users: set[str] = set()
        rows = values(self._http, "rest/api/3/group/member", gone=True, groupId=name)
        for row in rows:
            account = str(row.get("accountId") or "")
            if account and row.get("active") is True and row.get("accountType") == "atlassian":
                self._people[account] = row
                users.add(account)
        return frozenset(users)


def security_scheme(http: Http, project: str) -> Json | None:
    """The project's; None where it has none. Raises `SourceRefused` where that may not be asked."""
    return asked(http, f"rest/api/3/project/{project}/issuesecuritylevelscheme", none=(404,))


def asked(http: Http, path: str, *, none: tuple[int, ...], **params: str) -> Json | None:
    """An object; None where the answer's status is one of `none`."""
    response = http.get(path, params=params, accept=none)
    if not response.is_success:
        return None
    try:
        return decoded(response.json())
    except ValueError:
        return decoded(None)


def role_ids(http: Http, project: Json) -> dict[str, str]:
    """Ids of a project's roles by name; they come as the last piece of an address."""
    found = cast("dict[str, str]", http.json("GET", f"rest/api/3/project/{project['id']}/role"))
    return {name: address.rstrip("/").rpartition("/")[2] for name, address in found.items()}


def decoded(value: object) -> Json:
    if not isinstance(value, dict):
        raise SourceBusy("Jira answered with something else than was asked for. Nothing was changed.")
    return cast(Json, value)
