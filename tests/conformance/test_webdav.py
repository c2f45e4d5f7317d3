from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connectors.network import Network
from connectors.webdav import WebdavConnector, WebdavSettings
from tests.conformance.connector import CONTENT_WORD, ConnectorConformance, WritableSource
from tests.servers import dav

pytestmark = pytest.mark.server
HERE = Network(("127.0.0.1",))
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def apache(folder: Path) -> Iterator[dav.Dav]:
    (folder / "apache").mkdir()
    server = dav.apache(folder / "apache")
    yield server
    server.close()


@pytest.fixture(scope="session")
def wsgidav(folder: Path) -> Iterator[dav.Dav]:
    (folder / "wsgidav").mkdir()
    server = dav.wsgidav(folder / "wsgidav")
    yield server
    server.close()


class Share(WritableSource):
    """A folder on the server, of this test alone."""

    def __init__(self, server: dav.Dav, **settings: Any) -> None:
        self.made: list[WebdavConnector] = []
        self.server = server
        self.port = server.port
        self.path = f"/share-{next(_numbers)}"
        server.ask("MKCOL", self.path)
        self.settings = {
            "username": dav.USER,
            "password": dav.PASSWORD,
            "access": "everyone",
            "url_prefix": "https://files.example",
            **settings,
        }

    @property
    def files(self) -> Path:
        return self.server.share / self.path.strip("/")

    def connector(self, port: int | None = None) -> WebdavConnector:
        url = f"http://127.0.0.1:{port or self.port}{self.path}"
        made = WebdavConnector(WebdavSettings.model_validate({"url": url, **self.settings}), HERE)
        self.made.append(made)
        return made

    def close(self) -> None:
        for made in self.made:
            made.close()

    def put(self, name: str, text: str) -> str:
        self.server.ask("PUT", f"{self.path}/{name}.md", content=text.encode())
        return f"{name}.md"

    def remove(self, name: str) -> None:
        self.server.ask("DELETE", f"{self.path}/{name}.md")

    def rename(self, name: str, to: str) -> None:
        self.server.ask("MKCOL", f"{self.path}/sub")
        self.server.ask("MOVE", f"{self.path}/{name}.md", to=f"{self.path}/sub/{to}.md")

    def spoil(self) -> None:
        self.settings["max_file_mb"] = 1
        self.server.ask("PUT", f"{self.path}/huge.md", content=CONTENT_WORD.encode() * 200_000)

    def withdraw(self, name: str) -> None:
        self.settings["access_rules"] = {f"{name}.md": "nobody"}

    def vanish(self) -> None:
        self.server.ask("DELETE", f"{self.path}/")


class TestApache(ConnectorConformance):
    @pytest.fixture
    def source(self, apache: dav.Dav) -> Iterator[WritableSource]:
        with closing(Share(apache)) as share:
            yield share


class TestWsgidav(ConnectorConformance):
    @pytest.fixture
    def source(self, wsgidav: dav.Dav) -> Iterator[WritableSource]:
        with closing(Share(wsgidav)) as share:
            yield share
