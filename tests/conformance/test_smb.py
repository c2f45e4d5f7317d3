from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.network import Network
from connectors.smb import SmbConnector, SmbSettings
from tests.conformance.connector import ConnectorConformance, WritableSource
from tests.servers.faults import TcpFaults
from tests.servers.samba import FULL, PASSWORD, READ, READER, Samba, Visitor

pytestmark = pytest.mark.server

LOOPBACK = Network(("127.0.0.1",))
EVERYONE = "S-1-1-0"
PEOPLE = [f"person{number:02}" for number in range(20)]
GROUPS = {"staff": ["alice", "bob"], "hr": ["carol"]} | {
    f"team{n}": PEOPLE[n * 3 : n * 3 + 6] for n in range(5)
}
ALIASES = {
    "readers": ["staff", "carol"],
    "inner": ["staff"],
    "outer": ["inner", "carol"],
    "mixed": ["team1", "person00"],
}
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def samba() -> Iterator[Samba]:
    folder = Path(tempfile.mkdtemp(prefix="deskhand-samba-"))
    folder.chmod(0o755)  # smbd becomes the user who signed in
    server = Samba(
        folder / "server", users=["alice", "bob", "carol", *PEOPLE], groups=GROUPS, aliases=ALIASES
    )
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def owner(samba: Samba) -> Iterator[Visitor]:
    with Visitor(samba, READER) as visitor:
        yield visitor


class Share(WritableSource):
    """A folder of its own in the server's share: written to on the server's disk, protected over the network."""

    proxy = TcpFaults

    def __init__(self, samba: Samba, owner: Visitor, **settings: Any) -> None:
        self.samba, self.owner, self.port = samba, owner, samba.port
        self.name = f"t{next(_numbers)}"
        self.path = samba.share / self.name
        self.path.mkdir()
        self.protect("", everyone=READ)
        self.settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "share": "docs",
            "folder": self.name,
            "username": READER,
            "password": PASSWORD,
            "share_readers": "Everyone",
            "check_folders": False,
            **settings,
        }

    def connector(self, port: int | None = None) -> SmbConnector:
        settings = {**self.settings, "host": f"127.0.0.1:{port or self.samba.port}"}
        return SmbConnector(SmbSettings.model_validate(settings), LOOPBACK)

    def protect(self, path: str, **allowed: int) -> None:
        """Give what `path` names a list that allows these and nobody else."""
        sids = {name: EVERYONE if name == "everyone" else self.samba.sid(name) for name in allowed}
        entries = [(True, sids[name], mask, 0) for name, mask in allowed.items()]
        self.owner.protect(f"{self.name}/{path}".rstrip("/"), entries)

    def put(self, name: str, text: str) -> str:
        path = self.path / f"{name}.md"
        new = not path.exists()
        path.write_text(text)
        if new:
            self.protect(f"{name}.md", everyone=READ)
        return f"{name}.md"

    def remove(self, name: str) -> None:
        (self.path / f"{name}.md").unlink()

    def rename(self, name: str, to: str) -> None:
        (self.path / "sub").mkdir(exist_ok=True)
        (self.path / f"{name}.md").rename(self.path / "sub" / f"{to}.md")

    def spoil(self) -> None:
        self.settings["max_file_mb"] = 1
        with (self.path / "huge.md").open("wb") as file:
            file.write(b"quokka-7731")
            file.truncate(50 * 2**30)

    def withdraw(self, name: str) -> None:
        unknown = "S-1-5-21-1-2-3-1234"
        self.owner.protect(f"{self.name}/{name}.md", [(False, unknown, FULL, 0), (True, EVERYONE, READ, 0)])

    def restrict(self, name: str) -> str:
        self.protect(f"{name}.md", alice=READ)
        return f"group:{EVERYONE}"

    def vanish(self) -> None:
        shutil.rmtree(self.path)


@pytest.fixture
def share(samba: Samba, owner: Visitor) -> Iterator[Share]:
    share = Share(samba, owner)
    yield share
    shutil.rmtree(share.path, ignore_errors=True)


class TestSmb(ConnectorConformance):
    @pytest.fixture
    def source(self, share: Share) -> WritableSource:
        return share
