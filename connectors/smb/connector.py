"""A folder of a Windows or Samba file server (SMB 2 and 3), with the access lists its files have.

**Account.** One that may list the folder, read its files and read their permissions, all of
them whatever the lists say: on Windows give it «Read» on the top folder for all below; on Samba
name it in `admin users` of the share. «Access based enumeration» and `hide unreadable` must hide
nothing from it. To know who is in which group it asks the server's account database (samr),
which Windows may have to be told to allow.

**What is read.** Files of the folder, chosen by `include` and `exclude`. Links of the file
system are not followed. A sync lists all folders, without opening a file, and reads those
whose id, size or times moved; a file that was renamed or moved keeps its id and is not read
again. What is gone from the listing is deleted, but never when a folder could not be listed
or nothing at all is there.

**Who may read.** Whom the file's list lets read its data, entries in their order, denies
included, provided the setting `share_readers` has them too, because servers do not tell
Deskhand's account who may connect to a share. The permission sync reads the lists of all files anew:
that a list changed is nowhere else to be seen. «Everyone» and «Authenticated Users» mean the
people the server knows, never the whole world, unless it takes guests in (`guests`).
Where a list denies, the people are gone through one by one; a deny whose members can't
be known withholds what stands after it. Unless `lists_alone` is set more is withheld, because the
server may refuse more than its lists say: **set it for Windows, and for Samba with
`acl_xattr:ignore system acls = yes`.**

**Who somebody is.** SMB knows no e-mail addresses: they come from the file `people` or from
`email_domain`. On a member of a domain name a `domain_controller`, or list the people in that file.

**Limits.** A deny of somebody who joins a denied group is noticed by the next permission sync.
Conditional entries are not evaluated: what they would allow is withheld. Windows' central access
policies narrow lists in a way that can't be seen here: do not connect a folder that has one. Rights
that let an administrator read in spite of the list are not counted. DFS namespaces are not followed.
Samba tells of a new account up to ten seconds late.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import quote

import structlog
from pydantic import Field, SecretStr, field_validator

from assistant.errors import SourceBusy
from assistant.model import (
    Access,
    AccessChanged,
    Batch,
    Change,
    Delete,
    Failed,
    Kind,
    Member,
    Renamed,
    SourceDocument,
    Upsert,
)
from connectors.access import AccessRules, Tokens
from connectors.base import Connector, ConnectorSettings
from connectors.network import PUBLIC, Network
from connectors.paths import AbsolutePath, Globs
from connectors.shares.files import DEFAULT_EXCLUDE, media_type, title, too_large
from connectors.shares.snapshot import Snapshot
from connectors.shares.steps import Step, batches, plan
from connectors.smb.listing import Lister, SmbFile
from connectors.smb.rights import Rights
from connectors.smb.wire import GONE, Refused, Server

CHECK_LIMIT = 20_000
"""`check` stops counting files here"""
_SINCE_1601 = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)

log = structlog.get_logger(__name__)


class SmbSettings(ConnectorSettings):
    host: str = Field(
        min_length=1, description="Name or address of the server; a port may follow: files.example:445."
    )
    port: int = Field(default=445, ge=1, le=65535, description="Port, unless `host` names one.")
    share: str = Field(min_length=1, pattern=r"^[^\\/]+$", description="Name of the share.")
    folder: str = Field(
        default="", description="Folder in the share to read, such as manuals/en; default: all."
    )
    username: str = Field(min_length=1, description="Account to read with; see above for its rights.")
    password: SecretStr = Field(description="Its password.")
    domain: str = Field(default="", description="Its domain, where the server is a member of one.")
    share_readers: Globs = Field(
        min_length=1,
        description="Who may connect to the share, as names of groups and users the server knows; "
        "`Everyone` where nothing limits it. On Windows see the share's permissions, on Samba "
        "`valid users`, `invalid users` and `sharesec`.",
    )
    include: Globs = Field(
        default=("**",), description="Globs of files to take; a glob without a slash matches at any depth."
    )
    exclude: Globs = Field(
        default=DEFAULT_EXCLUDE, description="Globs of files and folders to leave out, before `include`."
    )
    url_prefix: str = Field(
        default="",
        description="Start of a file's link, before its path in the folder; default: file://host/share",
    )
    access_rules: dict[str, Tokens] = Field(
        default_factory=dict[str, tuple[str, ...]],
        description="Tokens for paths matching a glob, in place of the files' own lists, e.g. manuals/** = "
        "everyone. Of several matching globs the most specific counts.",
    )
    lists_alone: bool = Field(
        default=False,
        description="The server goes by a file's list alone, as Windows does unless its policy «Bypass "
        "traverse checking» was changed, and Samba with `acl_xattr:ignore system acls = yes`. Otherwise "
        "people must be allowed to pass every folder above a file too, and a list with a deny, which "
        "Samba's Unix permissions may read in another way, lets nobody in.",
    )
    guests: bool = Field(
        default=False,
        description="The server lets people in without an account: what Everyone may read is for everyone.",
    )
    people: AbsolutePath | None = Field(
        default=None, description="JSON file of users with their e-mail addresses and groups."
    )
    email_domain: str = Field(
        default="", description="Makes alice's address alice@… where the file of people has none."
    )
    domain_controller: str = Field(
        default="", description="Server to ask for the domain's users and groups, where `host` is a member."
    )
    max_file_mb: int = Field(
        default=100, ge=1, description="Files above this many MB are recorded as failures, unread."
    )

    @field_validator("folder")
    @classmethod
    def _inside(cls, folder: str) -> str:
        pieces = [piece for piece in re.split(r"[\\/]", folder) if piece]
        if ".." in pieces or "." in pieces:
            raise ValueError("write the path from the share's top, without . and ..")
        return "\\".join(pieces)


class SmbConnector(Connector):
    Settings: ClassVar[type[ConnectorSettings]] = SmbSettings

    def __init__(self, settings: SmbSettings, network: Network = PUBLIC) -> None:
        self._settings = settings
        self._network = network
        access = [settings.access_rules, settings.share_readers, settings.lists_alone, settings.guests]
        self._lister = Lister(
            settings.share,
            settings.folder,
            include=settings.include,
            exclude=settings.exclude,
            salt=settings.url_prefix,
            access_salt=json.dumps(access, sort_keys=True),
        )
        self._rules = AccessRules(settings.access_rules)
        self._server: Server | None = None
        self._controller: Server | None = None
        self._rights = Rights(
            settings.share,
            self._connected,
            self._domain_controller,
            share_readers=settings.share_readers,
            lists_alone=settings.lists_alone,
            guests=settings.guests,
            people=settings.people,
        )

    def check(self) -> str:
        listing = self._lister.list(self._connected(), limit=CHECK_LIMIT)
        megabytes = sum(file.size for file in listing.files.values()) / 2**20
        at_least = "at least " if len(listing.files) >= CHECK_LIMIT else ""
        notes = [f"{at_least}{len(listing.files):,} files ({megabytes:,.1f} MB)"]
        if listing.unseen:
            notes.append(f"{len(listing.unseen):,} places that can't be looked at")
        members = list(self.memberships())
        notes.append(
            f"{len(members):,} people may be let in, {sum(not member.email for member in members):,} of them "
            "without a known e-mail address"
        )
        return f"{self._place()} holds {', '.join(notes)}."

    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        self._rights.forget()
        known = Snapshot(checkpoint)
        listing = self._lister.list(self._connected())
        if known.files and not listing.files and not listing.unseen:
            raise SourceBusy(self._looks_emptied())
        for name, file in listing.files.items():
            before = known.files.get(name)
            access = before.access if before is not None else ()
            if (ruled := self._rules.find(name)) is not None:
                access = _tokens(ruled)
            listing.files[name] = replace(file, seen=file.seen._replace(access=access))
        steps = plan(known, listing)
        log.info("share listed", files=len(listing.files), known=len(known.files), changes=len(steps))
        yield from batches(steps, known, self._carry_out)

    def inventory(self) -> Iterator[str]:
        listing = self._lister.list(self._connected())
        if listing.unseen:
            raise SourceBusy(
                f"{len(listing.unseen):,} places in {self._place()} can't be looked at, the first is "
                f"«{min(listing.unseen)}», so what is gone can't be told. Nothing was deleted. Give "
                "Deskhand's account the right to list them, or exclude them."
            )
        if not listing.files:
            raise SourceBusy(self._looks_emptied())
        yield from sorted(listing.files)

    def memberships(self) -> Iterator[Member]:
        self._rights.forget()
        yield from self._rights.knowledge().members(self._settings.email_domain)

    def accesses(self) -> Iterator[AccessChanged]:
        """Three requests a file, in one round trip, of which many are under way at once."""
        listing = self._lister.list(self._connected())
        self._rights.read_folders(file.path for file in listing.files.values())
        ruled = {name: self._rules.find(name) for name in listing.files}
        asked = [file for name, file in listing.files.items() if ruled[name] is None]
        for name, access in ruled.items():
            if access is not None:
                yield AccessChanged(name, access)
        found = self._connected().permissions(self._settings.share, [(file.path, False) for file in asked])
        for file, descriptor in zip(asked, found, strict=True):
            if not isinstance(descriptor, Refused) or descriptor.status not in GONE:
                yield AccessChanged(file.id, self._rights.access(file.path, descriptor))

    def close(self) -> None:
        for server in (self._server, self._controller):
            if server is not None:
                server.close()
        self._server = self._controller = None

    # Reading

    def _carry_out(self, step: Step, known: Snapshot) -> list[Change]:
        """The changes to hand over for `step`; none when the file vanished meanwhile."""
        match step.kind:
            case "delete":
                return [Delete(step.id)]
            case "fail":
                return [Failed(step.id, step.reason)]
            case _:
                assert isinstance(step.file, SmbFile)  # noqa: S101 (the other steps are about a listed file)
        file = step.file
        changes: list[Change] = []
        if step.kind == "rename":
            changes.append(Renamed(step.old_id, file.id, title(file.id), self._url(file)))
        elif step.kind == "read":
            changes += self._read(file)
            if not changes or isinstance(changes[0], Upsert):
                return changes
        before = known.files.get(step.old_id or file.id)
        access = self._rules.find(file.id)
        if access is None:
            descriptor = self._connected().descriptor(self._settings.share, file.path, folder=False)
            if isinstance(descriptor, Refused) and descriptor.status in GONE:
                return []
            access = self._rights.access(file.path, descriptor)
        if before is not None and before.access != _tokens(access):
            changes.append(AccessChanged(file.id, access))
        return changes

    def _read(self, file: SmbFile) -> list[Change]:
        """The document, or why not; its permissions are those that held before and after it was read."""
        limit = self._settings.max_file_mb * 2**20
        if file.size > limit:
            return [Failed(file.id, too_large(file.size, self._settings.max_file_mb))]
        try:
            body, before, after = self._connected().read(self._settings.share, file.path, limit=limit)
        except Refused as refused:
            if refused.status in GONE:
                return []
            return [Failed(file.id, f"It can't be read: {refused}. It is tried again at the next sync.")]
        if len(body) > limit:
            return [Failed(file.id, too_large(len(body), self._settings.max_file_mb))]
        if before != after:
            reason = "Its permissions changed while it was read. It is tried again at the next sync."
            return [Failed(file.id, reason)]
        access = self._rules.find(file.id)
        return [
            Upsert(
                self._document(
                    file, body, self._rights.access(file.path, after) if access is None else access
                )
            )
        ]

    def _document(self, file: SmbFile, body: bytes, access: Access) -> SourceDocument:
        # The revision follows the content, so that a touched, copied or restored file is not embedded again.
        digest = hashlib.blake2b(f"{self._settings.url_prefix}\n".encode(), digest_size=16)
        digest.update(body)
        return SourceDocument(
            external_id=file.id,
            kind=Kind.DOCUMENT,
            title=title(file.id),
            body=body,
            revision=digest.hexdigest(),
            access=access,
            url=self._url(file),
            media_type=media_type(file.id),
            created_at=_moment(min(file.created, file.written) or file.written),
            updated_at=_moment(file.written),
            metadata={"path": file.id, "bytes": len(body)},
        )

    def _url(self, file: SmbFile) -> str:
        folder = f"/{quote(self._settings.folder.replace(chr(92), '/'))}" if self._settings.folder else ""
        prefix = (
            self._settings.url_prefix or f"file://{self._address()[0]}/{quote(self._settings.share)}{folder}"
        )
        return f"{prefix.rstrip('/')}/{quote(file.id)}"

    def _connected(self) -> Server:
        if self._server is None:
            self._server = self._connect(*self._address())
        return self._server

    def _domain_controller(self) -> Server | None:
        if self._controller is None and self._settings.domain_controller:
            self._controller = self._connect(*_host_and_port(self._settings.domain_controller, 445))
        return self._controller

    def _connect(self, host: str, port: int) -> Server:
        settings = self._settings
        user = f"{settings.domain}\\{settings.username}" if settings.domain else settings.username
        password = settings.password.get_secret_value()
        return Server(host, port, username=user, password=password, network=self._network)

    def _address(self) -> tuple[str, int]:
        return _host_and_port(self._settings.host, self._settings.port)

    def _place(self) -> str:
        folder = f"\\{self._settings.folder}" if self._settings.folder else ""
        return rf"\\{self._address()[0]}\{self._settings.share}{folder}"

    def _looks_emptied(self) -> str:
        return (
            f"{self._place()} has no files, which looks like a disk that is missing. Nothing was changed or "
            "deleted. If the files are gone for good, remove this source."
        )


def _tokens(access: Access) -> tuple[str, ...]:
    return tuple(sorted(access.tokens))


def _moment(ticks: int) -> dt.datetime | None:
    try:
        return _SINCE_1601 + dt.timedelta(microseconds=ticks // 10) if ticks > 0 else None
    except OverflowError:
        return None


def _host_and_port(text: str, port: int) -> tuple[str, int]:
    """`host`, `host:port` or `[v6]:port`."""
    match = re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+):(\d+)", text.strip())
    if match is None:
        return text.strip(), port
    return match[1] or match[3], int(match[2] or match[4] or port)
