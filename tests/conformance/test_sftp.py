from __future__ import annotations

import base64
import contextlib
import itertools
import os
import pwd
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from assistant.errors import ItemError, SourceBusy, SourceRefused
from assistant.model import Access, AccessChanged, Failed
from connectors.network import Network
from connectors.sftp.client import PIECE, Client
from connectors.sftp.connector import SftpConnector, SftpSettings
from connectors.sftp.hostkeys import fingerprint
from connectors.shares import posix
from connectors.shares.walk import Entry
from tests.conformance.connector import CONTENT_WORD, ConnectorConformance, Replica, WritableSource, changes
from tests.servers.dav_answers import Answering
from tests.servers.faults import TcpFaults
from tests.servers.openssh import PasswordServer, Ssh
from tests.servers.ports import free_port

pytestmark = pytest.mark.server
HERE = Network(("127.0.0.1",))
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def ssh(folder: Path) -> Iterator[Ssh]:
    (folder / "ssh").mkdir(mode=0o755)
    server = Ssh(folder / "ssh")
    yield server
    server.close()


class Share(WritableSource):
    proxy = TcpFaults

    def __init__(self, server: Ssh, **settings: Any) -> None:
        self.made: list[SftpConnector] = []
        self.server = server
        self.port = server.port
        self.path = server.home / f"share-{next(_numbers)}"
        server.sftp.mkdir(str(self.path), 0o755)
        self.settings = {
            "host": "127.0.0.1",
            "path": str(self.path),
            "username": server.user,
            "private_key": server.private_key,
            "host_key": server.host_key,
            "access": "posix",
            "url_prefix": "https://files.example",
            **settings,
        }

    def connector(self, port: int | None = None) -> SftpConnector:
        made = SftpConnector(SftpSettings.model_validate({"port": port or self.port, **self.settings}), HERE)
        self.made.append(made)
        return made

    def close(self) -> None:
        for made in self.made:
            made.close()

    def put(self, name: str, text: str) -> str:
        with self.server.sftp.open(str(self.path / f"{name}.md"), "wb") as file:
            file.write(text.encode())
        return f"{name}.md"

    def remove(self, name: str) -> None:
        self.server.sftp.remove(str(self.path / f"{name}.md"))

    def rename(self, name: str, to: str) -> None:
        self.server.sftp.mkdir(str(self.path / "sub"), 0o755)
        self.server.sftp.posix_rename(str(self.path / f"{name}.md"), str(self.path / "sub" / f"{to}.md"))

    def spoil(self) -> None:
        self.settings["max_file_mb"] = 1
        self.put("huge", CONTENT_WORD)
        self.server.sftp.truncate(str(self.path / "huge.md"), 2**31)

    def withdraw(self, name: str) -> None:
        self.server.sftp.chmod(str(self.path / f"{name}.md"), 0)

    def restrict(self, name: str) -> str:
        self.server.sftp.chmod(str(self.path / f"{name}.md"), 0o640)
        return "everyone"

    def vanish(self) -> None:
        shutil.rmtree(self.path)


class TestSftp(ConnectorConformance):
    @pytest.fixture
    def source(self, ssh: Ssh) -> Iterator[WritableSource]:
        with closing(Share(ssh)) as share:
            yield share


@pytest.fixture
def share(ssh: Ssh) -> Iterator[Share]:
    with closing(Share(ssh)) as made:
        yield made


def synced(share: Share) -> Replica:
    replica = Replica()
    replica.sync(share.connector())
    return replica


# ── who the server is, who we are ────────────────────────────────────────────


def keygen(path: Path, kind: str, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    return path


def test_another_host_key_is_sent_nothing(share: Share, tmp_path: Path) -> None:
    keygen(tmp_path / "other", "ed25519")
    share.settings["host_key"] = (tmp_path / "other.pub").read_text()
    share.settings["username"] = "deskhand-unseen"
    for attempt in (
        share.connector().check,
        lambda: list(share.connector().sync(None)),
        lambda: list(share.connector().inventory()),
        lambda: list(share.connector().memberships()),
    ):
        with pytest.raises(SourceRefused, match=r"another host key.*Nothing was sent"):
            attempt()
    logs = "".join(log.read_text() for log in share.server.home.glob("log-*"))
    assert "deskhand-unseen" not in logs


@pytest.mark.parametrize("kind", ["host_ed25519", "host_rsa"])
@pytest.mark.parametrize("written", ["fingerprint", "two", "key", "known_hosts"])
def test_the_host_key_in_all_its_spellings(share: Share, kind: str, written: str) -> None:
    public = (share.server.home / f"{kind}.pub").read_text()
    if written == "fingerprint":
        shown = subprocess.run(
            ["ssh-keygen", "-lf", str(share.server.home / f"{kind}.pub")], capture_output=True, check=True
        )
        share.settings["host_key"] = shown.stdout.decode().split()[1]
    elif written == "two":
        other = "SHA256:" + "A" * 43
        share.settings["host_key"] = f"{other}, {fingerprint(base64.b64decode(public.split()[1]))}"
    elif written == "known_hosts":
        share.settings["host_key"] = f"# a comment\n[127.0.0.1]:{share.port},files.example {public}"
    else:
        share.settings["host_key"] = public
    share.put("a", "x")
    assert "1 files" in share.connector().check()


@pytest.mark.parametrize("value", ["", [], "ssh-ed25519", "MD5:00:11", "anything"])
def test_a_source_without_a_host_key_is_refused(share: Share, value: object) -> None:
    with pytest.raises(ValidationError):
        SftpSettings.model_validate({**share.settings, "host_key": value})
    with pytest.raises(ValidationError):
        SftpSettings.model_validate({k: v for k, v in share.settings.items() if k != "host_key"})


def test_refused_credentials(share: Share, tmp_path: Path) -> None:
    share.put("a", "x")
    other = keygen(tmp_path / "other", "rsa").read_text()
    for settings in ({"private_key": other}, {"private_key": "", "password": "guessed"}):
        share.settings |= settings
        with pytest.raises(SourceRefused, match="Nothing was"):
            list(share.connector().sync(None))
    share.settings["private_key"] = "no key at all"
    with pytest.raises(SourceRefused, match="Nothing was sent"):
        share.connector().check()


def test_an_encrypted_private_key(share: Share, tmp_path: Path) -> None:
    key = keygen(tmp_path / "key", "ed25519", "open sesame")
    with (share.server.home / "authorized").open("a") as file:
        file.write((tmp_path / "key.pub").read_text())
    share.put("a", "x")
    share.settings |= {"private_key": key.read_text(), "passphrase": "open sesame"}
    assert set(synced(share).documents) == {"a.md"}
    share.settings["passphrase"] = "another one"
    with pytest.raises(SourceRefused, match="passphrase"):
        share.connector().check()
    assert "open sesame" not in repr(share.connector()._settings)


def test_a_password(tmp_path: Path) -> None:
    server = PasswordServer(tmp_path)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.md").write_text("x")
    settings = {"host": "127.0.0.1", "port": server.port, "path": "/root", "username": "bot"}
    settings |= {"host_key": server.fingerprint, "access": "everyone"}
    try:
        good = SftpSettings.model_validate({**settings, "password": "right"})
        with closing(SftpConnector(good, HERE)) as connector:
            assert "1 files" in connector.check()
        bad = SftpSettings.model_validate({**settings, "password": "wrong"})
        with (
            closing(SftpConnector(bad, HERE)) as connector,
            pytest.raises(SourceRefused, match="Nothing was"),
        ):
            connector.check()
    finally:
        server.close()


def test_no_address_but_public_ones(share: Share) -> None:
    settings = SftpSettings.model_validate({"port": share.port, **share.settings})
    with (
        closing(SftpConnector(settings)) as connector,
        pytest.raises(SourceRefused, match="no public address"),
    ):
        connector.check()


def test_a_closed_port_and_another_protocol(share: Share) -> None:
    with pytest.raises(SourceBusy, match="Nothing was"):
        share.connector(free_port()).check()
    with closing(Answering(lambda *_: (200, {}, b""))) as web, pytest.raises(SourceBusy, match="Nothing was"):
        share.connector(web.port).check()


# ── paths ────────────────────────────────────────────────────────────────────


def test_links_are_not_followed(share: Share, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("secret")
    share.put("inside", "x")
    (share.path / "file.md").symlink_to(outside / "secret.md")
    (share.path / "folder").symlink_to(outside)
    (share.path / "up").symlink_to("..")
    (share.path / "loop").symlink_to(".")
    (share.path / "to-inside.md").symlink_to("inside.md")
    os.mkfifo(share.path / "pipe.md")
    assert set(synced(share).documents) == {"inside.md"} == set(share.connector().inventory())


def test_a_top_that_is_a_link_is_followed(share: Share) -> None:
    share.put("a", "x")
    link = share.path.with_name(f"{share.path.name}-link")
    link.symlink_to(share.path)
    share.settings["path"] = str(link)
    assert set(synced(share).documents) == {"a.md"}


@pytest.mark.parametrize("swap", ["file", "folder", "pipe"])
def test_what_is_swapped_for_a_link_after_it_was_listed(share: Share, tmp_path: Path, swap: str) -> None:
    (tmp_path / "secret.md").write_text("secret")
    (share.path / "sub").mkdir()
    (share.path / "sub" / "secret.md").write_text("harmless")
    connector = share.connector()
    fetch = connector._fetch

    def swapped(entry: Entry, limit: int) -> Any:
        target = share.path / "sub"
        if swap == "folder":
            shutil.rmtree(target)
            target.symlink_to(tmp_path)
        else:
            (target / "secret.md").unlink()
            if swap == "file":
                (target / "secret.md").symlink_to(tmp_path / "secret.md")
            else:
                os.mkfifo(target / "secret.md")
        return fetch(entry, limit)

    connector._fetch = swapped
    (batch,) = connector.sync(None)
    assert [type(change) for change in batch.changes] == [Failed]


def test_names_of_all_kinds(share: Share) -> None:
    names = ("a b+c&d=e#g?h.md", "grün 🦘 e\u0301.md", "100 %.md", "%2e%2e.md", "..a.md", "back\\slash.md")
    for name in (*names, "line\nbreak.md"):
        (share.path / name).write_text(name)
    with open(os.fsencode(share.path) + b"/caf\xe9.md", "w", encoding="utf-8") as file:
        file.write("latin")
    share.settings["exclude"] = []
    replica = synced(share)
    assert set(replica.documents) == {*names, "line\nbreak.md", "caf\\xe9.md"}
    assert replica.documents["caf\\xe9.md"].body == b"latin"
    assert changes(replica.sync(share.connector())) == []


def test_large_files_come_whole(share: Share) -> None:
    """In pieces that are asked for ahead; lengths around the pieces' own."""
    bodies = {}
    for number, size in enumerate((0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 40 * PIECE + 7)):
        bodies[f"{number}.bin"] = random.Random(number).randbytes(size)
        (share.path / f"{number}.bin").write_bytes(bodies[f"{number}.bin"])
    assert {name: document.body for name, document in synced(share).documents.items()} == bodies


def test_a_file_that_grows_beyond_the_limit(share: Share) -> None:
    (share.path / "a.bin").write_bytes(bytes(3 * 2**20))
    share.settings["max_file_mb"] = 1
    connector = share.connector()
    client = connector._client
    with pytest.raises(ItemError, match="larger than 1 MB"):
        client.read(os.fsencode(share.path / "a.bin"), 2**20)
    assert client.read(os.fsencode(share.path / "a.bin"), 2**22) == bytes(3 * 2**20), "the session goes on"


# ── who may read ─────────────────────────────────────────────────────────────


def as_user(uid: int, gid: int, path: Path) -> bool:
    """Whether the kernel lets this user read the file."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(OSError):
            os.setgroups(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
            os.setgid(gid)
            os.setuid(uid)
            path.read_bytes()
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_tokens_say_what_the_server_lets_people_do(share: Share) -> None:
    """Nobody gets what the kernel refuses them; over random owners and modes of files and folders."""
    people = [pwd.getpwnam(name) for name in ("www-data", "games", "mail", "backup")]
    rng = random.Random(7)
    for number in range(60):
        folder = share.path / f"d{number}"
        folder.mkdir()
        (folder / "a.md").write_text("x")
        for path in (folder, folder / "a.md"):
            os.chown(path, rng.choice(people).pw_uid, rng.choice(people).pw_gid)
            path.chmod(rng.choice((0o755, 0o750, 0o711, 0o644, 0o640, 0o604, 0o044, 0o600, 0o055, 0o705)))
    documents = synced(share).documents
    assert len(documents) == 60
    accounts = share.connector()._accounts()
    opened = 0
    for name, document in documents.items():
        for person in people:
            groups = {accounts.group(gid) for gid in accounts.groups if person.pw_uid in accounts.of(gid)}
            tokens = {"everyone", f"user:{person.pw_name}", *(f"group:{group}" for group in groups)}
            granted = bool(document.access.tokens & tokens)
            real = as_user(person.pw_uid, person.pw_gid, share.path / name)
            assert real or not granted, f"{name}: {person.pw_name} by {document.access.tokens}"
            opened += granted and real
    assert opened > 30


def test_a_closed_folder_closes_what_is_in_it(share: Share) -> None:
    (share.path / "a" / "b").mkdir(parents=True)
    (share.path / "a" / "b" / "c.md").write_text("x")
    (share.path / "other.md").write_text("y")
    replica = synced(share)
    assert replica.documents["a/b/c.md"].access == Access.public()
    (share.path / "a").chmod(0o700)
    (change,) = changes(replica.sync(share.connector()))
    assert change == AccessChanged("a/b/c.md", Access.of(users=(share.server.user,)))
    share.path.chmod(0o750)
    replica.check_access(share.connector())
    assert "everyone" not in {t for d in replica.documents.values() for t in d.access.tokens}
    replica.sync(share.connector())
    assert "everyone" not in {t for d in replica.documents.values() for t in d.access.tokens}
    share.path.chmod(0o755)


def test_members_are_the_servers(share: Share) -> None:
    members = {member.user: member for member in share.connector().memberships()}
    expected = {member.user: member for member in posix.Accounts.here().persons()}
    assert members == expected
    share.settings["access"] = "everyone"
    assert list(share.connector().memberships()) == []


def test_names_that_somebody_else_could_have_written_count_as_numbers(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    share.put("a", "x")
    (share.path / "a.md").chmod(0o640)
    os.chown(share.path / "a.md", 1234, 4321)
    monkeypatch.setattr(Client, "is_roots", lambda *_: False)
    connector = share.connector()
    assert list(connector.memberships()) == []
    assert synced(share).documents["a.md"].access == Access.of(users=("1234",), groups=("4321",))


def test_what_only_root_can_write(share: Share) -> None:
    client = share.connector()._client
    etc = share.path / "etc"
    etc.mkdir(mode=0o755)
    path = etc / "passwd"
    path.write_text("x")
    path.chmod(0o644)
    assert client.is_roots(os.fsencode(path))
    (etc / "link").symlink_to("passwd")
    assert not client.is_roots(os.fsencode(etc / "link"))
    path.chmod(0o664)
    assert not client.is_roots(os.fsencode(path))
    path.chmod(0o644)
    os.chown(path, 1000, 0)
    assert not client.is_roots(os.fsencode(path))
    assert not client.is_roots(b"/etc/there-is-none")


def test_nobody_may_read_until_somebody_says_so(share: Share) -> None:
    del share.settings["access"]
    share.put("a", "x")
    assert synced(share).documents["a.md"].access == Access.nobody()


# ── an account that may not read everything ──────────────────────────────────


@pytest.fixture
def limited(share: Share) -> Share:
    share.settings["username"] = "www-data"
    return share


def test_a_file_the_account_may_not_read_fails_alone(limited: Share) -> None:
    limited.put("open", "x")
    limited.put("closed", "quokka-7731")
    (limited.path / "closed.md").chmod(0o600)
    replica = synced(limited)
    assert set(replica.documents) == {"open.md"}
    assert "forbids" in replica.failures["closed.md"]
    (limited.path / "closed.md").chmod(0o644)
    replica.sync(limited.connector())
    assert set(replica.documents) == {"open.md", "closed.md"}


def test_a_folder_that_can_not_be_listed_any_more_deletes_nothing(limited: Share) -> None:
    for path in ("a/in.md", "b/in.md", "open.md"):
        (limited.path / path).parent.mkdir(exist_ok=True)
        (limited.path / path).write_text(path)
    replica = synced(limited)
    for mode in (0o700, 0o711, 0o744):
        (limited.path / "a").chmod(mode)
        replica.sync(limited.connector())
        assert set(replica.documents) == {"a/in.md", "b/in.md", "open.md"}
        with contextlib.suppress(SourceBusy):
            assert set(limited.connector().inventory()) == set(replica.documents)


def test_a_top_that_may_not_be_listed(limited: Share) -> None:
    limited.put("a", "x")
    checkpoint = synced(limited).checkpoint
    limited.path.chmod(0o700)
    with pytest.raises(SourceRefused, match="Nothing was"):
        list(limited.connector().sync(checkpoint))
    limited.path.chmod(0o755)
