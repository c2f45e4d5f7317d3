"""Against a server that answers as Zendesk's documentation says. Not yet run against the vendor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.network import Network
from connectors.zendesk import ZendeskConnector, ZendeskSettings
from tests.conformance.connector import CONTENT_WORD, ConnectorConformance, WritableSource
from tests.servers.zendesk import EMAIL, TOKEN, ZendeskServer

LOOPBACK = Network(("127.0.0.1",))


class Account(WritableSource):
    """Names of items are kept here; Zendesk knows its own numbers."""

    tells_deletions = True

    def __init__(self, server: ZendeskServer, **settings: Any) -> None:
        self.server = server
        self.port = server.port
        self.settings: dict[str, Any] = {
            "email": EMAIL,
            "api_token": TOKEN,
            "attachment_hosts": ["127.0.0.1"],
        }
        self.settings |= settings
        self.numbers: dict[str, int] = {}
        self.made: list[ZendeskConnector] = []

    def connector(self, port: int | None = None) -> ZendeskConnector:
        self.server.now += 61  # what changed is exported a minute later
        url = f"http://127.0.0.1:{port or self.port}"
        self.made.append(
            ZendeskConnector(ZendeskSettings.model_validate({"url": url, **self.settings}), LOOPBACK)
        )
        return self.made[-1]

    def close(self) -> None:
        for connector in self.made:
            connector.close()

    def put(self, name: str, text: str) -> str:
        if name in self.numbers:
            comment = self.server.comments[self.numbers[name]][0]
            comment |= {"plain_body": text, "html_body": text.replace("&", "&amp;").replace("<", "&lt;")}
            self.server.touch(self.numbers[name])
        else:
            self.numbers[name] = self.server.ticket(f"About {name}", text, group_id=5)
        return f"ticket/{self.numbers[name]}"

    def remove(self, name: str) -> None:
        self.server.update(self.numbers.pop(name), status="deleted")

    def spoil(self) -> None:
        number = self.server.ticket("Not to be opened", CONTENT_WORD)
        self.server.unreadable.add(number)

    def withdraw(self, name: str) -> None:
        del self.server.tickets[self.numbers[name]]["group_id"]
        self.server.touch(self.numbers[name])

    def restrict(self, name: str) -> str:
        self.server.update(self.numbers[name], group_id=6)
        return "group:group:5"

    def vanish(self) -> None:
        self.server.gone = True


class HelpCenter(Account):
    def put(self, name: str, text: str) -> str:
        if name in self.numbers:
            body = "<p>" + text.replace("&", "&amp;").replace("<", "&lt;")
            self.server.revise(self.numbers[name], body=body)
        else:
            self.numbers[name] = self.server.article(f"About {name}", text, user_segment_id=3)
        return f"article/{self.numbers[name]}"

    def remove(self, name: str) -> None:
        self.server.archived.add(self.numbers.pop(name))

    def spoil(self) -> None:
        self.server.article("Without a date", CONTENT_WORD, created_at=None)

    def withdraw(self, name: str) -> None:
        del self.server.articles[self.numbers[name]]["user_segment_id"]

    def restrict(self, name: str) -> str:
        self.server.articles[self.numbers[name]]["user_segment_id"] = 4
        return "group:segment:3"


@pytest.fixture
def server() -> Iterator[ZendeskServer]:
    server = ZendeskServer()
    yield server
    server.close()
    assert server.violations + server.cdn.violations == []


@pytest.fixture
def account(server: ZendeskServer) -> Iterator[Account]:
    account = Account(server)
    yield account
    account.close()


class TestTickets(ConnectorConformance):
    @pytest.fixture
    def source(self, account: Account) -> WritableSource:
        return account


class TestArticles(ConnectorConformance):
    @pytest.fixture
    def source(self, server: ZendeskServer) -> Iterator[WritableSource]:
        articles = HelpCenter(server)
        yield articles
        articles.close()
