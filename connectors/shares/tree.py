"""A remote tree of files: what its walk finds is compared with the snapshot in the checkpoint as it comes.

The checkpoint remembers how far a walk got, so a large tree is read in many slices
without being listed anew for each. A walk that was taken up in the middle is followed
by a whole one: only a whole one knows what is gone. A file is fetched when its stamp
moved; its revision is a hash of its content. A file that turns up with the content of
one that is gone is that file, renamed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import structlog
from pydantic import Field

from assistant.errors import ItemError, SourceBusy
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
from connectors.access import AccessRules, Tokens, read_people
from connectors.base import Connector, ConnectorSettings
from connectors.paths import AbsolutePath, Globs
from connectors.shares.files import DEFAULT_EXCLUDE, Pending, media_type, title, too_large
from connectors.shares.snapshot import Seen
from connectors.shares.treesnapshot import TreeSnapshot
from connectors.shares.walk import Entry, Folder, Found, Known, Same, Selection, Unseen, Whole

CHECK_LIMIT = 5_000
CHECK_SECONDS = 10.0
"""`check` stops counting files at either"""
SETTLED_AFTER = dt.timedelta(seconds=60)
"""a file changed more recently than this may be changed again within the same tick of its server's clock"""

log = structlog.get_logger(__name__)


class TreeSettings(ConnectorSettings):
    include: Globs = Field(
        default=("**",), description="Globs of files to take; a glob without a slash matches at any depth."
    )
    exclude: Globs = Field(
        default=DEFAULT_EXCLUDE, description="Globs of files and folders to leave out, before `include`."
    )
    url_prefix: str = Field(
        default="", description="Start of a file's link, before its path; default: where it is read from."
    )
    access_rules: dict[str, Tokens] = Field(
        default_factory=dict[str, tuple[str, ...]],
        description="Tokens for paths matching a glob, in place of `access`, e.g. restricted/** = "
        "group:security. Of several matching globs the most specific counts.",
    )
    people: AbsolutePath | None = Field(
        default=None, description="JSON file of users and their groups, for the tokens that `access` names."
    )
    max_file_mb: int = Field(
        default=100, ge=1, description="Files above this many MB are recorded as failures, unread."
    )


@dataclass(slots=True)
class _Pass:
    """One walk and what came of it."""

    known: TreeSnapshot
    after: str
    listed: set[str] = field(default_factory=set[str])
    same: set[str] = field(default_factory=set[str])
    """folders that were not looked into, because nothing below them changed"""
    due: set[str] = field(default_factory=set[str])
    """files that the next sync has to look at again, and all folders above them"""
    unseen: dict[str, str] = field(default_factory=dict[str, str])

    def alive(self, file: str) -> bool:
        """Whether `file`, a known one, surely exists."""
        return file in self.listed or any(place in self.same for place in _upwards(file))

    def covers(self, file: str) -> bool:
        """Whether `file`, if it existed, would have been listed."""
        return not any(place in self.unseen for place in _upwards(file))


@dataclass(frozen=True, slots=True)
class _Step:
    changes: list[Change]
    seen: Seen | None = None
    """what is known of the file once these are committed; None: nothing new"""
    moved_from: str = ""


class TreeConnector(Connector):
    """Subclasses list folders and fetch files; `access` None: each entry brings its own."""

    def __init__(self, settings: TreeSettings, *, access: Access | None, place: str, link: str) -> None:
        self._tree = settings
        self._access = access
        self._place = place
        """what is read, for messages: «the folder … of …»"""
        self._link = (settings.url_prefix or link).rstrip("/")
        self._rules = AccessRules(settings.access_rules)
        self._selection = Selection(settings.include, settings.exclude)
        self._limit = settings.max_file_mb * 2**20
        self._configured = hashlib.blake2b(f"{settings.model_dump_json()}\n{link}".encode()).digest()
        self._listed: set[str] | None = None
        self._known_empty = False

    @abstractmethod
    def _walk(self, *, after: str = "", known: Known | None = None) -> Iterator[Found]:
        """See `walk.walk`; raises `SourceError` when the whole can't be listed."""

    @abstractmethod
    def _fetch(self, entry: Entry, limit: int) -> tuple[bytes, dict[str, Any]] | None:
        """The content and metadata; None when it is gone; raises `ItemError` (also above `limit`), `SourceError`."""

    @abstractmethod
    def _gone(self, file: str) -> bool:
        """Whether it surely does not exist."""

    def check(self) -> str:
        files = size = nobody = unseen = 0
        until = time.monotonic() + CHECK_SECONDS
        more = ""
        for found in self._walk():
            if isinstance(found, Entry):
                files += 1
                size += found.size
                nobody += not self._tokens(found)
            unseen += isinstance(found, Unseen)
            if files >= CHECK_LIMIT or time.monotonic() > until:
                more = "at least "
                break
        notes = [f"{more}{files:,} files ({size / 2**20:,.1f} MB)"]
        if nobody:
            notes.append(f"{nobody:,} of them readable by nobody as far as can be told")
        if unseen:
            notes.append(f"{unseen:,} places that can't be looked at")
        return f"{self._place[0].upper()}{self._place[1:]} holds {', '.join(notes)}."

    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        known = TreeSnapshot(checkpoint)
        self._listed = None
        self._known_empty = not known.documents()
        if known.at:
            yield from self._once(_Pass(known, known.at))
        yield from self._once(_Pass(known, ""))

    def inventory(self) -> Iterator[str]:
        """What the sync that just ended listed, else a walk of its own."""
        listed, self._listed = self._listed, None
        if listed is None:
            run = _Pass(TreeSnapshot(None), "")
            for found in self._walk():
                self._note(found, run)
            self._refuse_unsure(run)
            listed = run.listed
        if not listed and not self._known_empty:
            raise SourceBusy(self._looks_away())
        yield from sorted(listed)

    def memberships(self) -> Iterator[Member]:
        if self._tree.people is not None:
            yield from read_people(self._tree.people)

    def _once(self, run: _Pass) -> Iterator[Batch]:
        known, pending, position = run.known, Pending(), run.after

        def unchanged(folder: Folder) -> bool:
            return known.folder(folder.id) == self._folder_stamp(folder.stamp)

        for found in self._walk(after=run.after, known=unchanged):
            self._note(found, run)
            if isinstance(found, Whole) and found.id not in run.due:
                known.set_folder(found.id, self._folder_stamp(found.stamp))
            if not isinstance(found, Entry):
                continue
            step = self._compare(found, run)
            # The snapshot must not know of this step yet when the batch before it is closed.
            if not pending.has_room_for(step.changes):
                yield Batch(pending.take(), known.checkpoint(at=position))
            pending.add(step.changes)
            _record(found, step, run)
            position = found.id
            if pending.full:  # what is fetched beyond it would be fetched again, if the run stops here
                yield Batch(pending.take(), known.checkpoint(at=position))
        if not run.after:
            for change in self._final(run):
                if not pending.has_room_for([change]):
                    yield Batch(pending.take(), known.checkpoint(at=position))
                pending.add([change])
                if isinstance(change, Delete):
                    known.drop(change.external_id)
        if pending or known.changed(at=""):
            yield Batch(pending.take(), known.checkpoint(at=""))

    def _note(self, found: Found, run: _Pass) -> None:
        match found:
            case Entry(id=name):
                run.listed.add(name)
            case Same(id=name):
                run.same.add(name)
            case Unseen(id=name, reason=reason):
                run.unseen[name] = reason
                run.due.update(_upwards(name))
            case Whole():
                pass

    def _final(self, run: _Pass) -> Iterator[Change]:
        """What only a whole walk tells: files that are gone and places that can't be looked at."""
        documents = run.known.documents()
        present = run.listed | {name for name in documents if run.alive(name)}
        if documents and not present and not run.unseen:
            raise SourceBusy(self._looks_away())
        log.info("tree listed", place=self._place, files=len(present), known=len(documents))
        for name in sorted(documents - present):
            if run.covers(name):
                yield Delete(name)
        for name, reason in sorted(run.unseen.items()):
            yield Failed(name or "/", reason)
        self._listed = None if run.unseen else present

    def _compare(self, entry: Entry, run: _Pass) -> _Step:
        known = run.known
        before = known.files.get(entry.id)
        stamp = self._stamp(entry)
        access = self._tokens(entry)
        if before is not None and before.status == stamp:
            return _Step(*_granted(entry, before, before._replace(access=access)))
        if before is None and entry.lasting and (old := known.by_stamp(stamp)) is not None:
            moved = self._moved(old, entry, known.files[old]._replace(access=access), run)
            if moved is not None:
                return moved
        try:
            if entry.size > self._limit:
                return self._failed(entry, before, access, too_large(entry.size, self._tree.max_file_mb))
            fetched = self._fetch(entry, self._limit)
        except ItemError as error:
            return self._failed(entry, before, access, str(error))
        if fetched is None:
            run.due.update(_upwards(entry.id))
            return _Step([])
        body, metadata = fetched
        digest = hashlib.blake2b(f"{self._link}\n".encode(), digest_size=16)
        digest.update(body)
        content = digest.hexdigest()[:16]
        seen = Seen(content, stamp if entry.settled else TreeSnapshot.UNSETTLED, access)
        if before is not None and before.content == content:
            return _Step(*_granted(entry, before, seen))
        if before is None and (old := known.by_content(content)) is not None:
            moved = self._moved(old, entry, seen, run)
            if moved is not None:
                return moved
        return _Step([Upsert(self._document(entry, body, digest.hexdigest(), access, metadata))], seen)

    def _moved(self, old: str, entry: Entry, seen: Seen, run: _Pass) -> _Step | None:
        """The step if `entry` is the known file `old` under another name."""
        same_kind = PurePosixPath(old).suffix == PurePosixPath(entry.id).suffix
        if run.alive(old) or not same_kind or not self._gone(old):
            return None
        changes: list[Change] = [Renamed(old, entry.id, title(entry.id), self._url(entry.id))]
        granted, seen_now = _granted(entry, run.known.files[old], seen)
        return _Step([*changes, *granted], seen_now or seen, moved_from=old)

    def _failed(self, entry: Entry, before: Seen | None, access: tuple[str, ...], reason: str) -> _Step:
        """It stays due; a right that was taken away is taken away all the same."""
        failed = Failed(entry.id, reason)
        if before is None:
            return _Step([failed])
        granted, seen = _granted(entry, before, before._replace(access=access))
        return _Step([failed, *granted], seen)

    def _document(
        self, entry: Entry, body: bytes, revision: str, access: tuple[str, ...], metadata: dict[str, Any]
    ) -> SourceDocument:
        return SourceDocument(
            external_id=entry.id,
            kind=Kind.DOCUMENT,
            title=title(entry.id) or entry.id,
            body=body,
            revision=revision,
            access=Access(frozenset(access)),
            url=self._url(entry.id),
            media_type=media_type(entry.id),
            updated_at=entry.modified,
            metadata={"path": entry.id, "bytes": len(body), **metadata},
        )

    def _url(self, file: str) -> str:
        return f"{self._link}/{quote(file)}"

    def _tokens(self, entry: Entry) -> tuple[str, ...]:
        access = self._rules.find(entry.id) or (self._access if self._access is not None else entry.access)
        return tuple(sorted((access or Access.nobody()).tokens))

    def _stamp(self, entry: Entry) -> str:
        # With the link, because another one has to reach the documents that are known already.
        text = f"{self._link}\n{entry.stamp}\n{entry.size}"
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()

    def _folder_stamp(self, stamp: str) -> str:
        """With all settings: other globs or rules concern files whose folder did not change."""
        return hashlib.blake2b(self._configured + stamp.encode(), digest_size=8).hexdigest()

    def _refuse_unsure(self, run: _Pass) -> None:
        if run.unseen:
            raise SourceBusy(
                f"{len(run.unseen):,} places in {self._place} can't be looked at, the first is "
                f"«{min(run.unseen) or '/'}», so what is gone can't be told. Nothing was deleted. Give the "
                "account the right to list them, or exclude them."
            )

    def _looks_away(self) -> str:
        return (
            f"{self._place[0].upper()}{self._place[1:]} has no files, which looks like a storage that is "
            "missing. Nothing was changed or deleted. Bring it back; if the files are gone for good, remove "
            "this source."
        )


def settled(modified: dt.datetime | None, now: dt.datetime) -> bool:
    """Whether a file last changed long enough ago; `now` by the clock of its server, as far as is known."""
    return modified is not None and abs(now - modified) > SETTLED_AFTER


def _granted(entry: Entry, before: Seen, seen: Seen) -> tuple[list[Change], Seen | None]:
    """A change of who may read it, if there is one, and what to remember, if that is new."""
    changes: list[Change] = []
    if before.access != seen.access:
        changes.append(AccessChanged(entry.id, Access(frozenset(seen.access))))
    return changes, seen if seen != before else None


def _record(entry: Entry, step: _Step, run: _Pass) -> None:
    if step.moved_from:
        run.known.drop(step.moved_from)
    if step.seen is not None:
        run.known.set(entry.id, step.seen)
    if not entry.settled or any(isinstance(change, Failed) for change in step.changes):
        run.due.update(_upwards(entry.id))


def _upwards(path: str) -> Iterator[str]:
    """`path`, the folders above it, and the top, which is empty."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""
