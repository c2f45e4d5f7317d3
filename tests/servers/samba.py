"""A Samba server of its own: a folder, a port and accounts that this machine's own know nothing of.

smbd wants a Unix account behind each of its own and becomes that user when it opens files,
so it needs root. `libnss_wrapper` gives it a passwd and a group file of this server's.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from smbprotocol.connection import Connection
from smbprotocol.exceptions import AccessDenied, EndOfFile, ObjectNameNotFound, ObjectPathNotFound
from smbprotocol.file_info import InfoType
from smbprotocol.open import Open, SMB2SetInfoRequest
from smbprotocol.security_descriptor import (
    AccessAllowedAce,
    AccessDeniedAce,
    AclPacket,
    SDControl,
    SIDPacket,
    SMB2CreateSDBuffer,
)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect
from spnego._ntlm_raw.crypto import ntowfv1

PASSWORD = "a-Passw0rd of these tests"
READER = "deskhand"
"""the account Deskhand reads with: it may read everything, whatever the lists say"""
_FIRST_ID = 61_000
_WRAPPER = "libnss_wrapper.so"


class Samba:
    """Started when made; `stop` ends it and leaves the folder behind.

    `groups` are the server's global groups; `aliases` its local ones, whose members may be
    users and global groups. Share `docs` is the folder `share`; `share_options` adds lines to it.
    With `checks_folders` people must be allowed to pass the folders above a file, as Unix wants it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        users: Iterable[str] = (),
        groups: Mapping[str, Iterable[str]] | None = None,
        aliases: Mapping[str, Iterable[str]] | None = None,
        share_options: str = "",
        checks_folders: bool = False,
    ) -> None:
        self.folder = folder
        self.share = folder / "share"
        self.port = _free_port()
        self.users = [READER, *users]
        self._groups = {name: set(members) for name, members in (groups or {}).items()}
        self._written = 1_000_000_000
        self._aliases = dict.fromkeys(aliases or {})
        for name in ("share", "state", "cache", "lock", "private", "log", "pid", "ncalrpc"):
            (folder / name).mkdir(parents=True)
        self.share.chmod(0o777)
        self._conf = folder / "smb.conf"
        self._conf.write_text(self._configuration(share_options, checks_folders))
        self._write_accounts()
        self._process: subprocess.Popen[bytes] | None = None
        self._import_users()
        for name in self._groups:
            self._tool("net", "groupmap", "add", f"ntgroup={name}", f"unixgroup={name}", "type=domain")
        for name in self._aliases:
            self._tool("net", "groupmap", "add", f"ntgroup={name}", f"unixgroup={name}", "type=local")
        for name, members in (aliases or {}).items():
            for member in members:
                self.join(member, name)
        self.start()

    def start(self) -> None:
        with (self.folder / "log" / "out").open("ab") as log:
            self._process = subprocess.Popen(
                # Ends with the tests even if those are killed.
                [
                    *("setpriv", "--pdeathsig", "TERM"),
                    "smbd",
                    "-F",
                    "--no-process-group",
                    "-s",
                    str(self._conf),
                    "-l",
                    str(self.folder / "log"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        until = time.monotonic() + 30
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"smbd did not start: {(self.folder / 'log' / 'out').read_text()[-2000:]}")

    def stop(self) -> None:
        """End it, the processes of its connections, and the helpers that answer remote calls."""
        helpers = self.folder / "pid" / "samba-dcerpcd.pid"
        if helpers.exists():
            with suppress(ProcessLookupError):
                os.killpg(int(helpers.read_text()), signal.SIGKILL)
            helpers.unlink()
        if self._process is not None:
            for sign in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(self._process.pid, sign)
                    self._process.wait(5)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue
            self._process = None

    # Accounts

    def join(self, member: str, group: str) -> None:
        """Put a user or a global group into a group."""
        if group in self._groups:
            self._groups[group].add(member)
            self._write_accounts()
        else:
            self._tool("net", "sam", "addmem", group, member)

    def leave(self, member: str, group: str) -> None:
        if group in self._groups:
            self._groups[group].discard(member)
            self._write_accounts()
        else:
            self._tool("net", "sam", "delmem", group, member)

    def members(self, group: str) -> frozenset[str]:
        """Of a global group."""
        return frozenset(self._groups[group])

    def disable(self, user: str) -> None:
        self._tool("smbpasswd", "-L", "-d", user)

    def enable(self, user: str) -> None:
        self._tool("smbpasswd", "-L", "-e", user)

    def sid(self, name: str) -> str:
        """Of a user, a group or an alias."""
        found = self._tool("net", "sam", "show", name)
        return found.split(" with SID ")[1].split()[0] if " with SID " in found else found.split()[-1]

    def share_acl(self, text: str) -> None:
        """Permissions of the share itself, as `sharesec` writes them."""
        self._tool("sharesec", "docs", "-R", text)

    def _import_users(self) -> None:
        """All at once: a tool a user takes seconds."""
        secret = ntowfv1(PASSWORD).hex().upper()
        lines = [
            f"{name}:{_FIRST_ID + number}:{'X' * 32}:{secret}:[U          ]:LCT-5F000000:"
            for number, name in enumerate(self.users)
        ]
        file = self.folder / "private" / "import"
        file.write_text("\n".join(lines) + "\n")
        self._tool("pdbedit", "-i", f"smbpasswd:{file}")

    def _write_accounts(self) -> None:
        passwd = ["root:x:0:0::/root:/bin/sh", "nobody:x:65534:65534::/:/bin/false"]
        group = ["root:x:0:", "nogroup:x:65534:", f"people:x:{_FIRST_ID}:"]
        passwd += [
            f"{name}:x:{_FIRST_ID + number}:{_FIRST_ID}:{name.title()}:/:/bin/false"
            for number, name in enumerate(self.users)
        ]
        for number, name in enumerate([*self._groups, *self._aliases], 500):
            members = ",".join(sorted(self._groups.get(name, ())))
            group.append(f"{name}:x:{_FIRST_ID + number}:{members}")
        for file, lines in (("passwd", passwd), ("group", group)):
            new = self.folder / f"{file}.new"
            new.write_text("\n".join(lines) + "\n")
            # The wrapper reads a file again when its time is another one, in whole seconds.
            self._written += 1
            os.utime(new, (self._written, self._written))
            new.replace(self.folder / file)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LD_PRELOAD": _WRAPPER,
            "NSS_WRAPPER_PASSWD": str(self.folder / "passwd"),
            "NSS_WRAPPER_GROUP": str(self.folder / "group"),
        }

    def _tool(self, *command: str, typed: str = "") -> str:
        run = subprocess.run(
            [command[0], "-c" if command[0] == "smbpasswd" else "-s", str(self._conf), *command[1:]],
            input=typed,
            capture_output=True,
            text=True,
            env=self._environment(),
            timeout=30,
            check=False,
        )
        if run.returncode:
            raise RuntimeError(f"{' '.join(command)}: {run.stdout}{run.stderr}")
        return run.stdout

    def _configuration(self, share_options: str, checks_folders: bool) -> str:
        if not shutil.which("smbd"):
            raise RuntimeError("smbd is not installed: run `make install-servers`")
        folder = self.folder
        return f"""
[global]
server role = standalone server
workgroup = WORKGROUP
netbios name = FILES
interfaces = 127.0.0.1
bind interfaces only = yes
smb ports = {self.port}
disable netbios = yes
private dir = {folder}/private
state directory = {folder}/state
cache directory = {folder}/cache
lock directory = {folder}/lock
pid directory = {folder}/pid
ncalrpc dir = {folder}/ncalrpc
log file = {folder}/log/smbd.log
log level = 1
passdb backend = tdbsam:{folder}/private/passdb.tdb
map to guest = never
load printers = no
printcap name = /dev/null
disable spoolss = yes
server min protocol = SMB2
vfs objects = acl_xattr
acl_xattr:ignore system acls = {"no" if checks_folders else "yes"}
acl_xattr:default acl style = windows
store dos attributes = yes
inherit acls = yes
access based share enum = no
hide unreadable = no
[docs]
path = {folder}/share
read only = no
admin users = {READER}
{share_options}
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


FULL, READ, PASS = 0x1F01FF, 0x1200A9, 0x1000A0
"""everything; read and pass through; pass through alone"""
TO_HEIRS = 0x3
"""flags of an entry that files and folders below inherit"""
Ace = tuple[bool, str, int, int]
"""whether it allows, to which SID, what, and how it is inherited"""


class Visitor:
    """Somebody who is signed in, with the library's own means and none of the connector's."""

    def __init__(self, samba: Samba, user: str, share: str = "docs") -> None:
        self._connection = Connection(uuid.uuid4(), "127.0.0.1", samba.port)
        self._connection.connect(timeout=10)
        try:
            session = Session(self._connection, user, PASSWORD, require_encryption=False)
            session.connect()
            self._tree = TreeConnect(session, rf"\\127.0.0.1\{share}")
            self._tree.connect()
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        self._connection.disconnect(close=False)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reads(self, path: str) -> bool:
        """Whether this person gets at the contents of the file, asking for no more than that."""
        file = Open(self._tree, path.replace("/", "\\"))
        try:
            file.create(2, 0x1, 0, 7, 1, 0x40)
            file.read(0, 1)
        except EndOfFile:
            pass
        except (AccessDenied, ObjectNameNotFound, ObjectPathNotFound):
            return False
        file.close()
        return True

    def protect(self, path: str, entries: Iterable[Ace]) -> None:
        """Give a file or folder this access list; nothing below it is touched, whatever the flags say."""
        listed = AclPacket()
        listed["aces"] = [self._ace(*entry) for entry in entries]
        descriptor = SMB2CreateSDBuffer()
        descriptor.set_dacl(listed)
        for flag in (SDControl.SELF_RELATIVE, SDControl.DACL_PROTECTED):
            descriptor["control"].set_flag(flag)
        place = Open(self._tree, path.replace("/", "\\"))
        place.create(2, 0x60080, 0, 7, 1, 0)
        request = SMB2SetInfoRequest()
        request["info_type"] = InfoType.SMB2_0_INFO_SECURITY
        request["additional_information"] = 0x4
        request["file_id"] = place.file_id
        request["buffer"] = descriptor
        session = self._tree.session
        sent = session.connection.send(request, session.session_id, self._tree.tree_connect_id)
        session.connection.receive(sent)
        place.close()

    @staticmethod
    def _ace(allow: bool, sid: str, mask: int, flags: int) -> AccessAllowedAce | AccessDeniedAce:
        ace = AccessAllowedAce() if allow else AccessDeniedAce()
        ace["ace_flags"] = flags
        ace["mask"] = mask
        trustee = SIDPacket()
        trustee.from_string(sid)
        ace["sid"] = trustee
        return ace
