"""Who may read what of Jira: what the server shows a person, against what tokens and memberships give them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import httpx
import pytest

from assistant.errors import SourceRefused
from assistant.model import Access, Kind, Member, Part, SourceDocument
from connectors.jira.connector import JiraConnector
from tests.conformance.connector import Replica
from tests.conformance.test_jira import connect, new_site
from tests.servers.jira import JiraServer
from tests.servers.jira_data import Site, holder

Made = Callable[..., JiraConnector]


@pytest.fixture
def site() -> Site:
    return new_site()


@pytest.fixture
def server(site: Site) -> Iterator[JiraServer]:
    server = JiraServer(site, page_cap=5)
    yield server
    server.close()


@pytest.fixture
def connector(server: JiraServer) -> Iterator[Made]:
    made: list[JiraConnector] = []

    def make(**settings: object) -> JiraConnector:
        made.append(connect(server, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def tokens(member: Member) -> frozenset[str]:
    return frozenset({"everyone", f"user:{member.user}", *(f"group:{group}" for group in member.groups)})


def opens(held: frozenset[str], document: SourceDocument) -> bool:
    return bool(document.access.tokens & held)


def part_opens(held: frozenset[str], part: Part) -> bool:
    return part.access is None or bool(part.access.tokens & held)


class Desk:
    """The source as somebody uses it: what a person is given, and what the server shows them."""

    def __init__(self, site: Site, server: JiraServer, make: Made, **settings: object) -> None:
        self.site, self.server = site, server
        self.replica = Replica()
        self.replica.sync(make(**settings))
        self.members = {member.user: member for member in make(**settings).memberships()}

    def given(self, account: str) -> dict[str, list[str]]:
        """Ids of readable tickets, and the texts of their readable comments."""
        if account not in self.members:
            return {}
        held = tokens(self.members[account])
        return {
            name: sorted(p.text for p in document.body[1:] if isinstance(p, Part) and part_opens(held, p))
            for name, document in self.replica.documents.items()
            if document.kind is Kind.TICKET and opens(held, document)
        }

    def shown(self, account: str) -> dict[str, list[str]]:
        """The same as the server answers it to the person's own token."""
        name = account.removeprefix("acc-")
        answer = httpx.post(
            f"http://127.0.0.1:{self.server.port}/rest/api/3/issue/bulkfetch",
            auth=(f"{name}@example.com", f"token-{name}"),
            json={"issueIdsOrKeys": [str(number) for number in self.site.issues], "fields": ["comment"]},
        )
        return {
            row["id"]: sorted(
                comment["body"]["content"][0]["content"][0]["text"]
                for comment in row["fields"]["comment"]["comments"]
            )
            for row in answer.json()["issues"]
        }


def crowded(site: Site) -> None:
    """People of all kinds, and projects with every kind of holder."""
    people = [
        site.user("dan", "jira-users", "staff"),
        site.user("eve", "jira-users"),
        site.user("fay", "staff"),  # in a group that may browse, but she can't log in
        site.user("gus", "jira-users", "staff", active=False),
        site.user("hal", "jira-users", "staff", kind="app"),
        site.user("ivy", "jira-users", "staff", email=False),
        "acc-ann",
        "acc-ben",
        "acc-cal",
    ]
    leads, other = site.role("Leads"), site.role("Other")
    bot = holder("user", "acc-bot")
    everything = [
        holder("group", "gid-staff", parameter="an old name"),
        holder("user", "acc-eve"),
        holder("projectRole", str(leads)),
        holder("projectLead"),
        holder("reporter"),
        holder("assignee"),
        holder("applicationRole"),
        holder("applicationRole", "jira-software"),
        holder("anyone"),
        holder("userCustomField", "customfield_1"),
        holder("groupCustomField", "customfield_2"),
        holder("sd.customer.portal.only"),
        holder("something.new", "x"),
        holder("group", "gid-gone"),
    ]
    choose = random.Random(7)
    for number, grant in enumerate([*everything, *everything[:6]]):
        extra = [choose.choice(everything)] if number >= len(everything) else []
        project = site.project(f"P{number}", bot, grant, *extra, lead=choose.choice(people))
        site.actors[project, leads] = [("group", "gid-staff"), ("user", choose.choice(people))]
        site.actors[project, other] = [("user", choose.choice(people))]
        levels = {site.fresh_id(): [bot, *choose.sample(everything, 2)] for _ in range(2)}
        site.security[project] = levels
        for level in (None, None, *levels):
            fill(site, project, level, people, choose)
        # The bot is in all that a comment may be for: it must see what it is to hand over.
        site.actors[project, leads].append(("user", "acc-bot"))
        site.actors[project, other].append(("user", "acc-bot"))
    site.groups["gid-staff"]["members"].append("acc-bot")


def fill(site: Site, project: int, level: int | None, people: list[str], choose: random.Random) -> None:
    """An issue of somebody, with a comment for all and some for a few."""
    reporter, assignee = choose.choice(people), choose.choice([*people, None])
    issue = site.create(
        project,
        "words",
        "text",
        level=level,
        reporter=reporter,
        assignee=assignee,
        customfield_1=choose.choice(people),
    )
    site.comment(issue, "acc-bot", f"open {issue}")
    for kind, value, identifier in [
        ("role", "Leads", "Leads"),
        ("role", "Other", "Other"),
        ("group", "staff", "gid-staff"),
    ]:
        visibility = {"type": kind, "value": value, "identifier": identifier}
        site.comment(issue, "acc-bot", f"{value} {issue}", visibility=visibility)


def projects(site: Site) -> list[str]:
    return [project["key"] for project in site.projects.values()]


def test_everybody_is_given_just_what_the_server_shows_them(
    site: Site, server: JiraServer, connector: Made
) -> None:
    """No more; and no less, but for what rests on a custom field."""
    crowded(site)
    desk = Desk(site, server, connector, projects=projects(site))
    assert len(desk.replica.documents) == len(site.issues)
    too_much: list[str] = []
    too_little: list[str] = []
    for account in site.users:
        given, shown = desk.given(account), desk.shown(account)
        for name in given.keys() | shown.keys():
            too_much += [
                f"{account} {name}: {t}" for t in set(given.get(name, [])) - set(shown.get(name, []))
            ]
            too_much += [f"{account} {name}"] if name not in shown else []
            if given.get(name) != shown.get(name) and "userCustomField" not in holders(site, name):
                too_little.append(f"{account} {name}")
    assert too_much == []
    assert too_little == []
    assert sum(len(desk.given(account)) for account in site.users) > 100, "the test tests something"


def holders(site: Site, name: str) -> set[str]:
    issue = site.issues[int(name)]
    found = {g["holder"]["type"] for g in site.grants[issue.project] if g["permission"] == "BROWSE_PROJECTS"}
    return found | {h["type"] for h in site.security[issue.project].get(issue.level or 0, [])}


def test_a_level_and_the_project_must_both_open(site: Site, server: JiraServer, connector: Made) -> None:
    project = next(iter(site.projects))
    site.user("dan", "jira-users")
    site.security[project] = {1: [holder("user", "acc-dan"), holder("user", "acc-bot")], 2: []}
    site.security[project][2] = [holder("user", "acc-ann"), holder("user", "acc-bot")]
    first = site.create(project, "only for who may not browse", level=1)
    second = site.create(project, "for ann", level=2)
    desk = Desk(site, server, connector)
    assert desk.given("acc-dan") == {}
    assert set(desk.given("acc-ann")) == {str(second)}
    assert desk.given("acc-ben") == {}
    assert set(desk.given("acc-bot")) == {str(first), str(second)}


def test_a_reporter_sees_only_their_own(site: Site, server: JiraServer, connector: Made) -> None:
    site.user("dan", "jira-users")
    own = site.project("OWN", holder("user", "acc-bot"), holder("reporter"))
    mine = site.create(own, "mine", reporter="acc-dan")
    site.create(own, "not mine", reporter="acc-ann", assignee="acc-dan")
    desk = Desk(site, server, connector, projects=["OWN"])
    assert set(desk.given("acc-dan")) == {str(mine)}
    site.grants[own] = [g for g in site.grants[own] if g["holder"]["type"] != "reporter"]
    desk.members = {member.user: member for member in connector(projects=["OWN"]).memberships()}
    assert desk.given("acc-dan") == {}, "a changed scheme is one change of memberships"


def test_browsing_as_reporter_and_the_level_as_assignee(
    site: Site, server: JiraServer, connector: Made
) -> None:
    """Each of the two locks opens for another reason."""
    site.user("dan", "jira-users")
    own = site.project("OWN", holder("user", "acc-bot"), holder("reporter"))
    site.security[own] = {5: [holder("user", "acc-bot"), holder("assignee")]}
    both = site.create(own, "both", reporter="acc-dan", assignee="acc-dan", level=5)
    site.create(own, "one", reporter="acc-dan", assignee="acc-ann", level=5)
    desk = Desk(site, server, connector, projects=["OWN"])
    assert set(desk.given("acc-dan")) == {str(both)}


def test_inactive_people_apps_and_customers_are_no_members(
    site: Site, server: JiraServer, connector: Made
) -> None:
    crowded(site)
    members = {member.user: member for member in connector(projects=projects(site)).memberships()}
    assert set(members) == {f"acc-{name}" for name in ("ann", "ben", "bot", "dan", "eve", "ivy")}
    assert members["acc-ann"].email == "ann@example.com"
    assert members["acc-ivy"].email == "", "hidden by the visibility of the profile"


def test_a_comment_for_a_role_that_was_renamed_is_for_nobody(
    site: Site, server: JiraServer, connector: Made
) -> None:
    project = next(iter(site.projects))
    issue = site.create(project, "words")
    for visibility in (
        {"type": "role", "value": "No such role"},
        {"type": "group", "value": "a group without an id", "identifier": None},
        {"type": "moon", "value": "Agents"},
    ):
        site.issues[issue].comments.append(
            {"id": str(site.fresh_id()), "author": "acc-ann", "created": "2026-01-05T10:00:00.000+0000"}
            | {"jsdPublic": True, "visibility": visibility}
        )
    site.may_see_comment = lambda *_: True
    document = Desk(site, server, connector).replica.documents[str(issue)]
    assert [part.access for part in document.body[1:] if isinstance(part, Part)] == [Access.nobody()] * 3


def test_check_names_what_can_not_be_worked_out(site: Site, server: JiraServer, connector: Made) -> None:
    crowded(site)
    said = connector(projects=projects(site)).check()
    for word in ("userCustomField", "groupCustomField", "something.new", "1 of them without an e-mail"):
        assert word in said
    assert "portal" not in said


def test_a_scheme_that_can_not_be_read_lets_nobody_in(
    site: Site, server: JiraServer, connector: Made
) -> None:
    site.create(next(iter(site.projects)), "words")
    server.refuse["/permissionscheme"] = 403
    desk = Desk(site, server, connector)
    assert all(desk.given(account) == {} for account in site.users)
    assert "can't be read" in connector().check()


def test_an_account_that_is_no_admin_is_told_so(site: Site, server: JiraServer, connector: Made) -> None:
    site.admins.clear()
    site.create(next(iter(site.projects)), "words")
    for attempt in (lambda: list(connector().memberships()), lambda: connector().check()):
        with pytest.raises(SourceRefused, match="othing was"):
            attempt()


def test_a_hidden_level_is_nobodys_only_where_there_are_levels(
    site: Site, server: JiraServer, connector: Made
) -> None:
    project = next(iter(site.projects))
    issue = site.create(project, "words")
    site.level_hidden.add(issue)
    assert set(Desk(site, server, connector).given("acc-ann")) == {str(issue)}
    site.security[project] = {1: []}
    assert Desk(site, server, connector).given("acc-ann") == {}
