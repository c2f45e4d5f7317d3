from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connectors.network import Network
from connectors.sftp import SftpConnector, SftpSettings
from tests.conformance.connector import CONTENT_WORD, ConnectorConformance, WritableSource
from tests.servers.faults import TcpFaults
from tests.servers.openssh import Ssh

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
