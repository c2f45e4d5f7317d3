"""A folder of an SSH server, read over SFTP.

**What it needs.** Host, folder, an account with a password or private key, and the
server's host key: without one that matches nothing is sent. `ssh-keyscan HOST` prints
it; compare it with what the server's admin tells you. Give the account no right to
write, and where you can lock it into the folder (`ChrootDirectory`, `internal-sftp`).

**What is read.** Every file below the folder that `include` and `exclude` take. Links are
not followed, so nothing outside the folder is read.

**How changes are noticed.** Each sync lists all folders; a file is fetched when its size
or modification time moved. An edit that leaves both as they were is not noticed. A file
that turns up with the content of one that is gone counts as renamed.

**Who may read.** To begin with, nobody. `access: posix` takes owner, group and mode bits of
a file and of the folders that lead to it. Their names come from the server's `/etc/passwd`
and `/etc/group`, where only root can write these; else numbers stand for them
(`user:1001`, `group:100`), for which the file `people` has to say who is meant.
Or `access` and `access_rules` name the readers.

**Limits.** SFTP shows no access control lists. Where the server uses them (`ls -l` shows a
`+`), mode bits can promise more than a list grants: don't use `posix` there. Accounts that
a server has from a directory (LDAP) don't stand in its files.
"""

from __future__ import annotations

import datetime as dt
import stat
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr

from assistant.errors import ItemError, SourceRefused
from assistant.model import Access, AccessChanged, Member
from connectors.access import Tokens
from connectors.base import ConnectorSettings
from connectors.network import PUBLIC, Network
from connectors.sftp.client import Attributes, Client, connect
from connectors.sftp.hostkeys import HostKeys
from connectors.shares import posix
from connectors.shares.tree import TreeConnector, TreeSettings, settled
from connectors.shares.walk import Entry, Folder, Found, Known, Listed, Unseen, as_text, walk

ACCOUNTS_LIMIT = 16 * 2**20
"""bytes of /etc/passwd and /etc/group that are read"""


class _Server(ConnectorSettings):
    host: str = Field(description="Name or address of the server.", min_length=1)
    port: int = Field(default=22, ge=1, le=65535, description="Its port.")
    path: str = Field(description="Folder to read, as the account sees it.", min_length=1)
    username: str = Field(description="Account to read as.", min_length=1)
    password: SecretStr = Field(default=SecretStr(""), description="Its password.")
    private_key: SecretStr = Field(
        default=SecretStr(""),
        description="Its private key, the whole text of the file, in place of a password.",
    )
    passphrase: SecretStr = Field(
        default=SecretStr(""), description="What the private key is encrypted with."
    )
    host_key: HostKeys = Field(
        description="The server's host key: SHA256:…, or a line of ssh-keyscan; several stand in lines."
    )
    access: Annotated[Literal["posix"] | Tokens, Field(union_mode="left_to_right")] = Field(
        default=(),
        description="Who may read: posix (owner, group and mode bits), everyone, nobody, or tokens such as "
        "group:support.",
    )


class SftpSettings(TreeSettings, _Server):
    pass


class SftpConnector(TreeConnector):
    Settings: ClassVar[type[ConnectorSettings]] = SftpSettings

    def __init__(self, settings: SftpSettings, network: Network = PUBLIC) -> None:
        self._settings = settings
        self._network = network
        self._posix = settings.access == "posix"
        self._open: Client | None = None
        self._permissions = posix.Permissions(posix.Accounts())
        host = f"{settings.host}:{settings.port}" if settings.port != 22 else settings.host
        super().__init__(
            settings,
            access=None if settings.access == "posix" else Access(frozenset(settings.access)),
            place=f"the folder {settings.path} on {host}",
            link=f"sftp://{host}{quote('/' + settings.path.lstrip('/'))}",
        )

    def close(self) -> None:
        client, self._open = self._open, None
        if client is not None:
            client.close()

    def memberships(self) -> Iterator[Member]:
        """The people file's users; without one those of the server, where its own rights count."""
        if self._tree.people is not None:
            yield from super().memberships()
        elif self._posix:
            yield from self._accounts().persons()

    def accesses(self) -> Iterator[AccessChanged]:
        if self._posix:
            for found in self._walk():
                if isinstance(found, Entry):
                    yield AccessChanged(found.id, Access(frozenset(self._tokens(found))))

    @property
    def _client(self) -> Client:
        if self._open is None:
            settings = self._settings
            self._open = connect(
                settings.host,
                settings.port,
                self._network,
                username=settings.username,
                password=settings.password.get_secret_value(),
                private_key=settings.private_key.get_secret_value(),
                passphrase=settings.passphrase.get_secret_value(),
                host_keys=settings.host_key,
            )
        return self._open

    def _walk(self, *, after: str = "", known: Known | None = None) -> Iterator[Found]:
        top = self._top()
        chain: frozenset[posix.Acl] = frozenset()
        if self._posix:
            self._permissions = posix.Permissions(self._accounts())
            chain = frozenset(self._traversal(self._client.look(path)) for path in _above(top))
        folder = Folder("", top, context=chain)
        yield from walk(folder, self._list, self._selection, after=after, known=known)

    def _top(self) -> bytes:
        """The folder with all links resolved."""
        try:
            path = self._client.resolve(self._settings.path.encode())
        except ItemError as error:
            raise self._missing() from error
        if path is None or not self._client.is_folder(path):
            raise self._missing()
        return path

    def _missing(self) -> SourceRefused:
        return SourceRefused(
            f"{self._place[0].upper()}{self._place[1:]} does not exist, or this account may not read it. Nothing "
            "was changed or deleted; correct the setting, or give the account the right."
        )

    def _list(self, folder: Folder) -> list[Listed] | None:
        # A folder may have been swapped for a link since it was listed.
        if self._client.resolve(folder.handle) != folder.handle:
            raise ItemError("It was replaced by a link. It is looked at again at the next sync.")
        entries = self._client.list(folder.handle)
        if entries is None:
            return None
        if not entries:
            # A folder that we may list but not enter looks empty: OpenSSH leaves out what it can't look at.
            self._client.look(folder.handle + b"/.")
        now = dt.datetime.now(dt.UTC)
        listed: list[Listed] = []
        for name, attributes in entries:
            if name in (b".", b"..") or b"/" in name or b"\0" in name:
                continue
            path = f"{folder.id}/{as_text(name)}" if folder.id else as_text(name)
            handle = folder.handle.rstrip(b"/") + b"/" + name
            mode = attributes.mode
            if stat.S_ISDIR(mode):
                chain = folder.context | {self._traversal(attributes)} if self._posix else frozenset()
                listed.append(Folder(path, handle, context=chain))
            elif stat.S_ISREG(mode):
                listed.append(self._entry(path, handle, attributes, folder.context, now))
            elif not mode:
                listed.append(Unseen(path, "The server does not say whether it is a file. Exclude it."))
        return listed

    def _entry(
        self, path: str, handle: bytes, found: Attributes, chain: frozenset[posix.Acl], now: dt.datetime
    ) -> Entry:
        access = None
        if self._posix:
            acl = posix.mode_acl(found.mode, found.owner, found.group, posix.READ)
            access = self._permissions.access(chain, acl)
        modified = dt.datetime.fromtimestamp(found.modified, dt.UTC)
        return Entry(
            path,
            handle,
            found.size,
            stamp=str(found.modified),
            modified=modified,
            access=access,
            settled=settled(modified, now),
        )

    def _traversal(self, folder: Attributes) -> posix.Acl:
        return posix.mode_acl(folder.mode, folder.owner, folder.group, posix.TRAVERSE)

    def _fetch(self, entry: Entry, limit: int) -> tuple[bytes, dict[str, Any]] | None:
        body = self._client.read(entry.handle, limit)
        return None if body is None else (body, {})

    def _gone(self, file: str) -> bool:
        return self._client.gone(self._top().rstrip(b"/") + b"/" + file.encode())

    def _accounts(self) -> posix.Accounts:
        """The server's own names; none where somebody else than root could have written them."""
        client = self._client
        if not all(client.is_roots(path) for path in (b"/", b"/etc")):
            return posix.Accounts()
        texts = [
            client.read(path, ACCOUNTS_LIMIT) if client.is_roots(path) else None
            for path in (b"/etc/passwd", b"/etc/group")
        ]
        passwd, group = ((text or b"").decode("utf-8", "replace") for text in texts)
        return posix.Accounts.parse(passwd, group)


def _above(path: bytes) -> Iterator[bytes]:
    """`path` and the folders that lead to it."""
    while True:
        yield path
        if path in (b"/", b""):
            return
        path = path.rpartition(b"/")[0] or b"/"
