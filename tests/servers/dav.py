"""WebDAV servers over a folder of their own: Apache's mod_dav, wsgidav, and one that propagates ETags."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

from tests.servers.ports import free_port, stop, wait_for

USER, PASSWORD = "deskhand", "correct horse"
_APACHE = """
ServerRoot {home}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {home}/pid
ErrorLog {home}/log
User {user}
Group {group}
{modules}
TypesConfig /dev/null
DavLockDB {home}/locks
DocumentRoot {share}
LimitXMLRequestBody 0
<Directory {share}>
  Options -Indexes
  Dav On
  AuthType Basic
  AuthName share
  AuthUserFile {home}/passwords
  Require valid-user
</Directory>
"""
_MODULES = {
    "mpm_event": "mpm_event",
    "authn_core": "authn_core",
    "authz_core": "authz_core",
    "authn_file": "authn_file",
    "authz_user": "authz_user",
    "auth_basic": "auth_basic",
    "dav": "dav",
    "dav_fs": "dav_fs",
    "mime": "mime",
}


class Dav:
    """A running server; `share` is what it shows under `/`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, share: Path) -> None:
        self.process = process
        self.port = port
        self.share = share
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", auth=(USER, PASSWORD), timeout=30, trust_env=False
        )

    def ask(self, method: str, path: str, *, content: bytes | None = None, to: str = "") -> None:
        headers = {"Destination": f"http://127.0.0.1:{self.port}{to}"} if to else {}
        self.client.request(method, path, content=content, headers=headers).raise_for_status()

    def close(self) -> None:
        self.client.close()
        stop(self.process)


def apache(home: Path) -> Dav:
    """Debian's Apache in the foreground, as the user that Debian gives it."""
    share, port = home / "share", free_port()
    share.mkdir()
    for folder in (home, share):
        folder.chmod(0o777)  # its user writes locks, uploads and its log
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", "-stdin"],
        input=PASSWORD.encode(),
        capture_output=True,
        check=True,
    ).stdout.decode()
    (home / "passwords").write_text(f"{USER}:{hashed}")
    modules = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{file}.so" for name, file in _MODULES.items()
    )
    config = home / "httpd.conf"
    config.write_text(
        _APACHE.format(home=home, port=port, share=share, modules=modules, user="www-data", group="www-data")
    )
    with (home / "out").open("wb") as out:
        process = subprocess.Popen(
            ["/usr/sbin/apache2", "-f", str(config), "-D", "FOREGROUND"], stdout=out, stderr=out
        )
    wait_for(port, process, home / "out")
    return Dav(process, port, share)


def wsgidav(home: Path) -> Dav:
    share, port = home / "share", free_port()
    share.mkdir()
    config = home / "wsgidav.yaml"
    config.write_text(
        f"host: 127.0.0.1\nport: {port}\nprovider_mapping: {{'/': '{share}'}}\n"
        f"simple_dc: {{user_mapping: {{'*': {{{USER}: {{password: '{PASSWORD}'}}}}}}}}\n"
        "http_authenticator: {accept_basic: true, accept_digest: false, default_to_digest: false}\n"
        "property_manager: true\nlock_storage: true\nverbose: 1\n"
    )
    with (home / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "wsgidav.server.server_cli", f"--config={config}"], stdout=out, stderr=out
        )
    wait_for(port, process, home / "out")
    return Dav(process, port, share)
