"""The Jira connector against a server that enforces what Atlassian documents; not the vendor's own."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator

import psutil
import pytest

from connectors import http as connectors_http
from connectors.jira.connector import JiraConnector, JiraSettings
from connectors.network import Network
from tests.conformance.connector import ConnectorConformance, ReadsAgain, Replica, WritableSource
from tests.servers.faults import HttpFaults, TcpFaults
from tests.servers.jira import JiraServer
from tests.servers.jira_data import Site, doc, holder

LOOPBACK = Network(("127.0.0.1",))


def new_site(**options: dt.timedelta) -> Site:
    """A service project SUP for agents by their role, with a bot that reads it."""
    site = Site(**options)
    bot = site.user("bot", "jira-users")
    site.admins.add(bot)
    for name in ("ann", "ben"):
        site.user(name, "jira-users", "support")
    site.user("cal", kind="customer")
    site.products["jira-software"] = ["gid-jira-users"]
    agents = site.role("Agents")
    project = site.project("SUP", holder("projectRole", str(agents)), kind="service_desk", lead=bot)
    site.actors[project, agents] = [("user", bot), ("group", "gid-support")]
    return site


def connect(server: JiraServer, port: int | None = None, **settings: object) -> JiraConnector:
    values = {
        "url": f"http://127.0.0.1:{port or server.port}",
        "email": "bot@example.com",
        "api_token": "token-bot",
        "projects": "SUP",
        **settings,
    }
    return JiraConnector(JiraSettings.model_validate(values), LOOPBACK)


class JiraSource(WritableSource):
    def __init__(self, site: Site, server: JiraServer) -> None:
        self.site, self.server, self.port = site, server, server.port
        self.project = next(iter(site.projects))
        self.names: dict[str, int] = {}
        self.made: list[JiraConnector] = []

    def connector(self, port: int | None = None) -> JiraConnector:
        self.made.append(connect(self.server, port))
        return self.made[-1]

    def close(self) -> None:
        for connector in self.made:
            connector.close()
        self.server.close()

    def put(self, name: str, text: str) -> str:
        if name in self.names:
            self.site.edit(self.names[name], description=doc(text))
        else:
            self.names[name] = self.site.create(self.project, name, text, reporter="acc-cal")
        return str(self.names[name])

    def remove(self, name: str) -> None:
        self.site.delete(self.names.pop(name))

    def spoil(self) -> None:
        self.site.broken.add(self.site.create(self.project, "bad", "quokka-7731 that can't be loaded"))

    def mend(self) -> None:
        self.site.broken.clear()

    def withdraw(self, name: str) -> None:
        """A field configuration hides the security level, and the project has levels."""
        self.site.security[self.project] = {}
        self.site.level_hidden.add(self.names[name])

    def restrict(self, name: str) -> str:
        self.site.groups["gid-support"]["members"].remove("acc-ben")
        return "user:acc-ben"

    def lost(self, replica: Replica, document: str, token: str) -> bool:
        access = replica.documents[document].access.tokens
        held = {member.user: member.groups for member in self.connector().memberships()}
        opens = {user for user, groups in held.items() if {f"group:{g}" for g in groups} & access}
        assert "acc-ann" in opens, "the others keep it"
        return token.removeprefix("user:") not in opens

    def vanish(self) -> None:
        self.site.credentials.clear()


class TestJira(ReadsAgain):
    """As it is used: a few changes a minute; pages by position, the worse of the two."""

    @pytest.fixture
    def source(self) -> Iterator[JiraSource]:
        site = new_site()
        source = JiraSource(site, JiraServer(site))
        yield source
        source.close()

    @contextlib.contextmanager
    def behind(
        self, source: WritableSource, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[HttpFaults | TcpFaults]:
        with super().behind(source, monkeypatch) as proxy:
            monkeypatch.setattr(connectors_http, "TIMEOUT", 0.4)  # the suite has seconds, not minutes
            yield proxy

    def test_no_socket_stays_open(self, filled: WritableSource) -> None:
        """As in the suite, but of the client's ends alone: the server's are in this process too."""
        for _ in range(3):
            connector = filled.connector()
            next(iter(connector.sync(None)))
            connector.close()
        ends = [c for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == filled.port]
        assert ends == []


class TestJiraAllAtOnce:
    """The same of issues changed within one minute, as by a bulk edit: pages must be gone through by position."""

    @pytest.fixture
    def source(self) -> Iterator[JiraSource]:
        site = new_site(step=dt.timedelta(milliseconds=3))
        source = JiraSource(site, JiraServer(site, field_cap=20, id_cap=20))
        yield source
        source.close()

    filled = ConnectorConformance.filled
    fresh = ConnectorConformance.fresh
    same_as_fresh = ConnectorConformance.same_as_fresh
    test_first_sync_yields_everything = ConnectorConformance.test_first_sync_yields_everything
    test_second_sync_yields_nothing = ConnectorConformance.test_second_sync_yields_nothing
    test_every_batch_can_be_gone_on_from = ConnectorConformance.test_every_batch_can_be_gone_on_from
    test_changed_new_and_deleted_are_found = ConnectorConformance.test_changed_new_and_deleted_are_found
    test_an_edit_while_pages_are_read_is_not_lost = (
        ConnectorConformance.test_an_edit_while_pages_are_read_is_not_lost
    )
    test_inventory_is_complete = ConnectorConformance.test_inventory_is_complete
