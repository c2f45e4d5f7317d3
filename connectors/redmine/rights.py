"""Who may read what in Redmine: its roles, memberships and visibilities as groups.

For project 3 the groups are
`project:3:issues:T`          issues of tracker T that are not private
`project:3:private-issues:T`  the private ones too
`project:3:own:T:P`           those that P, a user or a group, wrote or has been assigned; a group of
                              its own, because whoever lost the project lost his own issues in it too
`project:3:private-notes`, `project:3:wiki`
`project:3:role:R`            custom fields that only some roles see
`project:3:admin`             all of its issues; nobody's while issue tracking is switched off there

Redmine's API does not say which trackers a role is restricted to. So for each set of
roles that somebody has in a project, Redmine is asked as one of them which trackers he
sees there. A role is taken to see a tracker only where that proves it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from assistant.errors import SourceRefused
from assistant.model import Access, Member
from connectors.redmine.api import PAGE, Json, RedmineApi

VISIBILITIES = ("own", "default", "all")
"""of issues to a role, ascending"""
ASKED = 3
"""people tried, until one of them answers for a set of roles"""
NOT_AS_HIM = (401, 403, 404, 412)
"""he was locked, say, or may not see the project"""
BUILT_IN_SEARCH = 50
Signature = frozenset[int]
"""ids of the roles somebody has in a project, as far as they show issues"""


def wiki_access(project: int, *, everyone: bool = False) -> Access:
    return _with(Access.of(groups=(f"project:{project}:wiki",)), everyone)


def issue_access(issue: Json, *, everyone: bool = False) -> Access:
    """`issue`: as listed or whole. `everyone`: anonymous visitors see the tracker's public issues."""
    project, tracker = issue.get("project", {}).get("id"), issue.get("tracker", {}).get("id")
    private = issue.get("is_private")
    if not project or not tracker or private is None:
        return Access.nobody()
    kind = "private-issues" if private else "issues"
    owners = [issue[role]["id"] for role in ("author", "assigned_to") if issue.get(role)]
    own = [f"project:{project}:own:{tracker}:{owner}" for owner in owners]
    groups = (f"project:{project}:{kind}:{tracker}", f"project:{project}:admin", *own)
    return _with(Access.of(groups=groups), everyone and not private)


def note_access(project: int, author: int | None) -> Access:
    """Readers of a private note, among those of its issue."""
    groups = (f"project:{project}:private-notes", f"project:{project}:admin")
    return Access.of(users=(str(author),) if author else (), groups=groups)


def field_access(project: int, roles: Iterable[int]) -> Access:
    """Readers of a custom field that only some roles see, among those of its issue."""
    groups = [f"project:{project}:role:{role}" for role in sorted(roles)]
    return Access.of(groups=(*groups, f"project:{project}:admin"))


def _with(access: Access, everyone: bool) -> Access:
    return Access(access.tokens | Access.public().tokens) if everyone else access


@dataclass(frozen=True, slots=True)
class Role:
    permissions: frozenset[str] = frozenset()
    visibility: str = ""

    @property
    def shows_issues(self) -> bool:
        return "view_issues" in self.permissions and self.visibility in VISIBILITIES


@dataclass(slots=True)
class Project:
    """`trackers`: those switched on in it, and others that some of its issues still have."""

    id: int
    public: bool
    modules: frozenset[str]
    enabled: frozenset[int]
    trackers: frozenset[int]
    roles: dict[int, set[int]] = field(default_factory=dict[int, set[int]])
    """user → roles, of its members"""
    strangers: set[int] = field(default_factory=set[int])
    """roles of everybody else who can log in"""

    def of(self, user: int) -> set[int]:
        return self.roles.get(user) or self.strangers


class Rights:
    def __init__(self, api: RedmineApi, projects: Iterable[Json], fields: Iterable[Json]) -> None:
        self._api = api
        self._listed = list(projects)
        self._field_roles = {
            role["id"] for f in fields if not f.get("visible") for role in f.get("roles", ())
        }
        self._members: dict[int, tuple[dict[int, set[int]], set[int]]] = {}
        self._switches = False

    @cached_property
    def roles(self) -> dict[int, Role]:
        """One that can't be read has no permissions."""
        given = [int(role["id"]) for role in self._api.get("roles.json")["roles"]]
        return {number: self._role(number) or Role() for number in given}

    def _role(self, number: int) -> Role | None:
        answer = self._api.maybe(f"roles/{number}.json")
        if answer is None:
            return None
        role = answer.get("role", {})
        return Role(frozenset(role.get("permissions", ())), str(role.get("issues_visibility", "")))

    @cached_property
    def non_member(self) -> int:
        """Id of the role of those who are no members; 0 if unknown.

        The list of roles leaves the two built-in ones out, but their ids can be read. Redmine
        made them in one step, this one before that of anonymous visitors.
        """
        highest = max(self.roles, default=0)
        found: list[int] = []
        for number in range(1, min(highest + 3, BUILT_IN_SEARCH)):
            if number not in self.roles and (role := self._role(number)):
                self.roles[number] = role
                found.append(number)
        return found[0] if len(found) == 2 else 0

    def members_of(self, project: int) -> tuple[dict[int, set[int]], set[int]]:
        """User → roles; and the roles that this project gives to those who are no members, if it does."""
        if project not in self._members:
            users: dict[int, set[int]] = {}
            strangers: set[int] = set()
            for row in self._api.everything(f"projects/{project}/memberships.json", "memberships"):
                roles = {int(role["id"]) for role in row.get("roles", ())}
                if "user" in row:
                    users.setdefault(int(row["user"]["id"]), set()).update(roles)
                elif "group_non_member" in row:
                    strangers |= roles
            self._members[project] = users, strangers
        return self._members[project]

    def is_agent(self, user: Json, project: int) -> bool:
        """Those who may edit the project's issues, which leaves out customers who only write them."""
        roles = self.members_of(project)[0].get(int(user.get("id") or 0), set())
        return bool(user.get("admin")) or any(
            "edit_issues" in self.roles.get(r, Role()).permissions for r in roles
        )

    def memberships(self, users: list[Json], *, trust_email: bool) -> Iterator[Member]:
        """`users`: those who can log in."""
        logins = {int(user["id"]): str(user["login"]) for user in users}
        admins = {int(user["id"]) for user in users if user.get("admin")}
        principals = self._principals()
        projects = [self._project(row) for row in self._listed]
        self._ask(projects, {user: login for user, login in logins.items() if user not in admins})
        groups: dict[int, set[str]] = defaultdict(set)
        for project in projects:
            for user in logins:
                if user in admins:
                    groups[user] |= self._admin_groups(project)
                elif roles := project.of(user):
                    groups[user] |= self._groups(project, roles, {user} | principals.get(user, set()))
        for user in users:
            number = int(user["id"])
            yield Member(
                user=str(number),
                email=str(user.get("mail") or "") if trust_email else "",
                name=f"{user.get('firstname', '')} {user.get('lastname', '')}".strip(),
                groups=frozenset(groups[number]),
            )

    def _principals(self) -> dict[int, set[int]]:
        """User → groups; Redmine has no groups in groups."""
        found: dict[int, set[int]] = defaultdict(set)
        for row in self._api.get("groups.json")["groups"]:
            if group := self._api.maybe(f"groups/{row['id']}.json", {"include": "users"}):
                for user in group["group"].get("users", ()):
                    found[int(user["id"])].add(int(row["id"]))
        return found

    def _project(self, row: Json) -> Project:
        number, public = int(row["id"]), bool(row.get("is_public"))
        modules = frozenset(module["name"] for module in row.get("enabled_modules", ()))
        enabled = frozenset(int(tracker["id"]) for tracker in row.get("trackers", ()))
        users, strangers = self.members_of(number)
        if not strangers and self.non_member:
            strangers = {self.non_member}
        return Project(
            id=number,
            public=public,
            modules=modules,
            enabled=enabled,
            trackers=self._trackers(number, enabled) if "issue_tracking" in modules else frozenset(),
            roles=users,
            strangers=strangers if public else set(),
        )

    def _trackers(self, project: int, enabled: frozenset[int]) -> frozenset[int]:
        found = enabled
        while True:
            others = {"tracker_id": ("!", tuple(sorted(found)))} if found else {}
            only = {"project_id": ("=", (project,)), **others}
            rows = self._api.issues(only, "id", limit=PAGE)
            if not rows:
                return found
            found |= {int(row["tracker"]["id"]) for row in rows if row.get("tracker")}

    def _groups(self, project: Project, roles: set[int], principals: set[int]) -> set[str]:
        prefix = f"project:{project.id}:"
        groups = {f"{prefix}role:{role}" for role in roles & self._field_roles}
        permissions = {p for role in roles for p in self.roles.get(role, Role()).permissions}
        if "wiki" in project.modules and "view_wiki_pages" in permissions:
            groups.add(f"{prefix}wiki")
        if "issue_tracking" not in project.modules:
            return groups
        if "view_private_notes" in permissions:
            groups.add(f"{prefix}private-notes")
        signature = self._signature(roles)
        for tracker in project.trackers:
            visibility = self._visibility(signature, tracker)
            if not visibility:
                continue
            groups |= {f"{prefix}own:{tracker}:{principal}" for principal in principals}
            if visibility in ("default", "all"):
                groups.add(f"{prefix}issues:{tracker}")
            if visibility == "all":
                groups.add(f"{prefix}private-issues:{tracker}")
        return groups

    def _admin_groups(self, project: Project) -> set[str]:
        """Even administrators see nothing of a module that is switched off."""
        modules = {"issue_tracking": "admin", "wiki": "wiki"}
        return {
            f"project:{project.id}:{name}" for module, name in modules.items() if module in project.modules
        }

    def _signature(self, roles: Iterable[int]) -> Signature:
        return frozenset(role for role in roles if self.roles.get(role, Role()).shows_issues)

    def _ask(self, projects: list[Project], logins: dict[int, str]) -> None:
        """Learn which trackers each set of roles sees, by asking Redmine as somebody who has it."""
        self._seen: dict[tuple[Signature, int], bool] = {}
        for project in projects:
            if "issue_tracking" not in project.modules:
                continue
            people: dict[Signature, list[str]] = defaultdict(list)
            for user, login in logins.items():
                if signature := self._signature(project.of(user)):
                    people[signature].append(login)
            for signature, candidates in people.items():
                unknown = {t for t in project.enabled if (signature, t) not in self._seen}
                if not unknown:
                    continue
                for login in candidates[:ASKED]:
                    visible = self._visible_trackers(project.id, login)
                    if visible is not None:
                        self._seen |= {(signature, t): t in visible for t in unknown}
                        break
        self._learn()

    def _visible_trackers(self, project: int, login: str) -> set[int] | None:
        switched = {"X-Redmine-Switch-User": login}
        if not self._switches:
            whoami = self._api.maybe("users/current.json", refused=NOT_AS_HIM, headers=switched)
            if whoami is None:
                return None
            if whoami["user"].get("login") != login:
                raise SourceRefused(
                    "Redmine does not obey X-Redmine-Switch-User, without which it can't be told which trackers "
                    "a role sees. Nothing was changed. Let the proxy before it pass this header."
                )
            self._switches = True
        path, trackers = f"projects/{project}.json", {"include": "trackers"}
        answer = self._api.maybe(path, trackers, refused=NOT_AS_HIM, headers=switched)
        if answer is None:
            return None
        return {int(tracker["id"]) for tracker in answer["project"].get("trackers", ())}

    def _learn(self) -> None:
        """From sets to single roles: none of a set that doesn't see a tracker does; the last one left must."""
        self._can: dict[tuple[int, int], bool] = {
            (role, t): False for (roles, t), seen in self._seen.items() if not seen for role in roles
        }
        for (roles, tracker), seen in self._seen.items():
            left = [role for role in roles if self._can.get((role, tracker)) is not False]
            if seen and len(left) == 1:
                self._can[left[0], tracker] = True

    def _visibility(self, roles: Signature, tracker: int) -> str:
        """The widest visibility that is proven for somebody with these roles; empty for none."""
        able = [self.roles[role].visibility for role in roles if self._can.get((role, tracker))]
        if able:
            return max(able, key=VISIBILITIES.index)
        if self._seen.get((roles, tracker)):  # one of them does, unknown which
            left = [r for r in roles if self._can.get((r, tracker)) is not False]
            return min((self.roles[role].visibility for role in left), key=VISIBILITIES.index, default="")
        return ""


class Visitors:
    """What Redmine shows without a login."""

    def __init__(self, api: RedmineApi | None, projects: Iterable[Json]) -> None:
        """`api`: one without a key; None: nothing is for everyone. `projects`: those to be asked about."""
        self._api = api
        self._public = [int(project["id"]) for project in projects if project.get("is_public")]

    @cached_property
    def _open(self) -> dict[int, tuple[set[int], bool]]:
        """Project → trackers whose public issues they see, and whether they see its wiki."""
        found: dict[int, tuple[set[int], bool]] = {}
        if not self._api:
            return found
        for project in self._public:
            refused = (401, 403, 404)
            path, trackers = f"projects/{project}.json", {"include": "trackers"}
            seen = (self._api.maybe(path, trackers, refused=refused) or {}).get("project", {})
            wiki = self._api.maybe(f"projects/{project}/wiki/index.json", refused=refused) is not None
            found[project] = {int(tracker["id"]) for tracker in seen.get("trackers", ())}, wiki
        return found

    def close(self) -> None:
        if self._api:
            self._api.http.close()

    def see(self, issue: Json) -> bool:
        """`issue`, if it is not private."""
        trackers, _ = self._open.get(int(issue.get("project", {}).get("id") or 0), (set[int](), False))
        return issue.get("tracker", {}).get("id") in trackers

    def read_wiki(self, project: int) -> bool:
        return self._open.get(project, (set[int](), False))[1]
