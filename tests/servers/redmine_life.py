"""A company's Redmine: people, groups, roles and projects whose rights change at random, and what it shows to whom."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

from tests.servers.redmine import Redmine

TRACKERS = (1, 2, 3)
PERMISSIONS = ("view_issues", "view_private_notes", "view_wiki_pages", "add_issues", "edit_issues")
THEN = "2024-03-01 12:00:00"


class Company:
    def __init__(
        self, server: Redmine, seed: int, *, people: int, groups: int, projects: int, issues: int
    ) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.logins: dict[int, str] = {}
        for number in range(people):
            self.logins[self._person(f"person{number}")] = f"person{number}"
        self.groups = [self._group(number) for number in range(groups)]
        ((self.strangers,),) = server.sql("select id from users where type = 'GroupNonMember'")
        self.roles = [3, 4, 5]
        for number, visibility in enumerate(("own", "default", "all")):
            server.sql(
                "insert into roles (name, position, permissions, issues_visibility) values (?, ?, ?, ?)",
                f"Role {number}", 10 + number, _permissions(PERMISSIONS[:4]), visibility,
            )  # fmt: skip
        self.roles = [row[0] for row in server.sql("select id from roles where builtin = 0")]
        self.projects = [self._project(number) for number in range(projects)]
        self._issues(issues)
        for _ in range(4 * projects):
            self.grant()

    def _person(self, login: str) -> int:
        user = {"login": login, "firstname": login, "lastname": "X", "mail": f"{login}@company.example"}
        body = {"user": {**user, "password": "a-long-password"}}
        return int(self.server.call("POST", "/users.json", body)["user"]["id"])

    def _group(self, number: int) -> int:
        members = self.random.sample(sorted(self.logins), 4)
        body = {"group": {"name": f"group{number}", "user_ids": members}}
        return int(self.server.call("POST", "/groups.json", body)["group"]["id"])

    def _project(self, number: int) -> int:
        project = {
            "name": f"project{number}",
            "identifier": f"project{number}",
            "is_public": number % 3 == 0,
            "enabled_module_names": ["issue_tracking", "wiki"],
            "tracker_ids": list(TRACKERS if number % 2 else TRACKERS[:2]),
        }
        if number >= 5:  # nested, with the members of the one above
            project |= {
                "parent_id": self.projects[number - 5] if number >= 5 else None,
                "inherit_members": True,
            }
        found = int(self.server.call("POST", "/projects.json", {"project": project})["project"]["id"])
        self.projects = [*getattr(self, "projects", []), found]
        for page in range(2):
            self.server.call("PUT", f"/projects/{found}/wiki/Page{page}.json", {"wiki_page": {"text": "x"}})
        return found

    def _issues(self, count: int) -> None:
        """Written past Redmine, which takes long for so many; all have a private note."""
        people = sorted(self.logins)
        for number in range(count):
            assigned = self.random.choice([None, None, *people, *self.groups])
            values = (
                self.random.choice(TRACKERS), self.random.choice(self.projects), f"Issue {number}", assigned,
                self.random.choice(people), THEN, THEN, self.random.random() < 0.4,
            )  # fmt: skip
            self.server.sql(
                "insert into issues (tracker_id, project_id, subject, assigned_to_id, author_id, created_on, "
                "updated_on, is_private, status_id, priority_id) values (?, ?, ?, ?, ?, ?, ?, ?, 1, 2)",
                *values,
            )
        self.server.sql("update issues set root_id = id, lft = 1, rgt = 2 where root_id is null")
        for (issue,) in self.server.sql("select id from issues"):
            self.server.sql(
                "insert into journals (journalized_id, journalized_type, user_id, notes, created_on, private_notes) "
                "values (?, 'Issue', ?, 'for us', ?, 1)", issue, self.random.choice(people), THEN,
            )  # fmt: skip
        self.issues = [row[0] for row in self.server.sql("select id from issues")]

    # what changes

    def change(self) -> str:
        """One thing; its name. Redmine may refuse it."""
        changes: list[Callable[[], None]] = [
            self.grant, self.grant, self.revoke, self.revoke, self.join, self.leave, self.publish, self.switch,
            self.archive, self.permit, self.permit, self.widen, self.restrict, self.restrict, self.lock,
            self.promote, self.override, self.edit, self.edit, self.edit,
        ]  # fmt: skip
        chosen = self.random.choice(changes)
        with suppress(RuntimeError):
            chosen()
        return chosen.__name__

    def grant(self) -> None:
        principal = self.random.choice([*self.logins, *self.groups, *self.groups])
        roles = self.random.sample(self.roles, self.random.choice((1, 1, 2)))
        body = {"membership": {"user_id": principal, "role_ids": roles}}
        with suppress(RuntimeError):  # it is a member already
            self.server.call("POST", f"/projects/{self.random.choice(self.projects)}/memberships.json", body)

    def revoke(self) -> None:
        rows = self.server.sql(
            "select distinct member_id from member_roles where inherited_from is null order by member_id"
        )
        if rows:
            self.server.call("DELETE", f"/memberships/{self.random.choice(rows)[0]}.json")

    def join(self) -> None:
        body = {"user_id": self.random.choice(sorted(self.logins))}
        self.server.call("POST", f"/groups/{self.random.choice(self.groups)}/users.json", body)

    def leave(self) -> None:
        group, user = self.random.choice(
            self.server.sql("select group_id, user_id from groups_users order by 1, 2")
        )
        self.server.call("DELETE", f"/groups/{group}/users/{user}.json")

    def publish(self) -> None:
        self._put_project(is_public=self.random.random() < 0.5)

    def switch(self) -> None:
        modules = [module for module in ("issue_tracking", "wiki") if self.random.random() < 0.7]
        self._put_project(enabled_module_names=modules)

    def _put_project(self, **fields: object) -> None:
        self.server.call("PUT", f"/projects/{self.random.choice(self.projects)}.json", {"project": fields})

    def archive(self) -> None:
        action = self.random.choice(("archive", "unarchive", "close", "reopen"))
        self.server.call("PUT", f"/projects/{self.random.choice(self.projects)}/{action}.json")

    def permit(self) -> None:
        allowed = [permission for permission in PERMISSIONS if self.random.random() < 0.75]
        self.server.sql(
            "update roles set permissions = ? where id = ?", _permissions(allowed), self._any_role()
        )

    def widen(self) -> None:
        visibility = self.random.choice(("own", "default", "all"))
        self.server.sql("update roles set issues_visibility = ? where id = ?", visibility, self._any_role())

    def restrict(self) -> None:
        trackers = self.random.sample(TRACKERS, self.random.randrange(4))
        self.server.sql("update roles set settings = ? where id = ?", _trackers(trackers), self._any_role())

    def _any_role(self) -> int:
        return self.random.choice([1, 2, *self.roles])

    def lock(self) -> None:
        self._put_user(status=self.random.choice((1, 1, 3)))

    def promote(self) -> None:
        self._put_user(admin=self.random.random() < 0.2)

    def _put_user(self, **fields: object) -> None:
        user = self.random.choice(sorted(self.logins))
        self.server.call("PUT", f"/users/{user}.json", {"user": fields})

    def override(self) -> None:
        """Give those who are no members another role in one project."""
        body = {"membership": {"user_id": self.strangers, "role_ids": [self.random.choice(self.roles)]}}
        self.server.call("POST", f"/projects/{self.random.choice(self.projects)}/memberships.json", body)

    def edit(self) -> None:
        fields = self.random.choice(
            (
                {"is_private": self.random.random() < 0.5},
                {"assigned_to_id": self.random.choice([*self.logins, *self.groups])},
                {"project_id": self.random.choice(self.projects)},
                {"tracker_id": self.random.choice(TRACKERS)},
            )
        )
        self.server.call("PUT", f"/issues/{self.random.choice(self.issues)}.json", {"issue": fields})

    # what Redmine shows

    def active(self) -> dict[int, str]:
        rows = self.server.sql("select id, login from users where status = 1 and type = 'User'")
        return {number: login for number, login in rows if number in self.logins}

    def issues_shown(self, login: str) -> set[int]:
        """As the list over all projects has them. Redmine refuses it to some who may see single issues:
        the list wants a role that shows issues, and forgets the one a project gives to strangers.
        """
        found: set[int] = set()
        for offset in range(0, len(self.issues), 100):
            path = f"/issues.json?status_id=*&sort=id&limit=100&offset={offset}"
            answer = self.server.status(path, user=login)
            found |= {row["id"] for row in answer.json()["issues"]} if answer.is_success else set()
        return found

    def issue_shown(self, login: str, issue: int) -> bool:
        return self.server.status(f"/issues/{issue}.json", user=login).is_success

    def note_shown(self, login: str, issue: int) -> bool:
        answer = self.server.status(f"/issues/{issue}.json?include=journals", user=login)
        return answer.is_success and any(j["private_notes"] for j in answer.json()["issue"]["journals"])

    def wiki_shown(self, login: str, project: int) -> bool:
        return self.server.status(f"/projects/{project}/wiki/Page0.json", user=login).is_success


def _permissions(names: tuple[str, ...] | list[str]) -> str:
    return "---\n" + "".join(f"- :{name}\n" for name in names) if names else "--- []\n"


def _trackers(trackers: list[int]) -> str:
    """How Redmine stores that a role sees issues of these alone; none given: of all."""
    if not trackers:
        return "---\npermissions_all_trackers:\n  view_issues: '1'\n"
    ids = "".join(f"  - '{tracker}'\n" for tracker in trackers)
    return (
        f"---\npermissions_all_trackers:\n  view_issues: '0'\npermissions_tracker_ids:\n  view_issues:\n{ids}"
    )
