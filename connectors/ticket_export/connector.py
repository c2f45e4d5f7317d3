"""Tickets out of a help desk's export: JSON lines, JSON or CSV files, gzipped or not.

Files are read in the order of their names; of several records with one id the last
counts. A checkpoint is `{"version", "settings", "files"}`: for each file how far it was
read, and a hash of every record up to there, so that a longer file is read on from
there and a rewritten one from its start.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import structlog

from assistant.errors import ItemError, SourceBusy, SourceRefused
from assistant.model import Access, Batch, Change, Failed, Member, Upsert
from connectors.access import read_people
from connectors.base import BATCH_SIZE, Connector, ConnectorSettings
from connectors.network import PUBLIC, Network
from connectors.paths import file_id
from connectors.ticket_export.mapping import compile_expression, missing_fields
from connectors.ticket_export.record import TicketReader
from connectors.ticket_export.records import START, Cut, Position, Record, Row, is_export, read_records
from connectors.ticket_export.settings import TicketExportSettings

VERSION = 1
SAMPLE = 200
"""records `check` and the test of the mapping look at"""
BATCH_BYTES = 16 * 2**20

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far one file was read. `identity`: size, mtime in ns and inode."""

    identity: tuple[int, int, int]
    offset: int = 0
    line: int = 0
    chain: str = ""
    """hash over all records so far, each with the hash before it"""
    done: bool = False

    @classmethod
    def load(cls, entry: Mapping[str, Any]) -> _Progress:
        size, mtime_ns, inode = entry["identity"]
        return cls((size, mtime_ns, inode), entry["offset"], entry["line"], entry["chain"], entry["done"])

    @property
    def position(self) -> Position:
        return Position(self.offset, self.line)

    def after(self, record: Record) -> _Progress:
        digest = hashlib.blake2b(self.chain.encode() + record.raw, digest_size=16)
        return replace(self, offset=record.end.offset, line=record.end.line, chain=digest.hexdigest())


class TicketExportConnector(Connector):
    Settings: ClassVar[type[ConnectorSettings]] = TicketExportSettings

    def __init__(self, settings: TicketExportSettings, network: Network = PUBLIC) -> None:
        self._settings = settings
        self._reader = TicketReader(
            settings.complete_mapping,
            access=Access(frozenset(settings.access)),
            text_media_type=settings.text_media_type,
            timezone=settings.timezone,
            date_format=settings.date_format,
            status_values=settings.status_values,
            role_values=settings.role_values,
            drop_if=settings.drop_if,
            salt=_fingerprint(
                settings, leave_out={"path", "people", "access", "drop_if", "format", "encoding"}
            ),
        )

    def check(self) -> str:
        files = self._files()
        records = self._sample(files)
        self._refuse_missing(records)
        fields = self._reader.ticket
        kept = [record for record in records if not self._reader.dropped(record)]
        problems: list[str] = []
        for record in kept:
            try:
                self._reader.document(record)
            except ItemError as error:
                problems.append(str(error))
        empty = [name for name in fields.expressions if not any(fields.text(name, record) for record in kept)]
        found = [name for name in fields.expressions if name not in empty]
        sentence = f"{len(files):,} export file(s); of the first {len(records)} records "
        sentence += f"{len(kept) - len(problems)} are tickets with {', '.join(found)}"
        notes = [f"{len(records) - len(kept)} are left out by drop_if"] if len(kept) < len(records) else []
        notes += [f"always blank: {', '.join(empty)}"] if empty else []
        notes += [f"{len(problems)} can't be used, the first because {problems[0]}"] if problems else []
        if "list" in self._reader.replies and "public" not in self._reader.replies:
            notes.append("every reply counts as public, because replies.public is not mapped")
        return "; ".join([sentence, *notes]) + "."

    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        files = self._files()
        settings = _fingerprint(self._settings, leave_out={"path", "people"})
        state: dict[str, _Progress] = {}
        # Under other settings every record has to be seen again; unchanged ones cost no more than reading.
        if checkpoint is not None and (checkpoint["version"], checkpoint["settings"]) == (VERSION, settings):
            known: Mapping[str, Any] = checkpoint["files"]
            state = {name: _Progress.load(entry) for name, entry in known.items() if name in files}
        due = [name for name, path in files.items() if not _is_done(state.get(name), path)]
        log.info("exports listed", files=len(files), due=len(due))
        if due:
            self._refuse_missing(self._sample({name: files[name] for name in due}))
        for name in files:
            if _is_done(state.get(name), files[name]):
                continue
            for changes in self._read(name, files[name], state):
                entries = {file: asdict(progress) for file, progress in state.items()}
                yield Batch(changes, {"version": VERSION, "settings": settings, "files": entries})

    def inventory(self) -> Iterator[str]:
        found = False
        for name, path in self._files().items():
            for record in self._records(path):
                try:
                    row = record.load()
                    if not self._reader.dropped(row):
                        yield self._reader.id(row)
                        found = True
                except ItemError as error:
                    raise SourceBusy(
                        f"{name}, {record.place}: {error}, so it can't be told which tickets are gone. "
                        "Nothing was deleted. Mend that record or export anew."
                    ) from None
        if not found:
            raise SourceBusy(
                f"The export {self._settings.path} holds no ticket at all, which looks like an export "
                "that failed. Nothing was deleted."
            )

    def memberships(self) -> Iterator[Member]:
        if self._settings.people is not None:
            yield from read_people(self._settings.people)

    def _files(self) -> dict[str, Path]:
        """The export files by name relative to where they lie, in the order of their names."""
        place = self._settings.path
        if place.is_dir():
            top, found = place, [path for path in place.iterdir() if is_export(path) and path.is_file()]
        elif place.exists():
            top, found = place.parent, [place]
        else:
            top = Path(re.split(r"[*?\[]", str(place), maxsplit=1)[0] + "_").parent
            found = [Path(path) for path in glob.glob(str(place), recursive=True) if os.path.isfile(path)]
        if not found:
            raise SourceRefused(
                f"There is no export file at {place}. Nothing was changed or deleted. Is the path right, "
                "is its file system mounted, and may Deskhand's user read it?"
            )
        return dict(sorted((file_id(os.path.relpath(path, top)), path) for path in found))

    def _records(self, path: Path, start: Position = START) -> Iterator[Record]:
        """Records of one file; a damaged file is trouble with the source here."""
        with _reading(path):
            try:
                yield from read_records(
                    path, self._settings.format, encoding=self._settings.encoding, start=start
                )
            except Cut as cut:
                raise SourceBusy(
                    f"{path.name} is damaged: {cut}. Nothing was deleted. Export it anew."
                ) from None

    def _sample(self, files: Mapping[str, Path]) -> list[Row]:
        """The first readable records; raises `SourceRefused` when there are some and none is readable."""
        rows: list[Row] = []
        problem = ""
        for path in files.values():
            try:
                for record in islice(self._records(path), SAMPLE - len(rows)):
                    try:
                        rows.append(record.load())
                    except ItemError as error:
                        problem = problem or f"{path.name}, {record.place}: {error}"
            except SourceBusy as error:
                problem = problem or str(error)
            if len(rows) >= SAMPLE:
                break
        if not rows and problem:
            raise SourceRefused(
                f"No record of {self._settings.path} can be read ({problem}). Nothing was changed. See the "
                "settings `format` and `encoding`."
            )
        return rows

    def _refuse_missing(self, rows: list[Row]) -> None:
        """Raise `SourceRefused` where what the settings name is in none of `rows`."""
        if not rows:
            return
        missing = missing_fields(self._settings.mapping, rows)
        drop_if = self._settings.drop_if
        if drop_if and not any(compile_expression(drop_if).may_exist(row) for row in rows):
            missing["drop_if"] = drop_if
        if self._settings.preset:
            # What a preset names beside the indispensable may be absent.
            complete = missing_fields(self._settings.complete_mapping, rows)
            missing |= {name: complete[name] for name in ("id", "title", "text") if name in complete}
        if missing:
            named = ", ".join(f"{field} → {source}" for field, source in missing.items())
            there = sorted({field for row in rows for field in row})
            raise SourceRefused(
                f"The mapping names fields that none of the first {len(rows)} records has: {named}. The "
                f"records have: {', '.join(there[:60])}. Nothing was changed. Mend the mapping; for a field "
                f'that only later records have, write {next(iter(missing.values()))}|=""'
            )

    def _read(self, name: str, path: Path, state: dict[str, _Progress]) -> Generator[tuple[Change, ...]]:
        """Changes of one file, at most BATCH_SIZE at a time, with `state` as it stands after them."""
        before = state.get(name)
        progress = self._resume(path, before)
        if progress.offset == 0:
            # The last record of an id counts: after a rewritten file the later ones are read again.
            for later in [file for file in state if file > name]:
                del state[later]
        pending: dict[str, Change] = {}
        size = 0
        try:
            with _reading(path):
                for record in read_records(
                    path, self._settings.format, encoding=self._settings.encoding, start=progress.position
                ):
                    key, change = self._change(name, record)
                    if pending and (len(pending) == BATCH_SIZE or size > BATCH_BYTES):
                        state[name] = progress
                        yield tuple(pending.values())
                        pending, size = {}, 0
                    if change is not None:
                        pending.pop(key, None)
                        pending[key] = change
                        size += len(record.raw)
                    progress = progress.after(record)
        except Cut as cut:
            if len(pending) == BATCH_SIZE:
                state[name] = progress
                yield tuple(pending.values())
                pending = {}
            reason = f"{name}: {cut}. The records before that were read. Export it anew."
            pending[name] = Failed(name, reason)
        state[name] = replace(progress, done=True)
        if pending or state[name] != before:
            yield tuple(pending.values())

    def _change(self, name: str, record: Record) -> tuple[str, Change | None]:
        key = f"{name}:{record.place}"
        try:
            row = record.load()
            if self._reader.dropped(row):
                return key, None
            key = self._reader.id(row)
            return key, Upsert(self._reader.document(row))
        except ItemError as error:
            reason = f"{name}, {record.place}: {error}. The other records were read; mend this one and export anew."
            return key, Failed(key, reason)

    def _resume(self, path: Path, before: _Progress | None) -> _Progress:
        """Where to go on: behind what was read, if the file still starts with just that."""
        identity = _identity(path)
        if before is None:
            return _Progress(identity)
        if before.identity == identity:
            return before
        again = _Progress(identity)
        try:
            with _reading(path):
                for record in read_records(path, self._settings.format, encoding=self._settings.encoding):
                    again = again.after(record)
                    if again.offset >= before.offset:
                        break
        except Cut:
            pass
        return again if (again.offset, again.chain) == (before.offset, before.chain) else _Progress(identity)


def _fingerprint(settings: TicketExportSettings, *, leave_out: set[str]) -> str:
    values = json.dumps(settings.model_dump(mode="json", exclude=leave_out), sort_keys=True)
    return hashlib.blake2b(values.encode(), digest_size=8).hexdigest()


def _identity(path: Path) -> tuple[int, int, int]:
    with _reading(path):
        status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _is_done(progress: _Progress | None, path: Path) -> bool:
    return progress is not None and progress.done and progress.identity == _identity(path)


@contextmanager
def _reading(path: Path) -> Generator[None]:
    """Raises what the file system says about `path` as a `SourceError`."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        raise SourceRefused(
            f"{path} can't be read: {error.strerror}. Nothing was changed or deleted. Give Deskhand's user "
            "the right to read it, or mend the path."
        ) from error
    except OSError as error:
        raise SourceBusy(
            f"Reading {path} broke off: {error.strerror}. Nothing was lost; the sync goes on where it stopped."
        ) from error
