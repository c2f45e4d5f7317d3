"""Debian's OpenSSH server with keys and accounts of its own folder."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from pathlib import Path

import paramiko

from tests.servers.ports import free_port, stop, wait_for

_CONFIG = """
ListenAddress 127.0.0.1:{port}
PidFile none
HostKey {home}/host_ed25519
HostKey {home}/host_rsa
AuthorizedKeysFile {home}/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel ERROR
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp -u 0022
"""


class Ssh:
    """A running server, and a session on it that writes."""

    def __init__(self, home: Path, *, extra: str = "") -> None:
        self.home = home
        self.port = free_port()
        self.user = "root" if os.getuid() == 0 else os.environ["USER"]
        for name, kind in (("host_ed25519", "ed25519"), ("host_rsa", "rsa"), ("client", "ed25519")):
            if not (home / name).exists():
                subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(home / name)], check=True)
        (home / "authorized").write_bytes((home / "client.pub").read_bytes())
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where it locks its unprivileged child in
        config = home / f"config-{self.port}"
        config.write_text(_CONFIG.format(port=self.port, home=home) + extra)
        log = home / f"log-{self.port}"
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], stdout=out, stderr=out
            )
        wait_for(self.port, self.process, log)
        self._transport = paramiko.Transport(("127.0.0.1", self.port))
        self._transport.connect(username=self.user, pkey=paramiko.Ed25519Key(filename=str(home / "client")))
        sftp = paramiko.SFTPClient.from_transport(self._transport)
        assert sftp is not None
        self.sftp = sftp

    @property
    def private_key(self) -> str:
        return (self.home / "client").read_text()

    @property
    def host_key(self) -> str:
        return (self.home / "host_ed25519.pub").read_text()

    def close(self) -> None:
        self._transport.close()
        stop(self.process)


class PasswordServer(paramiko.ServerInterface):
    """A server of SFTP that knows one account, `bot`, and its password, `right`; `/` is `root`."""

    def __init__(self, root: Path) -> None:
        self._key = paramiko.RSAKey.generate(2048)
        self.fingerprint = self._key.fingerprint
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._transports: list[paramiko.Transport] = []
        self._root = root
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                transport = paramiko.Transport(client)
                transport.add_server_key(self._key)
                transport.set_subsystem_handler("sftp", paramiko.SFTPServer, Files, str(self._root))
                self._transports.append(transport)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transport.start_server(server=self)

    def check_auth_password(self, username: str, password: str) -> int:
        good = (username, password) == ("bot", "right")
        return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for transport in self._transports:
            transport.close()


class Files(paramiko.SFTPServerInterface):
    def __init__(self, server: paramiko.ServerInterface, root: str) -> None:
        super().__init__(server)
        self._root = root

    def _at(self, path: str) -> str:
        return self._root + self.canonicalize(path)

    def list_folder(self, path: str) -> list[paramiko.SFTPAttributes]:
        folder = self._at(path)
        return [
            paramiko.SFTPAttributes.from_stat(os.lstat(f"{folder}/{name}"), name)
            for name in os.listdir(folder)
        ]

    def lstat(self, path: str) -> paramiko.SFTPAttributes:
        return paramiko.SFTPAttributes.from_stat(os.lstat(self._at(path)))

    stat = lstat

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle:
        handle = paramiko.SFTPHandle(flags)
        handle.readfile = open(self._at(path), "rb")  # noqa: SIM115 - the handle closes it
        return handle
