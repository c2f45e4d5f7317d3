"""Debian's OpenSSH server with keys and accounts of its own folder."""

from __future__ import annotations

import os
import subprocess
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
