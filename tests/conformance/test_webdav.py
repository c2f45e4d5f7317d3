from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from assistant.errors import SourceBusy, SourceError, SourceRefused
from assistant.model import Failed, Renamed, Upsert
from connectors.network import Network
from connectors.webdav import WebdavConnector, WebdavSettings
from tests.conformance.connector import CONTENT_WORD, ConnectorConformance, Replica, WritableSource, changes
from tests.servers import dav
from tests.servers.dav_answers import Answer, Answering, Cloud, multistatus, resource
from tests.servers.ports import free_port

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


@pytest.fixture(params=["apache", "wsgidav"])
def share(request: pytest.FixtureRequest) -> Iterator[Share]:
    with closing(Share(request.getfixturevalue(request.param))) as made:
        yield made


@pytest.fixture
def on_apache(apache: dav.Dav) -> Iterator[Share]:
    with closing(Share(apache)) as made:
        yield made


def synced(share: Share) -> Replica:
    replica = Replica()
    replica.sync(share.connector())
    return replica


NAMES = (
    "a b+c&d=e#g;h@i,j'k(l)!.md",
    "grün 🦘 e\u0301.md",
    "100 %.md",
    "%2e%2e.md",
    "http:x.md",
    "..a.md",
    "sub folder/ä&b/<x>.md",
)


def test_names_of_all_kinds(share: Share) -> None:
    for name in NAMES:
        path = share.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}")
    share.settings["exclude"] = []
    replica = synced(share)
    assert {name: document.body for name, document in replica.documents.items()} == {
        name: f"this is {name}".encode() for name in NAMES
    }
    assert set(share.connector().inventory()) == set(NAMES)
    del share.settings["url_prefix"]
    document = synced(share).documents["100 %.md"]
    assert document.url == f"http://127.0.0.1:{share.port}{share.path}/100%20%25.md"


def test_a_name_that_is_no_text(on_apache: Share) -> None:
    raw = os.fsencode(on_apache.files) + b"/caf\xe9.md"
    with open(raw, "w", encoding="utf-8") as file:
        file.write("latin")
    documents = synced(on_apache).documents
    assert [(name, document.body) for name, document in documents.items()] == [("caf\\xe9.md", b"latin")]


def test_a_file_the_account_may_not_read_fails_alone(on_apache: Share) -> None:
    on_apache.put("open", "x")
    on_apache.put("closed", "quokka-7731")
    (on_apache.files / "closed.md").chmod(0)
    replica = synced(on_apache)
    assert set(replica.documents) == {"open.md"}
    assert "forbids" in replica.failures["closed.md"]
    (on_apache.files / "closed.md").chmod(0o644)
    replica.sync(on_apache.connector())
    assert set(replica.documents) == {"open.md", "closed.md"}


@pytest.mark.parametrize("mode", [0, 0o444, 0o111])
def test_a_folder_that_can_not_be_listed_any_more_deletes_nothing(on_apache: Share, mode: int) -> None:
    on_apache.put("open", "x")
    on_apache.rename("open", "in")
    on_apache.put("open", "y")
    replica = synced(on_apache)
    assert set(replica.documents) == {"open.md", "sub/in.md"}
    (on_apache.files / "sub").chmod(mode)
    try:
        replica.sync(on_apache.connector())
        assert set(replica.documents) == {"open.md", "sub/in.md"}
        with pytest.raises(SourceBusy, match="Nothing was deleted"):
            list(on_apache.connector().inventory())
    finally:
        (on_apache.files / "sub").chmod(0o755)


def test_refused_credentials(share: Share) -> None:
    share.put("a", "x")
    share.settings["password"] = "another one"
    for attempt in (share.connector().check, lambda: list(share.connector().inventory())):
        with pytest.raises(SourceRefused, match="Nothing was lost"):
            attempt()


def test_a_closed_port_is_an_error(share: Share) -> None:
    with pytest.raises(SourceBusy, match="Nothing was lost"):
        share.connector(free_port()).check()


def test_no_address_but_public_ones(share: Share) -> None:
    url = f"http://127.0.0.1:{share.port}/"
    settings = WebdavSettings.model_validate({"url": url, **share.settings})
    with (
        closing(WebdavConnector(settings)) as connector,
        pytest.raises(SourceRefused, match="no public address"),
    ):
        connector.check()


def test_secrets_stay_out_of_sight(share: Share) -> None:
    share.put("a", "x")
    settings = WebdavSettings.model_validate({"url": "http://x.example/", **share.settings})
    assert dav.PASSWORD not in repr(settings) + share.connector().check()
    with pytest.raises(ValidationError):
        WebdavSettings.model_validate({"url": "http://user:pw@x.example/"})


# ── hostile answers ──────────────────────────────────────────────────────────


@pytest.fixture
def answering() -> Iterator[Callable[..., tuple[WebdavConnector, Answering]]]:
    with ExitStack() as stack:

        def make(
            answer: Callable[[str, str, str], Answer], **settings: Any
        ) -> tuple[WebdavConnector, Answering]:
            server = stack.enter_context(closing(Answering(answer)))
            values = {"url": f"http://127.0.0.1:{server.port}/dav/share", "username": "u", "password": "p"}
            made = WebdavConnector(
                WebdavSettings.model_validate({**values, "access": "everyone", **settings}), HERE
            )
            return stack.enter_context(closing(made)), server

        yield make


def listing(*entries: str) -> Callable[[str, str, str], Answer]:
    """A server whose top folder has these entries beside `ok.md`, and whose files all say the same."""

    def answer(method: str, path: str, depth: str) -> Answer:
        if method == "GET":
            return 200, {}, path.encode()
        top = resource("/dav/share/", folder=True)
        return multistatus(top, resource("/dav/share/ok.md"), *(entries if depth == "1" else ()))

    return answer


@pytest.mark.parametrize(
    "href",
    [
        "/dav/share/../secret.md",
        "/dav/share/sub/../../secret.md",
        "/dav/secret.md",
        "/etc/passwd",
        "/dav/share/%2e%2e",
        "/dav/share/%2e%2e%2fsecret.md",
        "/dav/share/a%2fb.md",
        "/dav/share/nul%00.md",
        "/dav/share//double.md",
        "/dav/share/a/deep.md",
        "/dav/sharing/x.md",
        "secret.md",
        "",
        "//evil.example/dav/other.md",
        "https://evil.example/other.md",
    ],
)
def test_what_lies_elsewhere_is_not_read_and_nothing_counts_as_gone(
    answering: Callable[..., tuple[WebdavConnector, Answering]], href: str
) -> None:
    connector, server = answering(listing(resource(href)))
    batches = list(connector.sync(None))
    documents = [c.document.external_id for b in batches for c in b.changes if isinstance(c, Upsert)]
    assert documents == ["ok.md"]
    assert [type(c) for b in batches for c in b.changes] == [Upsert, Failed]
    assert {path for method, path, _ in server.requests if method == "GET"} == {"/dav/share/ok.md"}
    assert all(path.startswith("/dav/share") for _, path, _ in server.requests)
    with pytest.raises(SourceBusy, match="Nothing was deleted"):
        list(connector.inventory())


@pytest.mark.parametrize("host", ["https://evil.example", "http://127.0.0.1:1", "//evil.example"])
def test_the_host_in_an_href_is_never_asked(
    answering: Callable[..., tuple[WebdavConnector, Answering]], host: str
) -> None:
    """Behind a proxy servers name themselves wrongly; the path is what counts, and is asked of our own server."""
    connector, server = answering(listing(resource(f"{host}/dav/share/other.md")))
    (batch,) = connector.sync(None)
    assert {c.document.body for c in batch.changes if isinstance(c, Upsert)} == {
        b"/dav/share/ok.md",
        b"/dav/share/other.md",
    }
    assert len(server.requests) >= 4


def test_a_redirect_to_another_host_takes_no_credentials_along(
    answering: Callable[..., tuple[WebdavConnector, Answering]],
) -> None:
    _, other = answering(listing())
    connector, server = answering(
        lambda *_: (302, {"Location": f"http://127.0.0.1:{other.port}/dav/share/"}, b"")
    )
    with pytest.raises(SourceRefused, match="Nothing was sent there"):
        list(connector.sync(None))
    assert other.requests == []
    assert server.requests


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>Please log in</body></html>",
        b"",
        b'<?xml version="1.0"?><d:multistatus xmlns:d="DAV:"><d:response>',
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><d:multistatus xmlns:d="DAV:">&a;</d:multistatus>',
        b'<?xml version="1.0"?><!DOCTYPE x SYSTEM "file:///etc/passwd"><d:multistatus xmlns:d="DAV:"/>',
        b'<?xml version="1.0"?><d:multistatus xmlns:d="DAV:"/>',
    ],
)
def test_an_answer_that_is_no_listing_is_an_error(
    answering: Callable[..., tuple[WebdavConnector, Answering]], body: bytes
) -> None:
    connector, _ = answering(lambda *_: (207, {}, body))
    for attempt in (lambda: list(connector.sync(None)), lambda: list(connector.inventory()), connector.check):
        with pytest.raises(SourceError, match="Nothing was"):
            attempt()


def test_an_ordinary_web_server_is_named_as_such(
    answering: Callable[..., tuple[WebdavConnector, Answering]],
) -> None:
    connector, _ = answering(lambda *_: (200, {}, b"<html>hello</html>"))
    with pytest.raises(SourceRefused, match="does not speak WebDAV"):
        connector.check()


def test_one_file_the_server_fails_on_is_that_files_trouble(
    answering: Callable[..., tuple[WebdavConnector, Answering]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.http.time.sleep", lambda _: None)
    usual = listing(resource("/dav/share/bad.md"), resource("/dav/share/folder/", folder=True))

    def answer(method: str, path: str, depth: str) -> Answer:
        return (500, {}, b"") if "bad.md" in path or "folder" in path else usual(method, path, depth)

    connector, _ = answering(answer)
    changes_made = [c for batch in connector.sync(None) for c in batch.changes]
    assert [(type(c), getattr(c, "external_id", "ok.md")) for c in changes_made] == [
        (Failed, "bad.md"),
        (Upsert, "ok.md"),
        (Failed, "folder"),
    ]


def test_a_file_larger_than_it_said_is_not_read_to_its_end(
    answering: Callable[..., tuple[WebdavConnector, Answering]],
) -> None:
    usual = listing()
    connector, _ = answering(
        lambda *asked: (200, {}, b"x" * 2**22) if asked[0] == "GET" else usual(*asked), max_file_mb=1
    )
    (batch,) = connector.sync(None)
    assert [type(c) for c in batch.changes] == [Failed]


# ── Nextcloud ────────────────────────────────────────────────────────────────


class CloudShare:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.settings: dict[str, Any] = {"access": "everyone", "url_prefix": "https://cloud.example"}

    def connector(self) -> WebdavConnector:
        url = f"http://127.0.0.1:{self.cloud.server.port}{self.cloud.root}"
        return WebdavConnector(
            WebdavSettings.model_validate({"url": url, "username": "bot", "password": "p", **self.settings}),
            HERE,
        )

    def listed(self) -> list[str]:
        """Folders asked for since the last call."""
        taken = [p for m, p, _ in self.cloud.server.requests if m == "PROPFIND"]
        self.cloud.server.requests.clear()
        return [path.removeprefix(self.cloud.root).strip("/") for path in taken]


@pytest.fixture
def cloud() -> Iterator[CloudShare]:
    made = Cloud()
    for path in ("a/b/1.md", "a/2.md", "c/d/3.md", "4.md"):
        made.write(path, path)
    with closing(made.server):
        yield CloudShare(made)


def test_an_unchanged_folder_of_nextcloud_is_not_listed(cloud: CloudShare) -> None:
    replica = Replica()
    replica.sync(cloud.connector())
    assert set(replica.documents) == set(cloud.cloud.files)
    cloud.listed()
    assert replica.sync(cloud.connector()) == []
    assert cloud.listed() == [""], "one question for all"
    cloud.cloud.write("c/d/3.md", "new")
    replica.sync(cloud.connector())
    assert cloud.listed() == ["", "", "c", "c/d"]
    assert replica.documents["c/d/3.md"].body == b"new"


def test_a_folder_mounted_in_nextcloud_is_always_listed(cloud: CloudShare) -> None:
    cloud.cloud.mounted.add("c")
    replica = Replica()
    replica.sync(cloud.connector())
    cloud.listed()
    cloud.cloud.write("c/d/3.md", "changed behind its back")
    replica.sync(cloud.connector())
    assert "c" in cloud.listed()
    assert replica.documents["c/d/3.md"].body == b"changed behind its back"


def test_a_file_moved_in_nextcloud_is_not_even_fetched(cloud: CloudShare) -> None:
    replica = Replica()
    replica.sync(cloud.connector())
    cloud.cloud.server.requests.clear()
    cloud.cloud.move("a/2.md", "c/moved.md")
    cloud.cloud.files["4.md"] = (*cloud.cloud.files["4.md"][:1], 999, "edited", "")
    assert {type(c) for c in changes(replica.sync(cloud.connector()))} == {Renamed, Upsert}
    assert [path for method, path, _ in cloud.cloud.server.requests if method == "GET"] == [
        f"{cloud.cloud.root}/4.md"
    ]
    assert replica.documents["c/moved.md"].body == b"a/2.md"


def test_other_settings_reach_folders_that_did_not_change(cloud: CloudShare) -> None:
    replica = Replica()
    replica.sync(cloud.connector())
    cloud.settings["access_rules"] = {"a/**": "group:few"}
    replica.sync(cloud.connector())
    assert {name for name, d in replica.documents.items() if d.access.tokens == {"group:few"}} == {
        "a/b/1.md",
        "a/2.md",
    }


def test_what_arrives_must_have_its_checksum(cloud: CloudShare) -> None:
    cloud.cloud.write(
        "right.md", "abc", checksum="SHA1:a9993e364706816aba3e25717850c26c9cd0d89d ADLER32:024d0127"
    )
    cloud.cloud.write("wrong.md", "abd", checksum="SHA1:a9993e364706816aba3e25717850c26c9cd0d89d")
    replica = Replica()
    replica.sync(cloud.connector())
    assert "right.md" in replica.documents
    assert set(replica.failures) == {"wrong.md"}
