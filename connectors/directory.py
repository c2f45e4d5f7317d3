"""A folder of this machine, local or mounted (NFS, SMB, a container's volume).

Every sync lists the whole folder and compares it with the snapshot in the checkpoint.
A file is read when its inode, size, mtime or ctime moved; where only its readers
changed nothing is read; the same inode, size and mtime under another path is a rename.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

import structlog
from pydantic import Field

from assistant.errors import SourceBusy
from assistant.model import (
    EVERYONE,
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
from connectors.access import AccessRules, Tokens, read_people
from connectors.base import Connector, ConnectorSettings
from connectors.network import PUBLIC, Network
from connectors.paths import AbsolutePath, Globs
from connectors.shares import posix
from connectors.shares.files import DEFAULT_EXCLUDE, media_type, title, too_large
from connectors.shares.listing import FILE_SYSTEM_AWAY, File, Lister, Listing, open_inside
from connectors.shares.snapshot import Snapshot
from connectors.shares.steps import Step, batches, plan

CHECK_LIMIT = 20_000
"""`check` stops counting files here"""
log = structlog.get_logger(__name__)


class DirectorySettings(ConnectorSettings):
    path: AbsolutePath = Field(description="Folder to read, as this machine sees it.")
    include: Globs = Field(
        default=("**",), description="Globs of files to take; a glob without a slash matches at any depth."
    )
    exclude: Globs = Field(
        default=DEFAULT_EXCLUDE, description="Globs of files and folders to leave out, before `include`."
    )
    url_prefix: str = Field(
        default="", description="Start of a file's link, before its path in the folder; default: file://"
    )
    access: Annotated[Literal["posix"] | Tokens, Field(union_mode="left_to_right")] = Field(
        default="posix",
        description="Who may read: posix (owners, mode bits and ACLs; readable by others means "
        "everyone), everyone, nobody, or tokens such as group:support.",
    )
    access_rules: dict[str, Tokens] = Field(
        default_factory=dict[str, tuple[str, ...]],
        description="Tokens for paths matching a glob, in place of `access`, e.g. restricted/** = "
        "group:security. Of several matching globs the most specific counts.",
    )
    people: AbsolutePath | None = Field(
        default=None,
        description="JSON file of users and their groups; without it those of this machine are used.",
    )
    follow_symlinks: bool = Field(
        default=False,
        description="Follow symbolic links that stay within the folder; others are never followed.",
    )
    max_file_mb: int = Field(
        default=100, ge=1, description="Files above this many MB are recorded as failures, unread."
    )


class DirectoryConnector(Connector):
    Settings: ClassVar[type[ConnectorSettings]] = DirectorySettings

    def __init__(self, settings: DirectorySettings, network: Network = PUBLIC) -> None:
        self._settings = settings
        self._root = os.path.normpath(settings.path)
        self._lister = Lister(
            self._root,
            include=settings.include,
            exclude=settings.exclude,
            rules=AccessRules(settings.access_rules),
            access=None if settings.access == "posix" else Access(frozenset(settings.access)),
            follow_symlinks=settings.follow_symlinks,
            salt=settings.url_prefix,
        )

    def check(self) -> str:
        listing = self._lister.list(limit=CHECK_LIMIT)
        megabytes = sum(file.size for file in listing.files.values()) / 2**20
        nobody = sum(not file.seen.access for file in listing.files.values())
        at_least = "at least " if len(listing.files) >= CHECK_LIMIT else ""
        notes = [f"{at_least}{len(listing.files):,} files ({megabytes:,.1f} MB)"]
        if nobody:
            notes.append(f"{nobody:,} of them readable by nobody as far as can be told")
        if listing.unseen:
            notes.append(f"{len(listing.unseen):,} places that can't be looked at")
        return f"The folder {self._root} holds {', '.join(notes)}."

    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        known = Snapshot(checkpoint)
        listing = self._lister.list()
        self._refuse_unmounted(known, listing)
        known.mounts = listing.mounts
        steps = plan(known, listing)
        log.info("directory listed", files=len(listing.files), known=len(known.files), changes=len(steps))
        yield from batches(steps, known, self._carry_out)

    def inventory(self) -> Iterator[str]:
        listing = self._lister.list()
        if listing.unseen:
            raise SourceBusy(
                f"{len(listing.unseen):,} places under {self._root} can't be looked at, the first is "
                f"«{min(listing.unseen)}», so what is gone can't be told. Nothing was deleted. Give "
                "Deskhand's user the right to list them, or exclude them."
            )
        if not listing.files:
            raise SourceBusy(_looks_unmounted(f"The folder {self._root} has no files"))
        yield from sorted(listing.files)

    def memberships(self) -> Iterator[Member]:
        """The people file's users; without one this machine's, where access may name them."""
        settings = self._settings
        if settings.people is not None:
            yield from read_people(settings.people)
        elif settings.access not in ((), (EVERYONE,)) or settings.access_rules:
            yield from posix.Accounts.here().persons()

    def watched(self) -> tuple[str, ...]:
        return (self._root,)

    def _refuse_unmounted(self, known: Snapshot, listing: Listing) -> None:
        """Raise `SourceBusy` where a mounted file system seems to be gone rather than its files deleted."""
        if known.files and not listing.files and not listing.unseen:
            raise SourceBusy(_looks_unmounted(f"The folder {self._root} has no files any more"))
        for mount in set(known.mounts) - set(listing.mounts):
            under = f"{mount}/" if mount else ""
            before = [file for file in known.files if file.startswith(under)]
            place = os.path.join(self._root, mount)
            if before and os.path.isdir(place) and not any(file in listing.files for file in before):
                raise SourceBusy(_looks_unmounted(f"{place} is no mounted file system any more"))

    def _carry_out(self, step: Step, known: Snapshot) -> list[Change]:
        """The changes to hand over for `step`; none when the file vanished meanwhile."""
        match step.kind:
            case "delete":
                return [Delete(step.id)]
            case "fail":
                return [Failed(step.id, step.reason)]
            case _:
                assert step.file is not None  # noqa: S101 (the other steps are about a listed file)
        file = step.file
        changes: list[Change] = []
        if step.kind == "rename":
            changes.append(Renamed(step.old_id, file.id, title(file.id), self._url(file)))
        elif step.kind == "read":
            changes += self._read(file)
            if not changes or isinstance(changes[0], Upsert):
                return changes
        before = known.files.get(step.old_id or file.id)
        if before is not None and before.access != file.seen.access:
            changes.append(AccessChanged(file.id, Access(frozenset(file.seen.access))))
        return changes

    def _read(self, file: File) -> list[Change]:
        limit = self._settings.max_file_mb * 2**20
        if file.size > limit:
            return [Failed(file.id, too_large(file.size, self._settings.max_file_mb))]
        try:
            handle = open_inside(self._root, file.path, follow_symlinks=self._settings.follow_symlinks)
            with os.fdopen(handle, "rb") as stream:
                status = os.fstat(handle)
                body = stream.read(limit + 1)
        except FileNotFoundError:
            return []
        except OSError as error:
            if error.errno in FILE_SYSTEM_AWAY:
                raise SourceBusy(
                    f"The file system of {self._root} went away while files were read: {error.strerror}. "
                    "Nothing was lost; the sync goes on where it stopped once its server is back."
                ) from error
            return [
                Failed(
                    file.id,
                    f"It can't be read: {error.strerror}. Give Deskhand's user the right to read it; "
                    "it is tried again at the next sync.",
                )
            ]
        if len(body) > limit:
            return [Failed(file.id, too_large(status.st_size, self._settings.max_file_mb))]
        return [Upsert(self._document(file, body, status))]

    def _document(self, file: File, body: bytes, status: os.stat_result) -> SourceDocument:
        # The revision follows the content, so that a touched, copied or restored file is not embedded again.
        digest = hashlib.blake2b(f"{self._settings.url_prefix}\n".encode(), digest_size=16)
        digest.update(body)
        changed = dt.datetime.fromtimestamp(status.st_mtime, dt.UTC)
        return SourceDocument(
            external_id=file.id,
            kind=Kind.DOCUMENT,
            title=title(file.id),
            body=body,
            revision=digest.hexdigest(),
            access=Access(frozenset(file.seen.access)),
            url=self._url(file),
            media_type=media_type(file.id),
            # Not the file's birth: what was written into it since must not pass for as old.
            created_at=changed,
            updated_at=changed,
            metadata={"path": file.id, "bytes": len(body)},
        )

    def _url(self, file: File) -> str:
        prefix = self._settings.url_prefix or f"file://{quote(os.fsencode(self._root))}"
        return f"{prefix.rstrip('/')}/{quote(os.fsencode(file.path))}"


def _looks_unmounted(what: str) -> str:
    return (
        f"{what}, which looks like a mount that is missing. Nothing was changed or deleted. Mount it "
        "again; if the files are gone for good, remove this source."
    )
